"""Step 2: the text cut into lexemes of a closed list. Whatever is not on the list is refused where it stands.

Between lexemes there is only ASCII white space. Comments, parameters, statement separators, pipes, lambdas and byte
literals are not lexemes, so nothing after this step can meet one. Each string is decoded here, by the rules of its
dialect, and later written anew: the spelling that the caller chose reaches no other parser.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import strings
from agnes_mcp.sql.predicate.hints import SYMBOL_HINTS, symbol_hint
from agnes_mcp.sql.predicate.limits import MAX_NUMBER_CHARS, MAX_TOKENS
from agnes_mcp.sql.predicate.refusals import refuse

LexemeKind = Literal["word", "name", "string", "number", "symbol", "end"]

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.])"
_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
#: `refused` is what has to be seen before a lexeme is cut, because its first characters alone would be one.
_BIGQUERY = re.compile(
    r"(?P<refused>--|/\*|\|>|->>?|=>|==|<<|>>|//|<=>|(?:[bB][rR]?|[rR][bB])(?=['\"]))"
    rf"|(?P<gap>[ \t\r\n]+)|(?P<string>{strings.BIGQUERY_STRING})|(?P<number>{_NUMBER})|(?P<word>{_WORD})"
    r"|(?P<name>`[^`\\\r\n]+`(?!`))|(?P<symbol><>|!=|<=|>=|\|\||[=<>+\-*/&|(),.\[\]])"
)
_DUCKDB = re.compile(
    r"(?P<refused>--|/\*|\|>|->>?|=>|<<|>>|\*\*|<@|<=>|(?:[bBeExXnN]|[uU]&)(?='))"
    rf"|(?P<gap>[ \t\r\n]+)|(?P<string>{strings.DUCKDB_STRING})|(?P<number>{_NUMBER})|(?P<word>{_WORD})"
    r'|(?P<name>"(?:[^"]|"")+"(?!"))|(?P<symbol>::|//|==|<>|!=|<=|>=|\|\||[=<>+\-*/%&|(),.\[\]])'
)
_PATTERNS: dict[Dialect, re.Pattern[str]] = {"bigquery": _BIGQUERY, "duckdb": _DUCKDB}
# DuckDB reads a run of operator characters as one operator: `%-` is not `%` and `-`.
_OPERATOR = frozenset("<>=!+-*/%&|")
_MINUS_MAY_FOLLOW = frozenset({"=", "<", ">", "<=", ">=", "<>", "*", "/", "+", "-", "==", "//"})


@dataclass(frozen=True, slots=True)
class Lexeme:
    """`value`: a word in capitals, a name or string decoded, a number or symbol as written; "" at the end."""

    kind: LexemeKind
    value: str
    start: int
    end: int


def cut(text: str, dialect: Dialect) -> list[Lexeme]:
    """The lexemes of `text`, closed by one of kind "end". Raises `PredicateError` at the first that is not listed."""
    lexemes: list[Lexeme] = []
    pattern, position = _PATTERNS[dialect], 0
    while position < len(text):
        match = pattern.match(text, position)
        if match is None or match.lastgroup == "refused":
            raise _unreadable(text, position, dialect)
        if match.lastgroup != "gap":
            lexemes.append(_lexeme(match, text, dialect))
            _check_neighbours(lexemes, text, dialect)
        position = match.end()
    return [*lexemes, Lexeme("end", "", len(text), len(text))]


def _lexeme(match: re.Match[str], text: str, dialect: Dialect) -> Lexeme:
    source, start, end = match.group(), match.start(), match.end()
    match match.lastgroup:
        case "string":
            return Lexeme("string", strings.decode(source, dialect, text, start), start, end)
        case "number":
            return Lexeme("number", _number(source, text, start), start, end)
        case "name":
            return Lexeme("name", source[1:-1].replace('""', '"') if dialect == "duckdb" else source[1:-1], start, end)
        case "word":
            return Lexeme("word", source.upper(), start, end)
        case _:
            return Lexeme("symbol", "=" if source == "==" else source, start, end)


def _number(source: str, text: str, start: int) -> str:
    if len(source) > MAX_NUMBER_CHARS or not math.isfinite(float(source)):
        raise refuse(
            "unsupported_literal",
            f"The number {source[:MAX_NUMBER_CHARS]} is too long or too large.",
            f"Write it in at most {MAX_NUMBER_CHARS} characters, as a finite number.",
            text,
            start,
            start + len(source),
        )
    return _plain_number(source)


def _plain_number(source: str) -> str:
    """`.5` as 0.5 and `1.` as 1.0: sqlglot would read the dot of the first as another token."""
    whole, _, exponent = source.lower().partition("e")
    if "." in whole:
        before, after = whole.split(".")
        whole = f"{before or '0'}.{after or '0'}"
    return f"{whole}e{exponent}" if exponent else whole


def _check_neighbours(lexemes: list[Lexeme], text: str, dialect: Dialect) -> None:
    last = lexemes[-1]
    if len(lexemes) > MAX_TOKENS:
        raise refuse(
            "too_complex",
            f"The predicate has more than {MAX_TOKENS:,} tokens.",
            "Narrow it: use BETWEEN instead of a long IN list, or several smaller calls.",
            text,
            last.start,
            last.end,
        )
    if len(lexemes) < 2:
        return
    before = lexemes[-2]
    if last.kind == "string" and before.kind == "string":
        raise refuse(
            "unsupported_literal",
            "Two strings stand next to one another.",
            "Join them into one string. A quote inside a string is written '' in DuckDB and \\' in BigQuery.",
            text,
            before.start,
            last.end,
        )
    if dialect == "duckdb" and before.end == last.start and _run_together(text, before, last):
        raise refuse(
            "parse_error",
            f"{text[before.start : last.end]} would be read as one operator.",
            "Put a space between the two.",
            text,
            before.start,
            last.end,
        )


def _run_together(text: str, before: Lexeme, last: Lexeme) -> bool:
    first, second = text[before.start : before.end], text[last.start : last.end]
    operators = first[0] in _OPERATOR and second[0] in _OPERATOR
    return operators and before.kind == "symbol" and not (second == "-" and first in _MINUS_MAY_FOLLOW)


def _unreadable(text: str, position: int, dialect: Dialect) -> PredicateError:
    rest = text[position:]
    for opening, (kind, message, hint) in SYMBOL_HINTS[dialect].items():
        if rest[: len(opening)].lower() == opening:
            return refuse(kind, message, symbol_hint(hint, opening), text, position, position + max(len(opening), 1))
    if rest[0] in "0123456789.":
        return refuse(
            "unsupported_literal",
            "A number is written in decimal digits.",
            "Write it plainly: 1200, 0.5, 1e6; and put a space after it.",
            text,
            position,
            position + 40,
        )
    return refuse(
        "parse_error",
        f"The character {rest[0]!r} has no meaning here.",
        "Put names with other characters than letters, digits and _ in "
        + ("backticks." if dialect == "bigquery" else "double quotes."),
        text,
        position,
        position + 1,
    )
