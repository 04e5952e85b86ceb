"""Step 2: the text cut into lexemes of a closed list. Whatever is not on the list is refused where it stands.

Between lexemes there is only ASCII white space. Comments, parameters, statement separators, pipes, lambdas and byte
literals are not lexemes, so nothing after this step can meet one. Each string is decoded here, by the rules of its
dialect, and later written anew: the spelling that the caller chose reaches no other parser.

Then how deep they nest: that bounds our Python stack, and later the time of sqlglot's parser.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate.characters import BIGQUERY_STRING, DUCKDB_STRING, decode
from agnes_mcp.sql.predicate.hints import SYMBOL_HINTS, symbol_hint
from agnes_mcp.sql.predicate.limits import (
    MAX_CASE_DEPTH,
    MAX_DEPTH,
    MAX_NUMBER_CHARS,
    MAX_TOKENS,
    MAX_TYPE_CALL_DEPTH,
    MAX_UNARY_RUN,
)
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.sql.predicate.rules import Rules

LexemeKind = Literal["word", "name", "string", "number", "symbol", "end"]

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.])"
_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
#: `refused` is what has to be seen before a lexeme is cut, because its first characters alone would be one.
_BIGQUERY = re.compile(
    r"[ \t\r\n]*(?:(?P<refused>--|/\*|\|>|->>?|=>|==|<<|>>|//|<=>|(?:[bB][rR]?|[rR][bB])(?=['\"]))"
    rf"|(?P<string>{BIGQUERY_STRING})|(?P<number>{_NUMBER})|(?P<word>{_WORD})"
    r"|(?P<name>`[^`\\\r\n]+`(?!`))|(?P<symbol><>|!=|<=|>=|\|\||[=<>+\-*/&|(),.\[\]]))"
)
_DUCKDB = re.compile(
    r"[ \t\r\n]*(?:(?P<refused>--|/\*|\|>|->>?|=>|<<|>>|\*\*|<@|<=>|(?:[bBeExXnN]|[uU]&)(?='))"
    rf"|(?P<string>{DUCKDB_STRING})|(?P<number>{_NUMBER})|(?P<word>{_WORD})"
    r'|(?P<name>"(?:[^"]|"")+"(?!"))|(?P<symbol>::|//|==|<>|!=|<=|>=|\|\||[=<>+\-*/%&|(),.\[\]]))'
)
_PATTERNS: dict[Dialect, re.Pattern[str]] = {"bigquery": _BIGQUERY, "duckdb": _DUCKDB}
# DuckDB reads a run of operator characters as one operator: `%-` is not `%` and `-`.
_OPERATOR = frozenset("<>=!+-*/%&|")
_MINUS_MAY_FOLLOW = frozenset({"=", "<", ">", "<=", ">=", "<>", "*", "/", "+", "-", "==", "//"})


@dataclass(slots=True)  # one for every word of every text: a frozen one, or a tuple, takes twice as long to make
class Lexeme:
    """`value`: a word in capitals, a name or string decoded, a number or symbol as written; "" at the end. `sign` is
    the same of words and symbols, none of which is spelled like one of the others, and "" of all else."""

    kind: LexemeKind
    value: str
    start: int
    end: int
    sign: str = ""


def cut(text: str, dialect: Dialect) -> list[Lexeme]:
    """The lexemes of `text`, closed by one of kind "end". Raises `PredicateError` at the first that is not listed."""
    lexemes: list[Lexeme] = []
    match_at, position = _PATTERNS[dialect].match, 0
    before = Lexeme("end", "", 0, 0)
    while (match := match_at(text, position)) and match.lastgroup != "refused":
        lexeme = _lexeme(match, text, dialect)
        if lexeme.kind == before.kind:
            _check_neighbours(before, lexeme, text, dialect)
        lexemes.append(lexeme)
        before, position = lexeme, lexeme.end
        if len(lexemes) > MAX_TOKENS:
            raise _too_many(lexeme, text)
    rest = text[position:].lstrip(" \t\r\n")
    if rest:
        raise _unreadable(text, len(text) - len(rest), dialect)
    lexemes.append(Lexeme("end", "", len(text), len(text)))
    return lexemes


def _lexeme(match: re.Match[str], text: str, dialect: Dialect) -> Lexeme:
    kind, source, end = match.lastgroup, match[match.lastindex or 0], match.end()
    start = end - len(source)
    if kind == "word":
        word = source.upper()
        return Lexeme("word", word, start, end, word)
    if kind == "symbol":
        symbol = "=" if source == "==" else source
        return Lexeme("symbol", symbol, start, end, symbol)
    if kind == "number":
        return Lexeme("number", _number(source, text, start), start, end)
    if kind == "string":
        return Lexeme("string", decode(source, dialect, text, start), start, end)
    return Lexeme("name", source[1:-1].replace('""', '"') if dialect == "duckdb" else source[1:-1], start, end)


def _number(source: str, text: str, start: int) -> str:
    if source.isdigit() and len(source) <= MAX_NUMBER_CHARS:
        return source
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


def _too_many(lexeme: Lexeme, text: str) -> PredicateError:
    return refuse(
        "too_complex",
        f"The predicate has more than {MAX_TOKENS:,} tokens.",
        "Narrow it: use BETWEEN instead of a long IN list, or several smaller calls.",
        text,
        lexeme.start,
        lexeme.end,
    )


def _check_neighbours(before: Lexeme, last: Lexeme, text: str, dialect: Dialect) -> None:
    """Of two of one kind: strings would be joined, and DuckDB would read two operators as one."""
    if last.kind == "string":
        raise refuse(
            "unsupported_literal",
            "Two strings stand next to one another.",
            "Join them into one string. A quote inside a string is written '' in DuckDB and \\' in BigQuery.",
            text,
            before.start,
            last.end,
        )
    if last.kind == "symbol" and dialect == "duckdb" and before.end == last.start and _run_together(text, before, last):
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
    return operators and not (second == "-" and first in _MINUS_MAY_FOLLOW)


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


_CLOSING = {"(": ")", "[": "]"}
_BRACKETS = frozenset({*_CLOSING, *_CLOSING.values()})
_RUNS = frozenset({"NOT", "-", "CASE"})


def check_shape(lexemes: list[Lexeme], text: str, rules: Rules) -> None:
    """Raises `parse_error` for brackets that do not match, `too_complex` for what nests deeper than `limits` allows."""
    signs = {lexeme.sign for lexeme in lexemes}
    if not signs.isdisjoint(_BRACKETS):
        _check_brackets(lexemes, text, rules)
    if not signs.isdisjoint(_RUNS):
        _check_runs(lexemes, text)


def _check_brackets(lexemes: list[Lexeme], text: str, rules: Rules) -> None:
    open_brackets: list[tuple[Lexeme, bool]] = []  # each with: does it open a type call or a list
    before = ""
    costly = 0
    for lexeme in lexemes:
        sign = lexeme.sign
        if sign in _BRACKETS:
            if sign in _CLOSING:
                open_brackets.append((lexeme, sign == "[" or before in rules.type_calls))
                costly += open_brackets[-1][1]
                _check_depth(len(open_brackets), costly, lexeme, text)
            elif not open_brackets or _CLOSING[open_brackets[-1][0].sign] != sign:
                raise _unmatched(lexeme, text)
            else:
                costly -= open_brackets.pop()[1]
        before = sign
    if open_brackets:
        raise _unmatched(open_brackets[-1][0], text)


def _check_depth(depth: int, costly: int, lexeme: Lexeme, text: str) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep(f"Brackets nest deeper than {MAX_DEPTH}.", lexeme, text)
    if costly > MAX_TYPE_CALL_DEPTH:
        raise _too_deep(f"Type calls and square brackets nest deeper than {MAX_TYPE_CALL_DEPTH}.", lexeme, text)


def _check_runs(lexemes: list[Lexeme], text: str) -> None:
    unary = cases = 0
    for lexeme in lexemes:
        sign = lexeme.sign
        unary = unary + 1 if sign in ("NOT", "-") else 0
        if unary > MAX_UNARY_RUN:
            raise _too_deep(f"More than {MAX_UNARY_RUN} NOT or - stand in a row.", lexeme, text)
        if sign in ("CASE", "END"):
            cases += 1 if sign == "CASE" else -1
            if cases > MAX_CASE_DEPTH:
                raise _too_deep(f"CASE nests deeper than {MAX_CASE_DEPTH}.", lexeme, text)


def _too_deep(message: str, lexeme: Lexeme, text: str) -> PredicateError:
    return refuse("too_complex", message, "Flatten the condition.", text, lexeme.start, lexeme.end)


def _unmatched(lexeme: Lexeme, text: str) -> PredicateError:
    return refuse(
        "parse_error",
        f"The bracket {lexeme.value} at {lexeme.start} has no partner.",
        "Balance the brackets.",
        text,
        lexeme.start,
        lexeme.end,
    )
