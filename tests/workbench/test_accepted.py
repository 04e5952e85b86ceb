"""Analytics that an agent writes: admitted, and answered as plain DuckDB answers."""

from __future__ import annotations

import duckdb
import pytest
from support.workbench_cases import Case, Dataset, cases, plain, rows, run, stated_rows

from agnes_mcp.sql import duckdb_lines, instance
from agnes_mcp.workbench.workbench import Workbench

ACCEPTED = cases("accepted.sql")


@pytest.fixture(scope="module")
def oracle(dataset: Dataset) -> duckdb.DuckDBPyConnection:
    """Plain DuckDB, unconfined, over the same files."""
    con = duckdb.connect(config={**duckdb_lines.settings()})
    con.execute("SET TimeZone = 'UTC'")
    instance.make_views(con, dataset.views)
    return con


def test_the_table_of_cases_is_large() -> None:
    assert len(ACCEPTED) >= 80


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: f"line{case.line}")
def test_an_analytic_query_is_answered_as_plain_duckdb_answers(
    case: Case, bench: Workbench, dataset: Dataset, oracle: duckdb.DuckDBPyConnection
) -> None:
    answer = rows(run(bench, case.sql, dataset.views))
    table = oracle.sql(case.sql).to_arrow_table()
    expected = [plain(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    assert sorted(map(repr, answer)) == sorted(map(repr, expected))
    if case.stated:
        assert answer == stated_rows(case)
