"""A view stored in a DuckDB file is read in a worker only where it reads that file and tells nothing of the process."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.instance import lock_instance, open_instance
from agnes_mcp.sql.stored_views import StoredViews
from agnes_mcp.sql.views import View

MACROS = [
    "CREATE MACRO twice(x) AS x * 2",
    "CREATE MACRO above(n := 0) AS TABLE SELECT a FROM t WHERE a > n",
    "CREATE MACRO deep(x) AS twice(twice(x)) + (SELECT count(*) FROM t)",
    "CREATE MACRO many(x) AS x, (x, y) AS twice(x) + y",
    "CREATE MACRO tells(x) AS current_setting(x)",
    "CREATE MACRO half(x) AS x, (x, y) AS current_setting(y)",
    "CREATE MACRO reaches() AS TABLE SELECT count(*) AS a FROM glob('/etc/*')",
    "CREATE MACRO over_tells(x) AS twice(tells(x))",
    "CREATE MACRO lower(x) AS 'hidden'",
    "CREATE MACRO read_text(x) AS TABLE SELECT 1 AS content",
    "CREATE SCHEMA other",
    "CREATE MACRO other.version() AS 'mine'",
    "CREATE TABLE other.only_there AS SELECT 2 AS a",
    "CREATE TABLE computed (a INTEGER, b VARCHAR GENERATED ALWAYS AS (current_setting('temp_directory')))",
    "CREATE TABLE \"k.csv\" AS SELECT 2 AS a",
    "CREATE TYPE mood AS ENUM ('2', 'b')",
    "CREATE SEQUENCE numbers",
]  # fmt: skip
#: All of these are the one row 2.
CLOSED = {
    "plain": "SELECT a + 1 AS b FROM t",
    "over": "SELECT b FROM plain",
    "joined": "SELECT x.a + y.a FROM t AS x JOIN (SELECT a FROM t) AS y USING (a)",
    "grouped": "SELECT count(*) FROM (SELECT a FROM t UNION ALL SELECT a FROM t) GROUP BY ALL HAVING count(*) > 1",
    "windowed": "SELECT a + row_number() OVER (ORDER BY a) FROM t QUALIFY rank() OVER (ORDER BY a) = 1",
    "with_ctes": "WITH x AS (SELECT a FROM t), y AS (SELECT a + 1 AS b FROM x) SELECT b FROM y",
    "recursive": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2) SELECT max(n) FROM r",
    "listed": "SELECT len([x + a FOR x IN [1, 2]]) FROM t",
    "applied": "SELECT list_sum(list_transform([a], lambda x: twice(x))) FROM t",
    "of_its_type": "SELECT ('2'::mood)::INTEGER",
    "scalar_macro": "SELECT twice(a) FROM t",
    "table_macro": "SELECT a + 1 FROM above()",
    "macro_with_argument": "SELECT a + 1 FROM above(n := 0)",
    "macro_over_macro": "SELECT deep(a) - 3 FROM t",
    "overload": "SELECT many(a) + many(a, -1) FROM t",
    "of_a_schema": "SELECT a FROM other.only_there",
    "quoted": "SELECT a FROM \"k.csv\"",
    "hides_one_of_the_list": "SELECT 2 WHERE lower('A') = 'hidden'",
    "pivoted": "SELECT \"1\" + 1 FROM (PIVOT t ON a IN (1) USING count(*))",
    "sideways": "SELECT u + 1 FROM t, LATERAL (SELECT unnest([a]) AS u)",
    "made": "SELECT 2 FROM range(1)",
    "printed": "SELECT printf('%d', a + 1)::INTEGER FROM t",
}  # fmt: skip
OPEN = {
    "files": ("SELECT * FROM glob('/etc/*')", "it calls glob,"),
    "databases": ("SELECT path FROM duckdb_databases()", "it calls duckdb_databases,"),
    "settings": ("SELECT value FROM duckdb_settings()", "it calls duckdb_settings,"),
    "nested": ("SELECT * FROM (SELECT * FROM settings)", "it calls duckdb_settings,"),
    "catalog": ("SELECT * FROM information_schema.tables", '"tables", which is no table'),
    "engines_view": ("SELECT * FROM duckdb_views", '"duckdb_views", which is no table'),
    "setting": ("SELECT current_setting('temp_directory')", "it calls current_setting,"),
    "in_where": ("SELECT 1 FROM t WHERE current_setting('temp_directory') = 'x'", "it calls current_setting,"),
    "in_case": ("SELECT CASE WHEN a = 1 THEN current_query() END FROM t", "it calls current_query,"),
    "in_lambda": ("SELECT list_transform([1], lambda x: current_setting('threads'))", "it calls current_setting,"),
    "in_order": ("SELECT a FROM t ORDER BY current_setting('threads')", "it calls current_setting,"),
    "in_limit": ("SELECT a FROM t LIMIT current_setting('threads')::INTEGER", "it calls current_setting,"),
    "in_cte": ("WITH x AS (SELECT getvariable('v') AS v) SELECT v FROM x", "it calls getvariable,"),
    "in_subquery": ("SELECT (SELECT current_setting('threads')) FROM t", "it calls current_setting,"),
    "in_join": ("SELECT x.a FROM t AS x JOIN t AS y ON current_setting('threads') = 'x'", "it calls current_setting,"),
    "in_aggregate": ("SELECT max(current_setting('threads')) FROM t", "it calls current_setting,"),
    "in_filter": ("SELECT count(*) FILTER (current_setting('threads') = 'x') FROM t", "it calls current_setting,"),
    "in_window": ("SELECT max(a) OVER (ORDER BY current_setting('threads')) FROM t", "it calls current_setting,"),
    "in_qualify": ("SELECT a FROM t QUALIFY row_number() OVER () = current_setting('threads')", "it calls current_"),
    "in_having": ("SELECT count(*) FROM t HAVING current_setting('threads') = 'x'", "it calls current_setting,"),
    "in_values": ("SELECT * FROM (VALUES (current_setting('threads'))) AS v(x)", "it calls current_setting,"),
    "in_argument": ("SELECT * FROM range(current_setting('threads')::INTEGER)", "it calls current_setting,"),
    "upper_case": ("SELECT CURRENT_SETTING('threads')", "it calls current_setting,"),
    "of_main": ("SELECT main.current_setting('threads')", "it calls current_setting,"),
    "of_system": ("SELECT system.main.current_setting('threads')", "it calls current_setting,"),
    "macro": ("SELECT tells('threads')", "it calls current_setting,"),
    "macro_over": ("SELECT over_tells('threads')", "it calls current_setting,"),
    "other_overload": ("SELECT half(1)", "it calls current_setting,"),
    "table_macro_over_files": ("SELECT * FROM reaches()", "it calls glob,"),
    "macro_that_hides": ("SELECT * FROM read_text('/etc/passwd')", "it calls read_text,"),
    "other_schemas_macro": ("SELECT version() FROM t", "it calls version,"),
    "by_name": ("SELECT * FROM query_table('t')", "it calls query_table,"),
    "by_text": ("SELECT * FROM query('SELECT 1')", "it calls query,"),
    "sequence": ("SELECT nextval('numbers')", "it calls nextval,"),
    "computed_column": ("SELECT b FROM computed", 'a column of "computed", which it reads, is computed'),
    "gone": ("SELECT * FROM gone_later", '"gone_later", which is no table'),
    "file_of_a_gone_table": ("SELECT * FROM \"/etc/hosts.csv\"", "it reads a file or place, which is no table"),
    "cte_of_itself": ("WITH gone_later AS (SELECT * FROM gone_later) SELECT * FROM gone_later", '"gone_later", which'),
    "cte_elsewhere": ("SELECT * FROM (WITH gone_later AS (SELECT 1) SELECT 1), gone_later", '"gone_later", which'),
    "described": ("SELECT * FROM (DESCRIBE t)", "a part that is not understood"),
    "waits": ("SELECT sleep_ms(10)", "it calls sleep_ms,"),
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "v.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        for name in ("gone_later", '"/etc/hosts.csv"'):
            connection.execute(f"CREATE TABLE {name} AS SELECT 1 AS a")
        connection.execute("SET VARIABLE v = 1")
        for macro in MACROS:
            connection.execute(macro)
        for name, select in {**CLOSED, **{name: select for name, (select, _) in OPEN.items()}}.items():
            connection.execute(f"CREATE VIEW {name} AS {select}")
        for name in ("gone_later", '"/etc/hosts.csv"'):
            connection.execute(f"DROP TABLE {name}")
    return path


def view(path: Path, name: str) -> View:
    return View("v", "duckdb_table", [str(path)], source_table=name.upper())


@pytest.mark.parametrize("name", CLOSED)
def test_a_view_of_its_own_file_is_read(path: Path, name: str) -> None:
    with open_instance(512 * 2**20, 1) as instance:
        lock_instance(instance, [view(path, name)])
        assert instance.execute("FROM v").fetchall() == [(2,)]


@pytest.mark.parametrize("name", OPEN)
def test_a_view_that_may_tell_more_than_its_file_is_not_read(path: Path, name: str) -> None:
    with open_instance(512 * 2**20, 1) as instance:
        with pytest.raises(AgnesError) as refused:
            lock_instance(instance, [view(path, name)])
        assert refused.value.kind == "table_unavailable"
        assert str(path.parent) not in str(refused.value)


@pytest.mark.parametrize("name", OPEN)
def test_why_it_is_not_read_is_told_without_a_place(path: Path, name: str) -> None:
    with duckdb.connect() as connection:  # whose own functions no macro of the file hides
        connection.execute(f"ATTACH '{path}' AS f (READ_ONLY)")
        told = StoredViews(connection, "f").opening("main", name)
    assert OPEN[name][1] in told
    assert "/etc" not in told


def test_views_that_stand_on_too_many_others_are_not_read(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "deep.duckdb")) as connection:
        connection.execute("CREATE TABLE v0 AS SELECT 2 AS a; CREATE MACRO m0(x) AS x")
        for number in range(1, 25):
            connection.execute(f"CREATE VIEW v{number} AS SELECT a FROM v{number - 1}")
            connection.execute(f"CREATE MACRO m{number}(x) AS m{number - 1}(x)")
        connection.execute("CREATE VIEW macros AS SELECT m24(1)")
        stored = StoredViews(connection, "deep")
        assert stored.opening("main", "v10") == ""
        assert stored.opening("main", "v24") == stored.opening("main", "macros") == "it stands on more than 16 others"
        assert stored.opening("main", "none") == "there is no such view"
