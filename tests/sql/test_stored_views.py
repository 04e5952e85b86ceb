"""A view stored in a DuckDB file is read in a worker only where it reads that file and tells nothing of the process."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.instance import lock_instance, open_instance
from agnes_mcp.sql.views import View

VIEWS = {
    "fine": ("SELECT a + 1 AS b FROM t", True),
    "over": ("SELECT b FROM fine", True),
    "files": ("SELECT * FROM glob('/etc/*')", False),
    "databases": ("SELECT path FROM duckdb_databases()", False),
    "settings": ("SELECT value FROM duckdb_settings()", False),
    "nested": ("SELECT * FROM (SELECT * FROM settings)", False),
    "catalog": ("SELECT * FROM information_schema.tables", False),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "v.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        for name, (select, _) in VIEWS.items():
            connection.execute(f"CREATE VIEW {name} AS {select}")
    return path


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_that_may_tell_more_than_its_file_is_not_read(path: Path, name: str) -> None:
    view = View("v", "duckdb_table", [str(path)], source_table=name.upper())
    with open_instance(512 * 2**20, 1) as instance:
        if VIEWS[name][1]:
            lock_instance(instance, [view])
            assert instance.execute("FROM v").fetchall() == [(2,)]
        else:
            with pytest.raises(AgnesError) as refused:
                lock_instance(instance, [view])
            assert refused.value.kind == "table_unavailable"
