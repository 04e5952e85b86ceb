"""How fast statements are admitted, against sqlglot alone parsing the same text.

    python bench/statements.py [--small] [--json]

A share of 1 would be gates that cost nothing. The worst hostile text of many shapes is a multiple of the time that an
ordinary statement takes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import sqlglot
from measuring import Figure, main, ratio
from sqlglot.errors import SqlglotError

from support.warehouse import NAMES, accepted  # isort: skip

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import admit


def seconds(work: Callable[[], object], at_least_s: float) -> float:
    """The mean processor time of one run."""
    work()
    runs, started = 0, time.process_time()
    while time.process_time() - started < at_least_s:
        work()
        runs += 1
    return (time.process_time() - started) / runs


def bare_parse(text: str) -> None:
    with contextlib.suppress(SqlglotError):
        sqlglot.parse_one(text, read="bigquery")


def attempt(text: str) -> None:
    with contextlib.suppress(AgnesError):
        admit(text, NAMES)


def worst(at_least_s: float) -> tuple[str, str, float]:
    """The slowest of many shapes that somebody may try, its text, and its seconds."""
    shapes = {
        "IN of 1,400 numbers": "SELECT 1 FROM users WHERE user_id IN (" + ", ".join(map(str, range(1_400))) + ")",
        "DATE( 5 deep": "SELECT " + "DATE(" * 5 + "signed_up" + ")" * 5 + " FROM users",
        "DATE( 400 deep": "SELECT " + "DATE(" * 400 + "signed_up" + ")" * 400,
        "STRUCT( 400 deep": "SELECT " + "STRUCT(" * 400 + "1" + ")" * 400,
        "24 subqueries": "SELECT * FROM (" * 24 + "SELECT 1" + ")" * 24,
        "50 UNIONs": " UNION ALL ".join(["SELECT user_id FROM users"] * 50),
        "50 joins": "SELECT 1 FROM users u0" + "".join(f" JOIN users u{n} USING (user_id)" for n in range(1, 50)),
        "8,000 brackets": "(" * 8_000,
        "400 unknown columns": "SELECT " + ", ".join(["nope"] * 400) + " FROM users",
        "8,191 quotes": "'" * 8_191,
    }
    taken = {name: seconds(lambda text=text: attempt(text), at_least_s) for name, text in shapes.items()}  # type: ignore[misc]
    name, worst_s = max(taken.items(), key=lambda each: each[1])
    return name, shapes[name], worst_s


def measure(small: bool) -> Iterator[Figure]:
    at_least_s = 0.01 if small else 2.0
    corpus = accepted()
    admitted = seconds(lambda: [admit(text, NAMES) for text in corpus], at_least_s) / len(corpus)
    parsed = seconds(lambda: [sqlglot.parse_one(text, read="bigquery") for text in corpus], at_least_s) / len(corpus)
    yield Figure(
        "statements admitted a second", "a bare sqlglot.parse_one of the same",
        parsed / admitted, 0.3, "at least", 1 / admitted, 1 / parsed, "per s",
    )  # fmt: skip
    name, text, worst_s = worst(at_least_s / 10)
    yield Figure(
        f"the worst hostile statement: {name}", "an ordinary one",
        worst_s / admitted, 20, "at most", 1000 * worst_s, 1000 * admitted, "ms",
    )  # fmt: skip
    bare_s = seconds(lambda: bare_parse(text), at_least_s / 10)
    yield ratio("a bare parse of that hostile statement", "a bare parse of an ordinary one", bare_s, parsed, None)
    yield ratio("that hostile statement", "a bare parse of the same text", worst_s, bare_s, None)


if __name__ == "__main__":
    main(measure, __doc__)
