"""What is read without reading an expression: paths to columns, and words: intervals, types, parts of dates, zones."""

from __future__ import annotations

import re

from sqlglot import exp

from agnes_mcp.errors import PredicateError
from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.columns import Place, UnresolvedError, field_of
from agnes_mcp.sql.predicate.cursor import Cursor, Read
from agnes_mcp.sql.predicate.hints import FUNCTION_HINTS
from agnes_mcp.sql.predicate.kinds import INTERVAL, OTHER, kind_named, kind_of
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.refusals import Fault, near, printable

_SUBSCRIPTS = {"OFFSET": (0, False), "SAFE_OFFSET": (0, True), "ORDINAL": (1, False), "SAFE_ORDINAL": (1, True)}


def column(cursor: Cursor) -> Read:
    """`column`, `record.field`, `list[OFFSET(0)].field`, each with or without the table's own name before it."""
    path = [cursor.advance()]
    while cursor.at(".") and cursor.after_next.kind in ("word", "name"):
        cursor.advance()
        path.append(cursor.advance())
    if cursor.at("("):
        return unknown_call(cursor, path[-1], path[0].start)
    return _placed(cursor, path)


def plain_path(cursor: Cursor) -> Read:
    """`column` or `record.field`, whatever it holds, and nothing behind it."""
    path = [cursor.advance()]
    while cursor.at(".") and cursor.after_next.kind in ("word", "name"):
        cursor.advance()
        path.append(cursor.advance())
    try:
        place = cursor.columns.find([_spelled(cursor, segment) for segment in path])
    except UnresolvedError as unresolved:
        cursor.note(unresolved, path[unresolved.segment])
        return _unread(path[0].start)
    return _at(cursor, place, path)


def _at(cursor: Cursor, place: Place, path: list[Lexeme]) -> Read:
    names = [place.within, place.name] if place.within else [place.name]
    return _descend(cursor, Read(nodes.column(names), place.kind, path[0].start), names, path[place.segments :])


def _placed(cursor: Cursor, path: list[Lexeme]) -> Read:
    try:
        place = cursor.columns.find([_spelled(cursor, segment) for segment in path])
    except UnresolvedError as unresolved:
        cursor.note(unresolved, path[unresolved.segment])
        return _skip_subscripts(cursor, path[0].start)
    return subscripts(cursor, _at(cursor, place, path), path)


def _spelled(cursor: Cursor, segment: Lexeme) -> str:
    return segment.value if segment.kind == "name" else cursor.source(segment)


def _descend(cursor: Cursor, read: Read, names: list[str], path: list[Lexeme]) -> Read:
    """Into the fields of a record. `names` is where `read` stands; empty when an element of a list comes before."""
    if not path:
        return read
    kind, shown = read.kind, ".".join(names)
    fields: list[str] = []
    for segment in path:
        try:
            field = field_of(kind, shown or "the element", _spelled(cursor, segment), 0)
        except UnresolvedError as unresolved:
            cursor.note(unresolved, segment)
            return Read(read.node, OTHER, read.start)
        fields.append(field.name)
        kind, shown = kind_of(field), f"{shown}.{field.name}"
    node = nodes.column(names + fields) if names else nodes.fields(read.node, fields)
    return Read(node, kind, read.start)


def subscripts(cursor: Cursor, read: Read, path: list[Lexeme]) -> Read:
    """`[…]` and what follows it. What is left in the end may not be a whole record."""
    while cursor.at("["):
        read = _element(cursor, read)
        fields: list[Lexeme] = []
        while cursor.at(".") and cursor.after_next.kind in ("word", "name"):
            cursor.advance()
            fields.append(cursor.advance())
        if cursor.at("("):
            return unknown_call(cursor, fields[-1] if fields else cursor.next, read.start)
        read = _descend(cursor, read, [], fields)
    if read.kind.family == "record":
        shown = [field.name for field in read.kind.fields[:5]]
        hint = f"Name one of its fields: {', '.join(shown)}." if shown else "Name one of its fields."
        lexeme = path[-1] if path else cursor.next
        raise cursor.refuse("disallowed_node", "A whole record is not a value to compare.", hint, lexeme)
    return read


def _element(cursor: Cursor, read: Read) -> Read:
    opening = cursor.advance()
    if read.kind.family not in ("list", "map", "other"):
        hint = "Only arrays have elements."
        raise cursor.refuse("disallowed_node", "This is not a list.", hint, opening)
    node = _bigquery_element(cursor, read) if cursor.rules.unnests else _duckdb_element(cursor, read)
    if not cursor.at("]"):
        raise cursor.refuse("disallowed_node", "A position is one literal.", "Write it as a number.", cursor.next)
    cursor.advance()
    return Read(node, read.kind.element or OTHER, read.start)


def _bigquery_element(cursor: Cursor, read: Read) -> exp.Expr:
    offset, safe = 0, False
    keyword = cursor.take(*_SUBSCRIPTS)
    if keyword:
        offset, safe = _SUBSCRIPTS[keyword.value]
        cursor.expect("(", f"after {keyword.value}")
    node = nodes.element(read.node, _position(cursor), offset, safe)
    if keyword:
        cursor.expect(")", "after the position")
    return node


def _duckdb_element(cursor: Cursor, read: Read) -> exp.Expr:
    if read.kind.family == "map" and cursor.next.kind == "string":
        return nodes.element(read.node, exp.Literal(this=cursor.advance().value, is_string=True))
    lexeme, position = cursor.next, _position(cursor)
    if position.this == "0":
        raise cursor.refuse("parse_error", "DuckDB counts elements from 1.", "Write [1] for the first.", lexeme)
    return nodes.element(read.node, exp.Literal(this=str(int(position.this) - 1), is_string=False))


def _position(cursor: Cursor) -> exp.Literal:
    lexeme = cursor.next
    if lexeme.kind != "number" or not lexeme.value.isdigit() or len(lexeme.value) > 9:
        hint = "Write the position as a number: [SAFE_OFFSET(0)] in BigQuery, [1] in DuckDB."
        raise cursor.refuse("disallowed_node", "A position is a whole-number literal.", hint, lexeme)
    return exp.Literal(this=str(int(cursor.advance().value)), is_string=False)


def _skip_subscripts(cursor: Cursor, start: int) -> Read:
    while cursor.at("["):
        _skip_brackets(cursor)
    return _unread(start)


def unknown_call(cursor: Cursor, name: Lexeme, start: int) -> Read:
    """A function that is not on the list, or one behind a dot: a user's own, SAFE., NET., ML."""
    cursor.faults.append(Fault("unknown_function", start, lambda: _unavailable(cursor, name, start)))
    _skip_brackets(cursor)
    if cursor.take("OVER") and cursor.at("("):
        _skip_brackets(cursor)
    return _unread(start)


def _unavailable(cursor: Cursor, name: Lexeme, start: int) -> PredicateError:
    shown = printable(cursor.text[start : name.end])
    close = near(name.value, list(cursor.rules.functions))
    hint = FUNCTION_HINTS[cursor.rules.dialect].get(name.value, "") if start == name.start else ""
    hint = hint or (f"Did you mean {' or '.join(close)}?" if close else "Use operators, or call a listed function.")
    message = f"The function {shown} is not available in a predicate."
    lexeme = Lexeme(name.kind, name.value, start, name.end)
    return cursor.refuse("unknown_function", message, hint, lexeme, function=shown.upper(), nearest=close)


def _skip_brackets(cursor: Cursor) -> None:
    """Past the bracket that opens here; a query in it is still refused as one."""
    depth = 0
    while True:
        if cursor.at("SELECT"):
            raise cursor.unexpected("a value")
        lexeme = cursor.advance()
        if lexeme.kind == "symbol":
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(lexeme.value, 0)
        if depth == 0 or lexeme.kind == "end":
            return


def _unread(start: int) -> Read:
    """Stands for what was passed over, so that reading can go on to what is told first."""
    return Read(exp.Paren(this=exp.Null()), OTHER, start)


_COUNTED = re.compile(r"(-?[0-9]{1,9})(?: ([A-Za-z]+))?")
_DIGITS = re.compile(r"[0-9]+")


def interval(cursor: Cursor) -> Read:
    """`INTERVAL 30 DAY`, `INTERVAL '30' DAY`; `INTERVAL -1 DAY` in BigQuery; `INTERVAL '30 days'` in DuckDB."""
    start = cursor.advance().start
    sign = "-" if cursor.take("-") else ""
    lexeme = cursor.advance()
    counted = _COUNTED.fullmatch(lexeme.value) if lexeme.kind in ("number", "string") else None
    if counted is None or (counted[2] and (cursor.rules.unnests or lexeme.kind == "number")):
        hint = "Write INTERVAL 30 DAY."
        raise cursor.refuse("disallowed_node", "An interval counts with a whole-number literal.", hint, lexeme)
    count = (sign + counted[1]).removeprefix("--")
    if count.startswith("-") and not cursor.rules.unnests:
        hint = "Subtract instead: x - INTERVAL 1 DAY."
        raise cursor.refuse("disallowed_node", "An interval has no sign in DuckDB.", hint, lexeme)
    return Read(nodes.interval(count, _unit(cursor, counted[2], lexeme)), INTERVAL, start)


def _unit(cursor: Cursor, counted: str | None, lexeme: Lexeme) -> str:
    unit = counted.upper() if counted else (cursor.advance().value if cursor.next.kind == "word" else "")
    if unit not in cursor.rules.units:
        hint = f"Use one of {', '.join(sorted(cursor.rules.units))}."
        raise cursor.refuse("parse_error", f"{unit[:40] or 'Nothing'} is not a unit of time.", hint, lexeme)
    singular = unit.removesuffix("S")  # one spelling, so that one statement is one text
    return singular if singular in cursor.rules.units else unit


def type_name(cursor: Cursor) -> str:
    """The name of a type that CAST may have, in capitals, with its numbers."""
    lexeme = cursor.advance()
    word = lexeme.value
    if lexeme.kind != "word" or word not in cursor.rules.casts:
        hint = f"Use one of {', '.join(cursor.rules.casts)}."
        raise cursor.refuse("disallowed_node", f"{cursor.source(lexeme)[:40]} is not a type to cast to.", hint, lexeme)
    if word == "TIMESTAMP" and cursor.rules.double_colon and cursor.take("WITH"):
        cursor.expect("TIME", "ZONE after WITH")
        cursor.expect("ZONE", "after TIME")
        return "TIMESTAMPTZ"
    if cursor.at("["):
        hint = f"Use one of {', '.join(cursor.rules.casts)}."
        raise cursor.refuse("disallowed_node", "A list or a record is not a type to cast to.", hint, cursor.next)
    return word + _type_numbers(cursor, cursor.rules.casts[word])


def _type_numbers(cursor: Cursor, most: int) -> str:
    if not most or not cursor.take("("):
        return ""
    numbers: list[str] = []
    while not numbers or cursor.take(","):
        numbers.append(cursor.advance().value)
    cursor.expect(")", "to close the type")
    if len(numbers) > most or not all(_DIGITS.fullmatch(n) and len(n) <= 8 for n in numbers):
        raise cursor.refuse("parse_error", "A type takes whole numbers there.", "Write NUMERIC(10, 2).", cursor.next)
    return f"({', '.join(numbers)})"


def zone(cursor: Cursor) -> exp.Expr:
    cursor.expect("TIME", "ZONE after AT")
    cursor.expect("ZONE", "after TIME")
    if cursor.next.kind != "string":
        raise cursor.unexpected("a time zone in quotes")
    return exp.Literal(this=cursor.advance().value, is_string=True)


def typed_literal(cursor: Cursor) -> Read:
    word, value = cursor.advance(), cursor.advance()
    if cursor.at("::"):
        hint = "Write CAST(" + cursor.source(word) + " '…' AS type)."
        raise cursor.refuse("disallowed_node", "It is not clear what :: is to cast here.", hint, cursor.next)
    literal = exp.Literal(this=value.value, is_string=True)
    return Read(nodes.cast(literal, word.value, cursor.rules.dialect), kind_named(word.value), word.start, True)


def part(cursor: Cursor, usage: str) -> tuple[exp.Expr, str]:
    """A date part: `DAY`, and in BigQuery `WEEK(MONDAY)`."""
    lexeme = cursor.advance()
    word = lexeme.value
    if lexeme.kind != "word" or word not in cursor.rules.parts:
        shown = cursor.source(lexeme)[:40] or "Nothing"
        hint = f"{usage} A part is one word without quotes: {', '.join(sorted(cursor.rules.parts))}."
        raise cursor.refuse("parse_error", f"{shown} is not a part of a date.", hint, lexeme)
    if word == "WEEK" and cursor.rules.week_starts and cursor.take("("):
        day = cursor.advance()
        if day.value not in cursor.rules.week_starts:
            raise cursor.refuse("parse_error", "A week starts on a day.", "Write WEEK(MONDAY).", day)
        cursor.expect(")", "to close WEEK")
        return nodes.call("WEEK", [exp.Var(this=day.value)]), word
    return exp.Var(this=word), word
