"""Gate 1: the text cut into lexemes of a closed list. Whatever is not on the list is refused where it stands.

Between lexemes there is only ASCII white space. Comments, hints, parameters, system variables, decorators, pipes,
lambdas and byte literals are not lexemes, so nothing after this step can meet one. One `;` at the very end is dropped.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.predicate.characters import BIGQUERY_STRING, Wanted, check_characters, decode
from agnes_mcp.sql.predicate.hints import SYMBOL_HINTS, Refusal, symbol_hint
from agnes_mcp.sql.predicate.limits import MAX_NUMBER_CHARS
from agnes_mcp.sql.warehouse.limits import MAX_CHARS, MAX_TOKENS
from agnes_mcp.sql.warehouse.refusals import refuse

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.])"
_LEXEME = re.compile(
    r"(?P<gap>[ \t\r\n]+)"
    r"|(?P<refused>--|/\*|\|>|->>?|==|//|<=>|(?:[bB][rR]?|[rR][bB])(?=['\"]))"
    rf"|(?P<string>{BIGQUERY_STRING})|(?P<number>{_NUMBER})|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<name>`[^`\\\r\n]+`(?!`))|(?P<symbol><>|!=|<=|>=|=>|\|\||<<|>>|[=<>+\-*/&|^~(),.\[\];])"
)
#: A project's name may hold dashes, and stands without quotes where a table is named.
_DASHED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)+(?=[ \t\r\n]*\.)")
_BEFORE_TABLE = frozenset({"FROM", "JOIN", ","})

_COMMENT: Refusal = ("disallowed_node", "Comments are not part of a statement.", "Remove the comment.")
_VALUE: Refusal = (
    "disallowed_node",
    "Parameters, variables, hints and decorators are not available here.",
    "Write the value itself; for a table's past write FOR SYSTEM_TIME AS OF, for one partition a condition.",
)
_HINTS: dict[str, Refusal] = {
    **SYMBOL_HINTS["bigquery"],
    "--": _COMMENT,
    "/*": _COMMENT,
    "#": _COMMENT,
    "|>": ("disallowed_node", "Pipes are not available here.", "Write SELECT … FROM … WHERE … GROUP BY …."),
    "->": ("disallowed_node", "Lambdas and arrows are not available here.", "Read JSON with JSON_VALUE(x, '$.path')."),
    "{": ("disallowed_node", "Braces are not available here.", "Write STRUCT(…) or the value itself."),
    "@": _VALUE,
    "?": _VALUE,
    "$": _VALUE,
    ":": _VALUE,
}

#: What a statement has to be, before it is cut.
STATEMENT = Wanted(
    noun="statement",
    refuse=refuse,
    max_chars=MAX_CHARS,
    send="Send the SELECT as a string.",
    shorten="Shorten it: BETWEEN instead of a long IN list, or several statements with fetch and query.",
    fill="Write one SELECT in GoogleSQL.",
)


class Lexeme(NamedTuple):
    """`value`: a word in capitals, a name or string decoded, a number or symbol as written; "" at the end.

    `kind` is one of word, name, string, number, symbol, end.
    """

    kind: str
    value: str
    start: int
    end: int


def cut(text: str) -> list[Lexeme]:
    """The lexemes of `text`, closed by one of kind "end".

    Raises `parse_error`, `too_complex`, `unsupported_literal`, `multi_statement`, `disallowed_node`.
    """
    check_characters(text, STATEMENT)
    lexemes: list[Lexeme] = []
    position = 0
    match_at, size = _LEXEME.match, len(text)
    while position < size:
        match = match_at(text, position)
        kind = match.lastgroup if match else None
        if match is None or kind == "refused":
            raise _unreadable(text, position)
        end = match.end()
        if kind == "word":
            end = _word(text, position, end, lexemes)
        elif kind != "gap":
            lexemes.append(_lexeme(kind or "", match.group(), text, position, end))
        position = end
    if len(lexemes) > MAX_TOKENS:
        raise _too_many(text, lexemes[MAX_TOKENS])
    _check_strings(lexemes, text)
    lexemes.append(Lexeme("end", "", size, size))
    return _without_last_semicolon(lexemes, text)


def _word(text: str, start: int, end: int, lexemes: list[Lexeme]) -> int:
    """Append the word at `start`, or the dashed name of a project; returns where it ends."""
    if text[end : end + 1] == "-" and lexemes and lexemes[-1].value in _BEFORE_TABLE:
        dashed = _DASHED.match(text, start)
        if dashed and _names_a_table(lexemes):
            lexemes.append(Lexeme("name", dashed.group(), start, dashed.end()))
            return dashed.end()
    lexemes.append(Lexeme("word", text[start:end].upper(), start, end))
    return end


def _names_a_table(lexemes: list[Lexeme]) -> bool:
    """Whether a table's name may follow: the last lexeme is FROM, JOIN, or a comma of a FROM clause."""
    depth = 0
    for before, lexeme in zip(reversed(lexemes[:-1]), reversed(lexemes), strict=False):
        if lexeme.kind == "symbol":
            depth += {")": 1, "]": 1, "(": -1, "[": -1}.get(lexeme.value, 0)
            if depth < 0:
                return False
        elif lexeme.kind == "word" and depth == 0 and lexeme.value in _CLAUSES:
            return lexeme.value in ("FROM", "JOIN") and before.value != "DISTINCT" and not _extracts(lexemes)
    return False


_CLAUSES_WORDS = """
    SELECT FROM JOIN WHERE GROUP ORDER HAVING QUALIFY WINDOW ON BY LIMIT USING
"""
_CLAUSES = frozenset(_CLAUSES_WORDS.split())


def _extracts(lexemes: list[Lexeme]) -> bool:
    """Whether the innermost open bracket is EXTRACT's."""
    depth = 0
    for before, lexeme in zip(reversed(lexemes[:-1]), reversed(lexemes), strict=False):
        if lexeme.kind != "symbol":
            continue
        depth += {")": 1, "(": -1}.get(lexeme.value, 0)
        if depth < 0:
            return before.value == "EXTRACT"
    return False


def _lexeme(kind: str, source: str, text: str, start: int, end: int) -> Lexeme:
    if kind == "string":
        return Lexeme("string", decode(source, "bigquery", text, start), start, end)
    if kind == "number":
        return Lexeme("number", _number(source, text, start), start, end)
    return Lexeme(kind, source[1:-1] if kind == "name" else source, start, end)


def _number(source: str, text: str, start: int) -> str:
    """One spelling for each number: `.5` is 0.5, `1.` is 1.0, `010` is 10, `1E3` is 1e3."""
    if source.isdigit() and len(source) <= MAX_NUMBER_CHARS:
        return source.lstrip("0") or "0"
    if len(source) > MAX_NUMBER_CHARS or not math.isfinite(float(source)):
        raise refuse(
            "unsupported_literal",
            f"The number {source[:MAX_NUMBER_CHARS]} is too long or too large.",
            f"Write it in at most {MAX_NUMBER_CHARS} characters, as a finite number.",
            text,
            start,
            start + len(source),
        )
    whole, _, exponent = source.lower().partition("e")
    before, dot, after = whole.partition(".")
    plain = (before.lstrip("0") or "0") + (f".{after or '0'}" if dot else "")
    return f"{plain}e{exponent.lstrip('+')}" if exponent else plain


def _check_strings(lexemes: list[Lexeme], text: str) -> None:
    before = None
    for lexeme in lexemes:
        if lexeme.kind == "string" == before:
            message = "Two strings stand next to one another."
            hint = "Join them into one string; a quote inside a string is written \\'."
            raise refuse("unsupported_literal", message, hint, text, lexeme.start, lexeme.end)
        before = lexeme.kind


def _too_many(text: str, lexeme: Lexeme) -> AgnesError:
    message = f"The statement has more than {MAX_TOKENS:,} tokens."
    hint = "Shorten it: BETWEEN instead of a long IN list, or several statements with fetch and query."
    return refuse("too_complex", message, hint, text, lexeme.start, lexeme.end)


def _without_last_semicolon(lexemes: list[Lexeme], text: str) -> list[Lexeme]:
    first = next((i for i, lexeme in enumerate(lexemes) if lexeme[:2] == ("symbol", ";")), None)
    if first is None:
        return lexemes
    if first == 0 or first != len(lexemes) - 2:
        lexeme = lexemes[first]
        message = "One call runs one statement; the ; separates several."
        raise refuse("multi_statement", message, "Remove the ; and what follows it.", text, lexeme.start)
    return [*lexemes[:first], lexemes[-1]]


def _unreadable(text: str, position: int) -> AgnesError:
    rest = text[position:]
    for opening, (kind, message, hint) in _HINTS.items():
        if rest[: len(opening)].lower() == opening:
            return refuse(kind, message, symbol_hint(hint, opening), text, position, position + max(len(opening), 1))
    if rest[0] in "0123456789.":
        message, hint = "A number is written in decimal digits.", "Write it plainly: 1200, 0.5; and a space after it."
        return refuse("unsupported_literal", message, hint, text, position, position + 40)
    message = f"The character {rest[0]!r} has no meaning here."
    hint = "Put names with other characters than letters, digits and _ in backticks."
    return refuse("parse_error", message, hint, text, position, position + 1)
