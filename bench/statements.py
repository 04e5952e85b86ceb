"""How fast statements are admitted, against sqlglot alone parsing the same text.

    python bench/statements.py

The ratio is parsing alone over all four gates: 1 would be gates that cost nothing. The second table is the worst
hostile text of each shape, as a multiple of the time that an ordinary statement takes.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import sqlglot

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.warehouse import NAMES, accepted

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import admit

#: What admitting has to reach, as a share of bare parsing.
WANTED = 0.3


def seconds(work: Callable[[], object], at_least_s: float = 2.0) -> float:
    """The mean processor time of one run."""
    work()
    runs, started = 0, time.process_time()
    while time.process_time() - started < at_least_s:
        work()
        runs += 1
    return (time.process_time() - started) / runs


def attempt(text: str) -> None:
    with contextlib.suppress(AgnesError):
        admit(text, NAMES)


def worst(ordinary_s: float) -> None:
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
    for name, text in shapes.items():
        taken = seconds(lambda text=text: attempt(text), at_least_s=0.2)  # type: ignore[misc]
        print(f"{name:20} {taken / ordinary_s:8.1f} x an ordinary statement ({taken * 1000:.1f} ms)")


def main() -> int:
    corpus = accepted()
    admitted = seconds(lambda: [admit(text, NAMES) for text in corpus]) / len(corpus)
    parsed = seconds(lambda: [sqlglot.parse_one(text, read="bigquery") for text in corpus]) / len(corpus)
    ratio = parsed / admitted
    print(f"sqlglot {version('sqlglot')}, Python {sys.version.split()[0]}, {len(corpus)} statements")
    print(f"{1 / admitted:,.0f} admitted/s   {1 / parsed:,.0f} parsed/s by sqlglot alone   ratio {ratio:.2f}")
    worst(admitted)
    return int(ratio < WANTED)


if __name__ == "__main__":
    sys.exit(main())
