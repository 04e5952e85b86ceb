"""The views are the grant: what is listed, when, and under which names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from support.workbench_cases import Dataset, rows, run

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal
from agnes_mcp.sql.views import View
from agnes_mcp.workbench.workbench import Workbench


def test_files_are_listed_only_for_the_tables_that_are_read(bench: Workbench, dataset: Dataset) -> None:
    listed: list[str] = []

    def listing(view: View) -> Callable[[], list[str]]:
        return lambda: [listed.append(view.name) or "", *view.files()][1:]  # type: ignore[func-returns-value]

    views = [View(view.name, view.kind, listing(view), view.options, None, view.source_table) for view in dataset.views]
    assert rows(run(bench, "SELECT count(*) FROM rates", views)) == [[2]]
    assert listed == ["rates"]


@pytest.mark.parametrize("kind", ["table_unavailable", "table_locked", "storage_failed"])
def test_files_that_cannot_be_listed_cost_no_later_caller_anything(small: Workbench, kind: str) -> None:
    failure = AgnesError(kind, "The snapshot is damaged.", "Refresh it.", {"name": "t"})

    def fail() -> list[str]:
        raise failure

    run(small, "SELECT 1", [])
    before = small.processes.state()["processes"]
    with pytest.raises(AgnesError) as refused:
        run(small, "SELECT * FROM t", [View("t", "parquet", fail)])
    assert refused.value is failure
    assert small.processes.state()["processes"] == before, "it was told, and goes on"
    assert rows(run(small, "SELECT 1", [], call=Call("query", Principal("bob"), timeout_s=5))) == [[1]]


def test_columns_may_be_granted_one_by_one(bench: Workbench, dataset: Dataset) -> None:
    view = dataset.views[0]
    views = [View(view.name, view.kind, view.paths, columns=["id", "country"])]
    assert run(bench, "SELECT * FROM orders LIMIT 1", views).schema.names == ["id", "country"]
    with pytest.raises(AgnesError):
        run(bench, "SELECT amount FROM orders", views)


def test_names_and_paths_with_quotes_are_only_names_and_paths(bench: Workbench, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder"'
    folder.mkdir()
    path = folder / "a'b.parquet"
    escaped = str(path).replace("'", "''")
    duckdb.execute(f'COPY (SELECT 1 AS "x""y") TO \'{escaped}\'').fetchall()
    views = [View('odd"name', "parquet", [str(path)], columns=['x"y'])]
    assert rows(run(bench, 'SELECT "x""y" FROM "odd""name"', views)) == [[1]]


def test_tables_of_one_duckdb_file_can_be_joined(bench: Workbench, dataset: Dataset) -> None:
    """One file is opened once."""
    file = dataset.views[3].files()
    views = [View(name, "duckdb_table", file, source_table=name) for name in ("customers", "payroll")]
    assert rows(run(bench, "SELECT count(*) FROM customers, payroll", views)) == [[5]]
