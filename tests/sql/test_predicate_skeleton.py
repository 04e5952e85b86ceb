"""The finished statement is what was put together, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import confirm_skeleton

DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")
PARTS: dict[Dialect, tuple[str, str, str]] = {
    "bigquery": ("SELECT `a` FROM `p`.`d`.`t`", "EXTRACT(YEAR FROM `b`) = 1 AND `a` IS DISTINCT FROM 2", "LIMIT 5"),
    "duckdb": (
        'SELECT "a", COUNT(*) FROM "t"',
        '"a" IN (1, 2) AND "b" LIKE \'x\'',
        'GROUP BY "a"\nORDER BY 1\nLIMIT 5',
    ),
}


def confirm(dialect: Dialect, prefix: str, text: str, suffix: str, sql: str = "") -> None:
    sql = sql or f"{prefix}\nWHERE (\n{text}\n)\n{suffix}"
    confirm_skeleton(sql, dialect=dialect, prefix_sql=prefix, predicate_sql=text, suffix_sql=suffix)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_statement_that_was_meant_is_confirmed(dialect: Dialect) -> None:
    prefix, text, suffix = PARTS[dialect]
    confirm(dialect, prefix, text, suffix)
    confirm(dialect, prefix, text, "")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "text",
    [
        "1 = 1) OR (1 = 1", "1 = 1) LIMIT 1 --", "1 = 1; DROP TABLE t", "1 IN (SELECT 1)", "1 = 1 LIMIT 1",
        "1 = 1 /* x */", "1 = 1) UNION ALL (SELECT 1", "1 = 1 ORDER BY 1", "((1 = 1)", "1 = 1 -- x", "",
        "1 = 1 GROUP BY 1", "'x", "@p = 1", "f(1) = 1",
    ],
)  # fmt: skip
def test_a_predicate_that_would_change_the_statement_is_refused(dialect: Dialect, text: str) -> None:
    prefix, _, suffix = PARTS[dialect]
    with pytest.raises(PredicateError):
        confirm(dialect, prefix, text, suffix)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "change",
    [
        lambda sql: sql.replace("LIMIT 5", "LIMIT 50"),
        lambda sql: sql.replace("LIMIT 5", ""),
        lambda sql: sql + " OFFSET 1",
        lambda sql: sql.replace("WHERE (", "WHERE 1 = 1 OR ("),
        lambda sql: sql.replace("FROM", "FROM x,"),
        lambda sql: sql + "; SELECT 1",
        lambda sql: sql + " -- x",
        lambda sql: sql.replace("\n)", "\n) OR TRUE"),
        lambda sql: "WITH x AS (SELECT 1) " + sql,
    ],
)
def test_a_statement_that_is_not_its_parts_is_refused(dialect: Dialect, change: Callable[[str], str]) -> None:
    prefix, text, suffix = PARTS[dialect]
    sql = f"{prefix}\nWHERE (\n{text}\n)\n{suffix}"
    with pytest.raises(PredicateError, match="not be what was meant"):
        confirm(dialect, prefix, text, suffix, change(sql))


@pytest.mark.parametrize(
    "prefix", ['SELECT "a" FROM "t", "u"', 'SELECT "a" FROM (SELECT 1)', "SELECT 1", "SELECT \"a\" FROM read_text('x')"]
)
def test_a_statement_over_another_shape_of_from_is_refused(prefix: str) -> None:
    with pytest.raises(PredicateError):
        confirm("duckdb", prefix, '"a" = 1', "")


def test_threads_share_the_parser_without_mixing_answers() -> None:
    def work(number: int) -> int:
        for step in range(20):
            confirm("duckdb", 'SELECT "a" FROM "t"', f'"a" = {number * 1000 + step}', "LIMIT 5")
        return number

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(work, range(8))) == list(range(8))
