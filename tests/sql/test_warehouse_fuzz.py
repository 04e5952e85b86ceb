"""Mutated statements: refused as foreseen, or read over tables that the principal may read."""

from __future__ import annotations

import random
import re

import pytest
from support.counts import count, tell
from support.effort import within
from support.warehouse import GRANTED, LOCAL, NAMES, WITHHELD, accepted, rejected

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import admit

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_000)]

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_SLOWEST_S = 2.0  # of processor time: what waits for the machine does not count
#: Pieces that would reach further, were they let through anywhere.
PIECES = [
    "hr.salaries", "`my-project.hr.salaries`", "secrets.tokens", "`secrets`.`tokens`", "salaries", "tokens",
    "weather", "shop.INFORMATION_SCHEMA.TABLES", "INFORMATION_SCHEMA", "`region-us`.INFORMATION_SCHEMA.JOBS",
    "shop.__TABLES__", "EXTERNAL_QUERY('c', 'q')", "ML.PREDICT(MODEL m, TABLE hr.salaries)", "TABLE hr.salaries",
    "MODEL shop.m", "f(1)", "shop.f(1)", "SESSION_USER()", "@@project_id", "@x", "?", "--", "/*", "*/", "#", ";",
    "; SELECT 1", "|>", "(SELECT token FROM secrets.tokens)",
    "UNNEST((SELECT ARRAY_AGG(token) FROM secrets.tokens))", "SELECT", "FROM", "WITH hr AS (SELECT 1 AS salaries)",
    "WITH salaries AS (SELECT 1 AS x)", "JOIN hr.salaries USING (user_id)", ", hr.salaries",
    "UNION ALL SELECT token FROM secrets.tokens", "FOR SYSTEM_TIME AS OF", "PIVOT(", "UNPIVOT(", "OVER", "AS", "ON",
    "USING", "(", ")", "[", "]", "<", ">", ",", ".", "`", "'", '"', "\\", "\n", "\t", "\u202e", "\x00", "é", "INTO",
    "FOR UPDATE", "NATURAL", "LATERAL", "POSITIONAL", "TABLESAMPLE SYSTEM (10 PERCENT)", "WITH OFFSET", "STRUCT(",
    "DATE(", "ARRAY<", "CAST(", "SAFE.", "NET.HOST(", "CASE WHEN", "END", "NOT", "-", "::", "->", "=>", "$1",
    "users", "orders", "sessions s", "s.items", "LIMIT 5, 10", "ALL", "DISTINCT", "EXCEPT (a)", "REPLACE (1 AS a)",
]  # fmt: skip


class Mutator:
    """Statements made of the corpora: spliced, cut, doubled, with pieces put in and words exchanged."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lines = accepted() * 3 + [text for _, text in rejected() if len(text) < 500]

    def next(self) -> str:
        text = self._random.choice(self._lines)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 6))):
            text = self._random.choice((self._insert, self._cut, self._double, self._splice, self._swap, self._wrap))(
                text
            )
        return text[:9_000]

    def _at(self, text: str) -> int:
        return self._random.randint(0, len(text))

    def _insert(self, text: str) -> str:
        at, space = self._at(text), self._random.choice(("", " "))
        return text[:at] + space + self._random.choice(PIECES) + space + text[at:]

    def _cut(self, text: str) -> str:
        at = self._at(text)
        return text[:at] + text[at + self._random.randint(1, 12) :]

    def _double(self, text: str) -> str:
        start, end = sorted((self._at(text), self._at(text)))
        return text[:end] + text[start:end] * self._random.choice((1, 2, 20)) + text[end:]

    def _splice(self, text: str) -> str:
        other = self._random.choice(self._lines)
        return text[: self._at(text)] + other[self._at(other) :]

    def _swap(self, text: str) -> str:
        """A word becomes another one, or a name that reaches further."""
        words = text.split(" ")
        at = self._random.randrange(len(words))
        words[at] = self._random.choice((*PIECES, *self._random.choice(self._lines).split(" ")))
        return " ".join(words)

    def _wrap(self, text: str) -> str:
        opening, closing = self._random.choice(
            (
                ("(", ")"),
                ("SELECT * FROM (", ")"),
                ("SELECT (", ")"),
                ("WITH a AS (", ") SELECT * FROM a"),
                ("EXISTS (", ")"),
            )
        )
        times = self._random.choice((1, 2, 4, 30))
        return opening * times + text + closing * times


def check(text: str, granted: frozenset[str]) -> str:
    """The kind of refusal, or "accepted". Raises AssertionError where a promise is broken."""
    try:
        admitted = within(_SLOWEST_S, lambda: admit(text, NAMES))
    except AgnesError as error:
        return error.kind if error.hint else "no next step"
    assert {place.path for place in admitted.tables} <= granted
    folded = _LITERAL.sub("''", admitted.sql.casefold())  # a table's name in a text is a text
    outside = [place for place in WITHHELD if f"`{place.path}`".casefold() in folded]
    assert not outside
    again = admit(admitted.sql, NAMES)
    assert again.sql == admitted.sql
    assert again.tables == admitted.tables
    return "accepted"


def test_what_is_mutated_is_refused_or_stays_inside() -> None:
    granted = frozenset(place.path for place in GRANTED)
    assert not granted & {place.path for place in [*WITHHELD, *LOCAL]}
    mutator, outcomes = Mutator(seed=13), dict[str, int]()
    for _ in range(count(1_500, 20_000)):
        text = mutator.next()
        try:
            kind = check(text, granted)
        except BaseException as error:
            raise AssertionError(f"{text!r}: {type(error).__name__}: {error}") from error
        outcomes[kind] = outcomes.get(kind, 0) + 1
    tried = sum(outcomes.values())
    tell("mutated statements", tried=tried, through=outcomes["accepted"])
    assert outcomes["accepted"] > tried // 50
    assert len(outcomes) >= 10
    assert "no next step" not in outcomes
