"""A statement over tables of very many columns sees those that it names, and answers as if it saw them all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.workbench_cases import opened, plain, rows, run

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import views as views_module
from agnes_mcp.sql.views import View, make_view
from agnes_mcp.workbench.mentions import names_in
from agnes_mcp.workbench.workbench import Workbench

#: What is wide, and a column of its own for each way in which a name can be meant.
_WIDE = views_module._MANY_COLUMNS + 100
_NUMBERS = ", ".join(f"i * {n} AS c{n}" for n in range(_WIDE))
_TABLES = {
    "wide": f"SELECT i AS id, {_NUMBERS}, {{'deep': i, 'c3': -i}} AS s, [i, i + 1] AS list, 'w' || i AS \"My text\", "
    "encode('é' || i) AS bytes, i AS wide_id, i + 100 AS outer_only FROM range(4) AS r(i)",
    "other": f"SELECT i AS id, i + 7 AS o, {_NUMBERS.replace(' AS c', ' AS d')}, i * 10 AS c2, i + 5 AS wide_id, "
    'i + 200 AS "outer_only\u200b", [1, 2] AS s FROM range(1, 4) AS r(i)',
}
_ANSWERED = """
SELECT c7 FROM wide ORDER BY c7
SELECT C7 AS seven, "my text" FROM wide WHERE seven > 7 ORDER BY 1
SELECT count(*) FROM wide
SELECT count(*), sum(c7) FROM wide
SELECT count(*) FROM wide, other
SELECT 1 FROM wide LIMIT 1
FROM wide SELECT max(c599)
FROM wide
TABLE wide
SELECT * FROM wide ORDER BY id
SELECT wide.* FROM wide JOIN other USING (id) WHERE id = 2
SELECT * EXCLUDE (c1) FROM wide ORDER BY id
SELECT COLUMNS('c[12]$') FROM wide ORDER BY id
SELECT sum(COLUMNS(lambda c: c LIKE 'c1_')) FROM wide
SELECT count(*) FROM wide NATURAL JOIN other
SELECT c1, d1 FROM wide JOIN other USING (id) ORDER BY 1
SELECT c1, o FROM wide w JOIN other o ON w.id = o.id ORDER BY 1
SELECT w FROM wide w WHERE id = 2
SELECT wide FROM wide WHERE id = 2
SELECT struct_extract(w, 'c5') FROM wide AS w WHERE w.id = 2
SELECT s.deep, s['c3'] FROM wide ORDER BY 1
SELECT s.c3 FROM wide ORDER BY 1
SELECT wide.s.deep FROM wide ORDER BY 1
SELECT unnest(list) FROM wide ORDER BY 1
SELECT unnest(s) FROM wide ORDER BY 1
SELECT list_transform(list, lambda c5: c5 + c4) FROM wide ORDER BY id
SELECT a, b FROM wide AS x(a, b) ORDER BY a
SELECT x.a FROM wide AS x(a) ORDER BY a
SELECT (SELECT max(outer_only) FROM other) FROM wide ORDER BY 1
SELECT (SELECT c9 FROM other WHERE o = 8) FROM wide ORDER BY 1
SELECT id FROM wide WHERE EXISTS (SELECT 1 FROM other WHERE wide_id = id + 5) ORDER BY id
SELECT id FROM wide WHERE id IN (SELECT id FROM other) ORDER BY id
WITH a AS (SELECT c1, c2 FROM wide) SELECT * FROM a ORDER BY 1
WITH a AS (FROM wide) SELECT c3 FROM a ORDER BY 1
WITH a(x, y) AS (SELECT c1, c2 FROM wide) SELECT y FROM a ORDER BY 1
SELECT c1 FROM wide UNION ALL BY NAME SELECT c2, o FROM other ORDER BY ALL
SELECT c1, count(*) FROM wide GROUP BY ALL ORDER BY ALL
SELECT DISTINCT ON (c1) c1, c2 FROM wide ORDER BY c1, c2
SELECT c1, row_number() OVER win FROM wide WINDOW win AS (ORDER BY c4 DESC) ORDER BY 1
SELECT c1 FROM wide QUALIFY rank() OVER (ORDER BY c6) = 2
SELECT count(*) FROM (PIVOT other ON d1 IN (1, 2) USING sum(o))
SELECT count(*) FROM (UNPIVOT (SELECT id, c1, c2 FROM wide) ON c1, c2)
FROM (SELECT c1, c2 FROM wide) PIVOT (sum(c2) FOR c1 IN (1, 2))
SELECT c1 FROM wide WHERE bytes = encode('é2')
SELECT octet_length(bytes) FROM wide ORDER BY 1
SELECT c1 AS c2, c2 + 1 AS d FROM wide ORDER BY c2
SELECT c1 FROM wide ORDER BY c8 DESC LIMIT 2
SELECT max(c1) FILTER (c4 > 3) FROM wide HAVING max(c6) > 3
SELECT CASE WHEN c1 > 1 THEN c2 ELSE c3 END FROM wide ORDER BY 1
""".strip().splitlines()
_REFUSED = """
SELECT absent FROM wide
SELECT c60 FROM wide, other WHERE abset = 1
SELECT id FROM wide, other
SELECT wide_id FROM wide JOIN other USING (id)
SELECT outer_only FROM wide JOIN other USING (id)
SELECT rowid FROM wide
SELECT wide.o FROM wide
SELECT file_row_number FROM wide
""".strip().splitlines()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    folder = tmp_path_factory.mktemp("wide")
    with duckdb.connect() as connection:
        for name, sql in _TABLES.items():
            connection.execute(f"COPY ({sql}) TO '{folder / name}.parquet'")
    return [View(name, "parquet", [str(folder / f"{name}.parquet")]) for name in _TABLES]


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    """Room for every column at once."""
    with opened(pool_size=1, memory_bytes=2**30, threads=1, timeout_s=30) as bench:
        yield bench


@pytest.fixture(scope="module")
def whole(tables: list[View]) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same views with all of their columns."""
    with duckdb.connect() as connection:
        for view in tables:
            make_view(connection, view)
        yield connection


@pytest.mark.parametrize("sql", _ANSWERED)
def test_it_answers_as_if_it_saw_every_column(
    sql: str, bench: Workbench, tables: list[View], whole: duckdb.DuckDBPyConnection
) -> None:
    found = run(bench, sql, tables)
    expected = whole.execute(sql)
    assert [name.casefold() for name in found.schema.names[:3]] == [
        name.casefold() for name, *_ in (expected.description or [])[:3]
    ]
    assert rows(found) == [[plain(value) for value in row] for row in expected.fetchall()]


@pytest.mark.parametrize("sql", _REFUSED)
def test_it_is_refused_as_if_it_saw_every_column(
    sql: str, bench: Workbench, tables: list[View], whole: duckdb.DuckDBPyConnection
) -> None:
    with pytest.raises(duckdb.Error) as expected:
        whole.execute(sql)
    with pytest.raises(AgnesError) as refused:
        run(bench, sql, tables)
    assert refused.value.kind == "query_failed"
    assert str(expected.value).splitlines()[0][:60] in refused.value.message


def test_a_query_after_a_refused_one_reads_its_own_tables_alone(bench: Workbench, tables: list[View]) -> None:
    with pytest.raises(AgnesError):
        run(bench, "SELECT absent FROM wide", tables)
    with pytest.raises(AgnesError) as refused:
        run(bench, "SELECT count(*) FROM wide", tables[1:])
    assert refused.value.kind == "table_not_found"


def test_a_column_that_was_not_granted_stays_unseen_among_many(bench: Workbench, tables: list[View]) -> None:
    granted = [f"c{n}" for n in range(_WIDE)]
    views = [View(tables[0].name, "parquet", tables[0].paths, columns=granted)]
    assert rows(run(bench, "SELECT sum(c1) FROM wide", views)) == [[6]]
    with pytest.raises(AgnesError) as refused:
        run(bench, "SELECT sum(outer_only) FROM wide", views)
    assert refused.value.kind == "query_failed"


def test_the_view_itself_has_the_named_columns_alone(tables: list[View]) -> None:
    with duckdb.connect() as connection:
        make_view(connection, tables[0], statement_names=lambda: frozenset({"c7", "my text", "bytes", "none"}))
        assert connection.sql("FROM wide").columns == ["c7", "My text", "bytes"]
        assert connection.execute("SELECT count(*) FROM wide WHERE bytes = encode('é2')").fetchall() == [(1,)]
        make_view(connection, tables[0], statement_names=frozenset[str])
        assert connection.sql("FROM wide").columns == ["id"]


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT a, sum(T.B) FROM t GROUP BY a", {"a", "b", "t", "sum"}),
        ("SELECT a FROM t JOIN u USING (k)", {"a", "k"}),
        ("SELECT * FROM t", None),
        ("SELECT t FROM t", None),
        ("SELECT x FROM t AS x", None),
        ("SELECT a FROM t NATURAL JOIN u", None),
        ("SELECT a FROM t AS x(a)", None),
        ("SELECT 1 WHERE EXISTS (FROM t)", None),
    ],
)
def test_names_are_every_text_of_the_tree(sql: str, named: set[str] | None) -> None:
    row: Any = duckdb.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0]
    found = names_in(json.loads(row[0]))
    assert (found is None) if named is None else (found is not None and named <= found)


def test_a_narrow_table_asks_for_no_names(tmp_path: Path) -> None:
    def asked() -> frozenset[str]:
        raise AssertionError("a few columns are bound as quickly as one")

    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS a, 2 AS b) TO '{tmp_path / 't.parquet'}'")
        make_view(connection, View("t", "parquet", [str(tmp_path / "t.parquet")]), statement_names=asked)
        assert connection.sql("FROM t").columns == ["a", "b"]
