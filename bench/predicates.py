"""How fast predicates are validated, against sqlglot alone parsing the same text.

    python bench/predicates.py

The ratio is what the gates cost over a bare parse. The second table is the worst hostile text of each shape, as a
multiple of the time that an ordinary predicate takes.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import sqlglot
from sqlglot import exp

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.predicates import SCHEMAS, accepted

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import confirm_skeleton, render_predicate, validate_predicate

DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")


def seconds(work: Callable[[], object], at_least_s: float = 1.0) -> float:
    """The mean time of one run."""
    work()
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < at_least_s:
        work()
        runs += 1
    return (time.perf_counter() - started) / runs


def validate(text: str, dialect: Dialect) -> None:
    with contextlib.suppress(PredicateError):
        validate_predicate(text, SCHEMAS[dialect], dialect)


def compare(dialect: Dialect) -> float:
    """Prints one line; returns the mean time of one validation."""
    corpus = accepted(dialect)
    validated = seconds(lambda: [validate_predicate(text, SCHEMAS[dialect], dialect) for text in corpus]) / len(corpus)
    parsed = seconds(lambda: [sqlglot.parse_one(text, dialect=dialect, into=exp.Condition) for text in corpus]) / len(
        corpus
    )
    quote = "`" if dialect == "bigquery" else '"'
    prefix = f"SELECT {quote}a{quote} FROM {quote}t{quote}"
    texts = [render_predicate(validate_predicate(text, SCHEMAS[dialect], dialect), dialect) for text in corpus[:50]]
    checked = seconds(lambda: confirm(prefix, texts, dialect)) / len(texts)
    print(
        f"{dialect:9} {1 / validated:7,.0f} validated/s   {1 / parsed:7,.0f} parsed/s by sqlglot alone   "
        f"ratio {validated / parsed:.2f}   skeleton {checked / parsed:.2f}"
    )
    return validated


def confirm(prefix: str, texts: list[str], dialect: Dialect) -> None:
    for text in texts:
        sql = f"{prefix}\nWHERE (\n{text}\n)\nLIMIT 5"
        confirm_skeleton(sql, dialect=dialect, prefix_sql=prefix, predicate_sql=text, suffix_sql="LIMIT 5")


def worst(dialect: Dialect, ordinary_s: float) -> None:
    shapes = {
        "498 ORs": " OR ".join(["user_id = 1"] * 498),
        "IN of 990 numbers": "user_id IN (" + ", ".join(map(str, range(990))) + ")",
        "DATE( 4 deep": "DATE(" * 4 + "event_date" + ")" * 4 + " = event_date",
        "STRUCT( 200 deep": "STRUCT(" * 200 + "1" + ")" * 200,
        "16 brackets": "(" * 16 + "is_paid" + ")" * 16,
        "8,000 brackets": "(" * 8_000,
        "COALESCE( 16 deep": "COALESCE(1, " * 16 + "1" + ")" * 16 + " = 1",
        "400 unknown columns": "nope = 1 AND " * 400 + "is_paid",
        "8,191 quotes": "'" * 8_191,
    }
    for name, text in shapes.items():
        taken = seconds(lambda text=text: validate(text, dialect), at_least_s=0.2)  # type: ignore[misc]
        print(f"{dialect:9} {name:20} {taken / ordinary_s:8.1f} x an ordinary predicate ({taken * 1000:.1f} ms)")


def main() -> None:
    print(f"sqlglot {version('sqlglot')}, Python {sys.version.split()[0]}")
    ordinary = {dialect: compare(dialect) for dialect in DIALECTS}
    for dialect in DIALECTS:
        worst(dialect, ordinary[dialect])


if __name__ == "__main__":
    main()
