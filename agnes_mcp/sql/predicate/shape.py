"""Step 2, second half: how deep the lexemes nest. Bounds our Python stack, and later the time of sqlglot's parser."""

from __future__ import annotations

from agnes_mcp.errors import PredicateError
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.limits import MAX_CASE_DEPTH, MAX_DEPTH, MAX_TYPE_CALL_DEPTH, MAX_UNARY_RUN
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.sql.predicate.rules import Rules

_CLOSING = {"(": ")", "[": "]"}


def check_shape(lexemes: list[Lexeme], text: str, rules: Rules) -> None:
    """Raises `parse_error` for brackets that do not match, `too_complex` for what nests deeper than `limits` allows."""
    _check_brackets(lexemes, text, rules)
    _check_runs(lexemes, text)


def _check_brackets(lexemes: list[Lexeme], text: str, rules: Rules) -> None:
    open_brackets: list[tuple[Lexeme, bool]] = []  # each with: does it open a type call or a list
    for before, lexeme in zip([None, *lexemes], lexemes, strict=False):
        if lexeme.kind == "end" and open_brackets:
            opening = open_brackets[-1][0]
            raise _unmatched(opening, text)
        if lexeme.kind != "symbol":
            continue
        if lexeme.value in _CLOSING:
            open_brackets.append((lexeme, lexeme.value == "[" or _is_type_call(before, rules)))
            _check_depth(open_brackets, text)
        elif lexeme.value in _CLOSING.values() and not _closes(open_brackets, lexeme):
            raise _unmatched(lexeme, text)


def _closes(open_brackets: list[tuple[Lexeme, bool]], lexeme: Lexeme) -> bool:
    return bool(open_brackets) and _CLOSING[open_brackets.pop()[0].value] == lexeme.value


def _is_type_call(before: Lexeme | None, rules: Rules) -> bool:
    return before is not None and before.kind == "word" and before.value in rules.type_calls


def _check_depth(open_brackets: list[tuple[Lexeme, bool]], text: str) -> None:
    lexeme = open_brackets[-1][0]
    if len(open_brackets) > MAX_DEPTH:
        raise _too_deep(f"Brackets nest deeper than {MAX_DEPTH}.", lexeme, text)
    if sum(costly for _, costly in open_brackets) > MAX_TYPE_CALL_DEPTH:
        raise _too_deep(f"Type calls and square brackets nest deeper than {MAX_TYPE_CALL_DEPTH}.", lexeme, text)


def _check_runs(lexemes: list[Lexeme], text: str) -> None:
    unary = cases = 0
    for lexeme in lexemes:
        unary = unary + 1 if lexeme.value in ("NOT", "-") and lexeme.kind in ("word", "symbol") else 0
        if lexeme.kind == "word":
            cases += {"CASE": 1, "END": -1}.get(lexeme.value, 0)
        if unary > MAX_UNARY_RUN:
            raise _too_deep(f"More than {MAX_UNARY_RUN} NOT or - stand in a row.", lexeme, text)
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
