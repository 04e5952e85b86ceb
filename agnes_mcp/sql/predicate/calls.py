"""Calls by the name that the caller writes, each checked against its signature."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.cursor import Expressions, Read
from agnes_mcp.sql.predicate.kinds import NULL, OTHER, TEXT, Kind
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.limits import MAX_REPLACEMENT_CHARS
from agnes_mcp.sql.predicate.paths import unknown_call
from agnes_mcp.sql.predicate.signatures import Signature
from agnes_mcp.sql.predicate.words import interval, part


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
    while not reader.at_symbol(")"):
        if arguments:
            reader.expect_symbol(",", f"or ) after an argument of {signature.name}")
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
    if reader.at_word("INTERVAL"):
        return interval(reader)
    hint = f"Write {signature.name}(x, INTERVAL 30 DAY)."
    raise reader.refuse("parse_error", f"{signature.name} takes an INTERVAL there.", hint, reader.next)


def _list_argument(reader: Expressions, signature: Signature) -> Read:
    lexeme = reader.next
    read = reader.list_literal() if reader.at_symbol("[") else reader.expression()
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
