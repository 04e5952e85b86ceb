"""How fast predicates are validated, against sqlglot alone parsing the same text.

    python bench/predicates.py [--small] [--json]

The worst hostile text of many shapes is a multiple of the time that an ordinary predicate takes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import sqlglot
from measuring import Figure, main, ratio
from sqlglot import exp
from sqlglot.errors import SqlglotError

from support.predicates import SCHEMAS, accepted  # isort: skip

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import confirm_skeleton, render_predicate, validate_predicate
from agnes_mcp.sql.predicate.second_reading import parse

DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")


def seconds(work: Callable[[], object], at_least_s: float = 1.0) -> float:
    """The mean processor time of one run."""
    work()
    runs, started = 0, time.process_time()
    while time.process_time() - started < at_least_s:
        work()
        runs += 1
    return (time.process_time() - started) / runs


def in_turn(at_least_s: float, *works: Callable[[], object]) -> list[float]:
    """The mean processor time of each, run in turn: what slows one down slows the others."""
    taken, runs = [0.0] * len(works), -1
    while runs < 1 or sum(taken) < at_least_s * len(works):
        for place, work in enumerate(works):
            started = time.process_time()
            work()
            taken[place] += (time.process_time() - started) * (runs >= 0)
        runs += 1
    return [each / runs for each in taken]


def validate(text: str, dialect: Dialect) -> None:
    with contextlib.suppress(PredicateError):
        validate_predicate(text, SCHEMAS[dialect], dialect)


def measure(small: bool) -> Iterator[Figure]:
    at_least_s = 0.01 if small else 2.0
    for dialect in DIALECTS:
        corpus = accepted(dialect)
        schema = SCHEMAS[dialect]
        trees = [validate_predicate(text, schema, dialect) for text in corpus]
        rendered = [render_predicate(tree, dialect) for tree in trees]
        validated, parsed, rendering, reparsed = (
            each / len(corpus)
            for each in in_turn(
                at_least_s,
                lambda: [validate_predicate(text, schema, dialect) for text in corpus],  # noqa: B023 - run at once
                lambda: [bare_parse(text, dialect) for text in corpus],  # noqa: B023
                lambda: [render_predicate(tree, dialect) for tree in trees],  # noqa: B023
                lambda: [parse(text, dialect) for text in rendered],  # noqa: B023
            )
        )
        yield Figure(
            f"predicates validated a second, {dialect}", "a bare sqlglot.parse_one of the same",
            parsed / validated, 0.5, "at least", 1 / validated, 1 / parsed, "per s",
        )  # fmt: skip
        yield ratio(f"of it, its tree written as text, {dialect}", "that bare parse", rendering, parsed, None)
        yield ratio(f"of it, the rendered text parsed again, {dialect}", "that bare parse", reparsed, parsed, None)
        name, text, worst_s = worst(dialect, at_least_s / 5)
        yield Figure(
            f"the worst hostile predicate, {dialect}: {name}", "an ordinary one",
            worst_s / validated, 20, "at most", 1000 * worst_s, 1000 * validated, "ms",
        )  # fmt: skip
        bare_s = seconds(lambda: bare_parse(text, dialect), at_least_s / 5)  # noqa: B023 - run at once
        yield ratio(
            f"a bare parse of that hostile text, {dialect}", "a bare parse of an ordinary one", bare_s, parsed, None
        )
        yield ratio(f"that hostile predicate, {dialect}", "a bare parse of the same text", worst_s, bare_s, None)
        checked = skeleton(dialect, corpus[:50], at_least_s)
        yield Figure(
            f"confirming the statement's shape, {dialect}", "a bare parse of the predicate", checked / parsed, None,
            ours=1000 * checked, theirs=1000 * parsed,
        )  # fmt: skip


def skeleton(dialect: Dialect, corpus: list[str], at_least_s: float) -> float:
    quote = "`" if dialect == "bigquery" else '"'
    prefix = f"SELECT {quote}a{quote} FROM {quote}t{quote}"
    texts = [render_predicate(validate_predicate(text, SCHEMAS[dialect], dialect), dialect) for text in corpus]
    return seconds(lambda: confirm(prefix, texts, dialect), at_least_s) / len(texts)


def confirm(prefix: str, texts: list[str], dialect: Dialect) -> None:
    for text in texts:
        sql = f"{prefix}\nWHERE (\n{text}\n)\nLIMIT 5"
        confirm_skeleton(sql, dialect=dialect, prefix_sql=prefix, predicate_sql=text, suffix_sql="LIMIT 5")


def bare_parse(text: str, dialect: Dialect) -> None:
    with contextlib.suppress(SqlglotError):
        sqlglot.parse_one(text, dialect=dialect, into=exp.Condition)


def worst(dialect: Dialect, at_least_s: float) -> tuple[str, str, float]:
    """The slowest of many shapes that somebody may try, its text, and its seconds."""
    shapes = {
        "498 ORs": " OR ".join(["user_id = 1"] * 498),
        "IN of 990 numbers": "user_id IN (" + ", ".join(map(str, range(990))) + ")",
        "DATE( 4 deep": "DATE(" * 4 + "event_date" + ")" * 4 + " = event_date",
        "STRUCT( 200 deep": "STRUCT(" * 200 + "1" + ")" * 200,
        "16 brackets": "(" * 16 + "is_paid" + ")" * 16,
        "8,000 brackets": "(" * 8_000,
        "COALESCE( 16 deep": "COALESCE(1, " * 16 + "1" + ")" * 16 + " = 1",
        "400 comparisons of unlike types": " AND ".join(f"is_paid > {n}" for n in range(400)),
        "400 unknown columns": "nope = 1 AND " * 400 + "is_paid",
        "8,191 quotes": "'" * 8_191,
    }
    taken = {
        name: seconds(lambda text=text: validate(text, dialect), at_least_s)  # type: ignore[misc]
        for name, text in shapes.items()
    }
    name, worst_s = max(taken.items(), key=lambda each: each[1])
    return name, shapes[name], worst_s


if __name__ == "__main__":
    main(measure, __doc__)
