"""What stands between operators: columns, literals, CASE, CAST, EXTRACT, brackets, and calls.

A call goes by the name that the caller writes, and is checked against its signature.
"""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.cursor import BEGINNINGS, OPERATOR_WORDS, QUERY_WORDS, Expressions, Read
from agnes_mcp.sql.predicate.exists import exists
from agnes_mcp.sql.predicate.kinds import BOOLEAN, NULL, NUMBER, OTHER, TEXT, Kind, kind_named, list_of
from agnes_mcp.sql.predicate.leaves import (
    column,
    interval,
    part,
    subscripts,
    type_name,
    typed_literal,
    unknown_call,
    zone,
)
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.limits import MAX_REPLACEMENT_CHARS
from agnes_mcp.sql.predicate.signatures import Signature


def operand(reader: Expressions) -> Read:
    """One operand with what hangs on it: `-x`, `x::INTEGER`."""
    if reader.next.sign == "-":
        sign = reader.advance()
        inner = operand(reader)
        return Read(exp.Neg(this=inner.node), inner.kind, sign.start)
    read = _primary(reader)
    while reader.next.sign == "::" and reader.rules.double_colon:
        read = _double_colon(reader, read)
    return read


def _primary(reader: Expressions) -> Read:
    lexeme = reader.next
    match lexeme.kind:
        case "word":
            return _word(reader)
        case "name":
            return column(reader)
        case "number":
            return Read(exp.Literal(this=reader.advance().value, is_string=False), NUMBER, lexeme.start, True)
        case "string":
            return Read(exp.Literal(this=reader.advance().value, is_string=True), TEXT, lexeme.start, True)
    if reader.at("("):
        return _bracketed(reader)
    if reader.at("["):
        return list_literal(reader)
    raise reader.unexpected("a column, a value or a call")


def _word(reader: Expressions) -> Read:
    lexeme, after = reader.next, reader.after_next
    word = lexeme.value
    if word == "INTERVAL":
        return interval(reader)
    if after.sign == "(" and word not in QUERY_WORDS - {"EXISTS"}:
        return _named_call(reader)
    if word in reader.rules.literals and after.kind == "string":
        return typed_literal(reader)
    if word in ("TRUE", "FALSE"):
        return Read(exp.Boolean(this=reader.advance().value == "TRUE"), BOOLEAN, lexeme.start, True)
    if word == "NULL":
        reader.advance()
        return Read(exp.Null(), NULL, lexeme.start, True)
    if word == "CASE":
        return _case(reader)
    if word in reader.rules.bare_calls:
        reader.advance()
        name, kind = reader.rules.bare_calls[word]
        return Read(nodes.call(name, []), kind, lexeme.start)
    if word in reader.rules.reserved and reader.source(lexeme) in reader.columns:
        raise reader.reserved(lexeme)
    if word in reader.rules.reserved or _begins_statement(reader):
        raise reader.unexpected("a column, a value or a call")
    return column(reader)


def _begins_statement(reader: Expressions) -> bool:
    """A word like DROP or TABLE that is no column here and is followed by a name."""
    known = reader.next.value not in BEGINNINGS or reader.source(reader.next) in reader.columns
    return not known and reader.after_next.kind != "end" and reader.after_next.value not in OPERATOR_WORDS


def _named_call(reader: Expressions) -> Read:
    special = {
        "CAST": _cast, reader.rules.try_cast: _cast, "EXTRACT": _extract, "EXISTS": exists,
    }.get(reader.next.value)  # fmt: skip
    return subscripts(reader, special(reader) if special else call(reader), [])


def _bracketed(reader: Expressions) -> Read:
    opening = reader.advance()
    inner = reader.expression()
    if reader.at(","):
        hint = "Compare one value at a time: a = 1 AND b = 2."
        raise reader.refuse("disallowed_node", "Rows of values are not available here.", hint, reader.next)
    reader.expect(")", "to close the bracket")
    if reader.at(".", "["):
        hint = "Call functions by name: LOWER(x)."
        raise reader.refuse("disallowed_node", "Nothing can follow a bracket like that.", hint, reader.next)
    return Read(exp.Paren(this=inner.node), inner.kind, opening.start)


def list_literal(reader: Expressions) -> Read:
    """`[1, 2]`, of literals only."""
    opening = reader.advance()
    values: list[Read] = []
    while not reader.at("]"):
        if values:
            reader.expect(",", "between the values of a list")
        values.append(constant(reader, "A list holds only literals."))
    reader.advance()
    element = values[0].kind if values else NULL
    return Read(nodes.array([v.node for v in values], reader.rules.dialect), list_of(element), opening.start)


def constant(reader: Expressions, message: str) -> Read:
    """A literal: a number with or without a minus, a string, TRUE, FALSE, NULL, or `DATE '2026-01-31'`."""
    lexeme = reader.next
    read = operand(reader)
    inner = read.node.this if isinstance(read.node, (exp.Neg, exp.Cast)) else None
    signed = isinstance(inner, exp.Literal) and inner.is_string == isinstance(read.node, exp.Cast)
    if not (read.literal or signed):
        raise reader.refuse("disallowed_node", message, "Write the value itself.", lexeme)
    return read


def _case(reader: Expressions) -> Read:
    start = reader.advance().start
    base = None if reader.at("WHEN") else reader.expression()
    branches: list[exp.Expr] = []
    results: list[Read] = []
    while reader.take("WHEN"):
        test = reader.expression() if base else reader.condition("WHEN")
        reader.expect("THEN", "after the condition of WHEN")
        results.append(reader.expression())
        branches.append(exp.If(this=test.node, true=results[-1].node))
    if not branches:
        raise reader.unexpected("WHEN")
    otherwise = reader.expression() if reader.take("ELSE") else None
    reader.expect("END", "to close CASE")
    node = exp.Case(this=base and base.node, ifs=branches, default=otherwise and otherwise.node)
    return Read(node, common_kind([*results, *([otherwise] if otherwise else [])]), start)


def _cast(reader: Expressions) -> Read:
    function, _ = reader.advance(), reader.advance()
    value = reader.expression()
    reader.expect("AS", "and a type")
    spelling = type_name(reader)
    reader.expect(")", "to close the cast")
    tries = function.value == reader.rules.try_cast
    node = nodes.cast(value.node, spelling, reader.rules.dialect, tries)
    return Read(node, kind_named(spelling), function.start)


def _double_colon(reader: Expressions, read: Read) -> Read:
    sign = reader.advance()
    number = isinstance(read.node, exp.Literal) and not read.node.is_string
    if number or isinstance(read.node, (exp.Case, exp.Interval, exp.Array, exp.Boolean, exp.Null)):
        raise reader.refuse(
            "disallowed_node", ":: follows only a column, a call or a bracket.", "Use CAST(x AS type).", sign
        )
    spelling = type_name(reader)
    return Read(nodes.cast(read.node, spelling, reader.rules.dialect), kind_named(spelling), read.start)


def _extract(reader: Expressions) -> Read:
    function, _ = reader.advance(), reader.advance()
    field, word = part(reader, "Write EXTRACT(YEAR FROM x).")
    reader.expect("FROM", "after the part")
    value = reader.expression()
    zoned = zone(reader) if reader.rules.unnests and reader.take("AT") else None
    reader.expect(")", "to close EXTRACT")
    if not reader.rules.unnests:  # DuckDB: EXTRACT is DATE_PART by another name, and sqlglot renames some of its parts
        unit = exp.Literal(this=word.lower(), is_string=True)
        return Read(nodes.call("DATE_PART", [unit, value.node]), NUMBER, function.start)
    # EXTRACT(HOUR FROM t AT TIME ZONE z) is EXTRACT(HOUR FROM DATETIME(t, z)): one spelling for both.
    inner = nodes.call("DATETIME", [value.node, zoned]) if zoned else value.node
    kind = kind_named(word) if word in ("DATE", "TIME", "DATETIME") else NUMBER
    return Read(exp.Extract(this=field, expression=inner), kind, function.start)


def common_kind(reads: list[Read]) -> Kind:
    """The kind of the first that is not NULL."""
    return next((read.kind for read in reads if read.kind.family != "null"), NULL)


def call(reader: Expressions) -> Read:
    """`NAME(…)`. A name that is not on the list is noted, and its arguments are passed over."""
    name = reader.advance()
    signature = reader.rules.functions.get(name.value)
    if signature is None:
        return unknown_call(reader, name, name.start)
    reader.advance()
    arguments = _arguments(reader, signature, name)
    kind = signature.result or _first_kind(arguments, signature)
    return Read(nodes.call(signature.name, [a.node for a in arguments]), kind, name.start)


def _arguments(reader: Expressions, signature: Signature, name: Lexeme) -> list[Read]:
    arguments: list[Read] = []
    while not reader.at(")"):
        if arguments:
            reader.expect(",", f"or ) after an argument of {signature.name}")
        arguments.append(_argument(reader, signature, signature.argument(len(arguments)), arguments))
        _refuse_count(reader, signature, name, too_many=True, count=len(arguments))
    reader.advance()
    _refuse_count(reader, signature, name, too_many=False, count=len(arguments))
    return arguments


def _refuse_count(reader: Expressions, signature: Signature, name: Lexeme, too_many: bool, count: int) -> None:
    over = not signature.repeats and count > len(signature.arguments)
    if over if too_many else not signature.accepts(count):
        message = f"{signature.name} does not take {'so many' if over else str(count)} arguments."
        raise reader.refuse("parse_error", message, f"Call it as {signature}.", name, function=signature.name)


def _argument(reader: Expressions, signature: Signature, wanted: str, before: list[Read]) -> Read:
    lexeme = reader.next
    match wanted:
        case "condition":
            return reader.condition(signature.name)
        case "part":
            named, _ = part(reader, f"Call it as {signature}.")
            return Read(named, OTHER, lexeme.start)
        case "interval":
            return _interval_argument(reader, signature)
        case "list":
            return _list_argument(reader, signature)
        case "text" | "unit" | "growth":
            return _text_argument(reader, signature, wanted, before)
    return reader.expression()


def _interval_argument(reader: Expressions, signature: Signature) -> Read:
    if reader.at("INTERVAL"):
        return interval(reader)
    hint = f"Write {signature.name}(x, INTERVAL 30 DAY)."
    raise reader.refuse("parse_error", f"{signature.name} takes an INTERVAL there.", hint, reader.next)


def _list_argument(reader: Expressions, signature: Signature) -> Read:
    lexeme = reader.next
    read = reader.list_literal() if reader.at("[") else reader.expression()
    if read.kind.family not in ("list", "other"):
        hint = f"Call it as {signature}, with an array column."
        raise reader.refuse("disallowed_node", f"{signature.name} takes a list there.", hint, lexeme)
    return read


def _text_argument(reader: Expressions, signature: Signature, wanted: str, before: list[Read]) -> Read:
    lexeme = reader.next
    if lexeme.kind != "string":
        hint = f"Call it as {signature}, with a string in quotes: patterns and formats are not taken from rows."
        raise reader.refuse("disallowed_node", f"{signature.name} takes a string literal there.", hint, lexeme)
    reader.advance()
    if wanted == "unit" and lexeme.value.upper() not in reader.rules.parts:
        hint = f"Use one of {', '.join(sorted(reader.rules.parts))}."
        raise reader.refuse("parse_error", f"{lexeme.value[:40]!r} is not a part of a date.", hint, lexeme)
    if wanted == "growth":
        _check_growth(reader, signature, lexeme, before)
    return Read(exp.Literal(this=lexeme.value, is_string=True), TEXT, lexeme.start, True)


def _check_growth(reader: Expressions, signature: Signature, lexeme: Lexeme, before: list[Read]) -> None:
    """A replacement longer than what it replaces multiplies the size of a text; nested, the factors multiply."""
    replaced = before[1].node
    longest = len(str(replaced.this)) if signature.name == "REPLACE" else 0
    if len(lexeme.value) <= longest:
        return
    nested = any(id(node) in reader.growing for node in before[0].node.walk())
    if nested or len(lexeme.value) > MAX_REPLACEMENT_CHARS:
        hint = f"Replace by at most {MAX_REPLACEMENT_CHARS} characters; do not nest what makes a text longer."
        raise reader.refuse("too_complex", f"{signature.name} would let a text grow without bound.", hint, lexeme)
    reader.growing.add(id(replaced))


def _first_kind(arguments: list[Read], signature: Signature) -> Kind:
    kinds = (a.kind for i, a in enumerate(arguments) if signature.argument(i) == "value" and a.kind.family != "null")
    return next(kinds, NULL)
