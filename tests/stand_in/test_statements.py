"""Whole statements: the rows that GoogleSQL's own evaluator gives, or a refusal; never anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.evaluator import GoogleSQL, plain, unordered

from agnes_mcp.stand_in import StandIn
from agnes_mcp.stand_in.googlesql.session import Names
from agnes_mcp.stand_in.sql.analysis import Analysis, analyse
from agnes_mcp.stand_in.wire.replies import ApiError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "stand_in"
#: What the evaluator's build lacks.
NOT_EVALUATED = {
    "%k|%p": "its strftime prints neither %k, %l nor what stands beside them",
    "APPROX_COUNT_DISTINCT|APPROX_TOP|APPROX_QUANTILES|HLL_COUNT|MAX_BY|MIN_BY": "it does not evaluate these",
    "ST_": "it has no geography",
    "CONTAINS_SUBSTR|COLLATE": "it does not know these",
    r"LIKE (ANY|SOME|ALL) (UNNEST|\(SELECT)": "it takes patterns one by one only",
}
TABLES = {
    "t": """
SELECT 1 AS id, 'a' AS g, 1.5 AS f, NUMERIC '1.25' AS n, DATE '2024-01-31' AS d,
  TIMESTAMP '2024-01-31 10:00:00+00' AS ts, ['x', 'y'] AS tags, STRUCT(1 AS a, 'p' AS b) AS s,
  [STRUCT('k' AS sku, NUMERIC '3.5' AS price), STRUCT('l', NUMERIC '1')] AS items,
  JSON '{"a": {"b": [1, 2]}, "c": "x"}' AS j
UNION ALL SELECT 2, 'b', CAST('nan' AS FLOAT64), NUMERIC '2.5', DATE '2024-02-29',
  TIMESTAMP '2024-02-29 23:59:59.123+00', ['z'], STRUCT(2, NULL), [], JSON '{"a": 1}'
UNION ALL SELECT 3, 'a', NULL, NULL, NULL, NULL, [], NULL, [STRUCT('m', CAST(NULL AS NUMERIC))], NULL""",
    "u": "SELECT 1 AS id, 'one' AS name UNION ALL SELECT 2, 'x' UNION ALL SELECT 4, NULL",
}


def statements(name: str) -> list[str]:
    lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("--")]


@pytest.fixture(scope="module")
def shop() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        for name, query in TABLES.items():
            made = understood(stand_in, query)
            stand_in.create_table("d", name, made.fields, sql=made.duckdb_sql)
        yield stand_in


def understood(stand_in: StandIn, sql: str) -> Analysis:
    return analyse(sql, stand_in.catalog, stand_in.store, Names("my-project", "d"))


def answered(stand_in: StandIn, sql: str) -> list[list[Any]]:
    found = understood(stand_in, sql)
    kinds = [field.type for field in found.fields]
    with stand_in.store.cursor() as cursor:
        rows = cursor.execute(found.duckdb_sql).fetchall()
    return [[_shown(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in rows]


def _shown(value: Any, kind: str) -> Any:
    if kind == "JSON" and value is not None:
        elements = [
            json.dumps(json.loads(one), sort_keys=True) for one in (value if isinstance(value, list) else [value])
        ]
        return plain(elements) if isinstance(value, list) else elements[0]
    return plain(value)


@pytest.fixture(scope="module")
def evaluator(googlesql: Any) -> GoogleSQL:
    return GoogleSQL()


def with_tables(sql: str) -> str:
    commons = ", ".join(f"{name} AS ({query})" for name, query in TABLES.items())
    shadowing = re.match(r"WITH (\w+) AS", sql)
    if shadowing and shadowing[1] not in TABLES:
        return f"WITH {commons}, {sql[5:]}"
    return sql if shadowing else f"WITH {commons} {sql}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sql", statements("answered.sql"))
def test_rows_are_googlesqls(evaluator: GoogleSQL, shop: StandIn, sql: str) -> None:
    if any(re.search(pattern, sql) for pattern in NOT_EVALUATED):
        pytest.skip("the evaluator cannot answer this")
    expected, found = evaluator.rows(with_tables(sql)), answered(shop, sql)
    if "ORDER BY" in sql.rpartition(")")[2]:
        assert found == expected
    else:
        assert unordered(found) == unordered(expected)


@pytest.mark.parametrize("sql", statements("answered.sql"))
def test_what_is_answered_is_priced_and_typed(shop: StandIn, sql: str) -> None:
    found = understood(shop, sql)
    assert found.fields
    assert {table.name for table in found.referenced} <= {"t", "u"}


@pytest.mark.parametrize("sql", statements("refused.sql"))
def test_what_cannot_be_right_is_refused(shop: StandIn, sql: str) -> None:
    with pytest.raises(ApiError) as refused:
        understood(shop, sql)
    assert refused.value.code == 400
