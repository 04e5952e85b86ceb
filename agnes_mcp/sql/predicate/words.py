"""What is read of words and literals alone: intervals, types, parts of dates, time zones."""

from __future__ import annotations

import re

from sqlglot import exp

from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.cursor import Cursor, Read
from agnes_mcp.sql.predicate.kinds import INTERVAL, kind_named
from agnes_mcp.sql.predicate.lexemes import Lexeme

_COUNTED = re.compile(r"(-?[0-9]{1,9})(?: ([A-Za-z]+))?")
_DIGITS = re.compile(r"[0-9]+")


def interval(cursor: Cursor) -> Read:
    """`INTERVAL 30 DAY`, `INTERVAL '30' DAY`; `INTERVAL -1 DAY` in BigQuery; `INTERVAL '30 days'` in DuckDB."""
    start = cursor.advance().start
    sign = "-" if cursor.take_symbol("-") else ""
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
    return unit


def type_name(cursor: Cursor) -> str:
    """The name of a type that CAST may have, in capitals, with its numbers."""
    lexeme = cursor.advance()
    word = lexeme.value
    if lexeme.kind != "word" or word not in cursor.rules.casts:
        hint = f"Use one of {', '.join(cursor.rules.casts)}."
        raise cursor.refuse("disallowed_node", f"{cursor.source(lexeme)[:40]} is not a type to cast to.", hint, lexeme)
    if word == "TIMESTAMP" and cursor.rules.double_colon and cursor.take_word("WITH"):
        cursor.expect_word("TIME", "ZONE after WITH")
        cursor.expect_word("ZONE", "after TIME")
        return "TIMESTAMPTZ"
    if cursor.at_symbol("["):
        hint = f"Use one of {', '.join(cursor.rules.casts)}."
        raise cursor.refuse("disallowed_node", "A list or a record is not a type to cast to.", hint, cursor.next)
    return word + _type_numbers(cursor, cursor.rules.casts[word])


def _type_numbers(cursor: Cursor, most: int) -> str:
    if not most or not cursor.take_symbol("("):
        return ""
    numbers: list[str] = []
    while not numbers or cursor.take_symbol(","):
        numbers.append(cursor.advance().value)
    cursor.expect_symbol(")", "to close the type")
    if len(numbers) > most or not all(_DIGITS.fullmatch(n) and len(n) <= 8 for n in numbers):
        raise cursor.refuse("parse_error", "A type takes whole numbers there.", "Write NUMERIC(10, 2).", cursor.next)
    return f"({', '.join(numbers)})"


def zone(cursor: Cursor) -> exp.Expr:
    cursor.expect_word("TIME", "ZONE after AT")
    cursor.expect_word("ZONE", "after TIME")
    if cursor.next.kind != "string":
        raise cursor.unexpected("a time zone in quotes")
    return exp.Literal(this=cursor.advance().value, is_string=True)


def typed_literal(cursor: Cursor) -> Read:
    word, value = cursor.advance(), cursor.advance()
    if cursor.at_symbol("::"):
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
    if word == "WEEK" and cursor.rules.week_starts and cursor.take_symbol("("):
        day = cursor.advance()
        if day.value not in cursor.rules.week_starts:
            raise cursor.refuse("parse_error", "A week starts on a day.", "Write WEEK(MONDAY).", day)
        cursor.expect_symbol(")", "to close WEEK")
        return nodes.call("WEEK", [exp.Var(this=day.value)]), word
    return exp.Var(this=word), word
