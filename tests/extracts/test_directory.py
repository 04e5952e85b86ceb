"""An Agnes directory is served as it is on the disk now, and no SQL that somebody stored in it is run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import duckdb
import psutil
import pytest
from extracts.test_writing import write
from support.agnes import AttachedFile, extract, parquet

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.directory import AgnesDirectory
from agnes_mcp.models import Principal, Table
from agnes_mcp.sources.local import JOB
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse

BQ = ("bq", "bigquery", "project=my-project", "")


@pytest.fixture
def shop(root: Path) -> Path:
    return root / "extracts" / "shop"


def served(root: Path, call: Call, project: str = "my-project") -> tuple[dict[str, Table], dict[str, str]]:
    """Tables by id, and what is not served with the reason."""
    directory = AgnesDirectory(root, project)
    tables = {table.id: table for table in directory.tables(call)}
    return tables, {f"{p.source}.{p.table}": p.reason for p in directory.problems}


def rows_of(table: Table, call: Call) -> int:
    warehouse = Warehouse(memory_limit_bytes=2**27, threads=1)
    try:
        rows = LocalSource(warehouse, Processes(JOB, size=1)).schema(table, call).rows
    finally:
        warehouse.close()
    assert rows is not None
    return rows


def test_files_beside_an_extract_are_served_through_it_and_without_it(root: Path, shop: Path, call: Call) -> None:
    orders = parquet(shop / "data" / "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    parquet(shop / "data" / "loose.parquet")
    for part in range(2):
        parquet(shop / "data" / "parts" / f"{part}.parquet")
    extract(
        shop,
        {"orders": "local", "Parts": "local", "kept": "local"},
        f"CREATE VIEW orders AS SELECT * FROM read_parquet('{orders}')",
        f"CREATE VIEW Parts AS SELECT * FROM read_parquet(['{shop}/data/parts/*.parquet'], union_by_name = true)",
        "CREATE TABLE kept AS SELECT i AS id FROM range(7) AS r(i)",
    )
    parquet(root / "extracts" / "mirror.example.com" / "data" / "people.parquet")
    tables, problems = served(root, call)
    assert problems == {}
    assert {name: rows_of(table, call) for name, table in tables.items()} == {
        "orders": 5,
        "parts": 2,
        "kept": 7,
        "loose": 1,
        "people": 1,
    }
    assert (tables["parts"].name, tables["parts"].description) == ("Parts", "about Parts")


def test_an_extract_that_was_moved_finds_its_rows_beside_it(root: Path, shop: Path, call: Call, tmp_path: Path) -> None:
    first = parquet(tmp_path / "first" / "orders.parquet")
    extract(shop, {"orders": "local"}, f"CREATE VIEW orders AS SELECT * FROM read_parquet('{first}')")
    moved = parquet(shop / "data" / "orders.parquet")
    tables, problems = served(root, call)
    assert (tables["orders"].path, problems) == (str(moved), {})


def test_what_was_written_here_is_served_through_bigquery(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    write(root, bigquery, attached, call)
    tables, problems = served(root, call)
    assert problems == {}
    assert {t.id: (t.source_type, t.query_mode, t.project, t.bucket, t.source_table) for t in tables.values()} == {
        "orders": ("bigquery", "remote", "", "my_dataset", "orders"),
        "odd": ("bigquery", "remote", "", "my_dataset", "Odd-Name_1"),
        "landings": ("bigquery", "remote", "", "my_dataset", "orders_v"),
    }
    assert served(root, call, project="other-project")[0]["orders"].project == "my-project"
    tables, problems = served(root, call, project="")
    assert tables == {}
    assert "data_source.bigquery.project" in problems["bigquery.orders"]


def test_the_place_of_a_remote_table_is_read_from_its_view(
    root: Path, shop: Path, attached: AttachedFile, call: Call
) -> None:
    extract(
        shop,
        {"orders": "remote", "wrapped": "remote", "nowhere": "remote"},
        f"ATTACH '{attached.file}' AS bq (READ_ONLY)",
        'CREATE VIEW orders AS SELECT * FROM bq.my_dataset."Odd-Name_1"',
        "CREATE TEMP MACRO bigquery_query(p, q) AS TABLE SELECT p, q",
        "CREATE VIEW wrapped AS SELECT * FROM bigquery_query('payer-project', 'SELECT * FROM `far-project.ds.t`')",
        attach=BQ,
    )
    tables, problems = served(root, call)
    assert (tables["orders"].bucket, tables["orders"].source_table) == ("my_dataset", "Odd-Name_1")
    assert (tables["wrapped"].project, tables["wrapped"].bucket) == ("far-project", "ds")
    assert list(problems) == ["shop.nowhere"]
    assert "its dataset is not in the extract" in problems["shop.nowhere"]


@pytest.mark.parametrize(
    ("attach", "reason"),
    [
        (("kbc", "keboola", "https://connection.example.com", "KBC_TOKEN"), "no view of it reads a table"),
        (("x", "postgres", "host=db", ""), "not allowed"),
        (("kbc", "keboola", "https://connection.example.com", "AWS_SECRET_ACCESS_KEY"), "may not come from"),
        (("kbc", "keboola", "http://connection.example.com", "KBC_TOKEN"), "not https"),
        (("bq", "bigquery", "project=my-project api_endpoint=evil.example.com", ""), "url is not"),
        (("bq", "bigquery", "project=my-project dataset", ""), "url is not"),
        (('b"q', "bigquery", "project=my-project", ""), "no identifier"),
    ],
)
def test_a_source_is_attached_only_as_the_lists_allow(
    root: Path, shop: Path, call: Call, attach: tuple[str, ...], reason: str
) -> None:
    extract(shop, {"orders": "remote"}, attach=attach)
    tables, problems = served(root, call)
    assert tables == {}
    assert reason in problems["shop.orders"]


OTHERS = [
    ("postgres", "host=db dbname=crm user=agnes", "", "crm", ""),
    ("postgres", "host=db sslmode=verify-full", "CRM_TOKEN", "crm", ""),
    ("postgres", "host=db", "CRM_TOKEN", "", "does not insist on TLS"),
    ("postgres", "host=db passfile=/etc/shadow", "", "", "its url may hold"),
    ("postgres", "postgres://ana:secret@db/crm", "", "", "its url may hold"),
    ("sqlite", "crm.db", "", "crm", ""),
    ("sqlite", "../../crm.db", "", "", "not a file below the folder"),
    ("sqlite", "/etc/passwd", "", "", "not a file below the folder"),
    ("keboola", "https://connection.example.com", "KBC_TOKEN", "", "may not come from"),
]


@pytest.mark.parametrize(("extension", "url", "token_env", "alias", "reason"), OTHERS)
def test_a_table_of_another_source_is_served_by_its_place(
    root: Path, shop: Path, attached: AttachedFile, call: Call, monkeypatch: pytest.MonkeyPatch,
    extension: str, url: str, token_env: str, alias: str, reason: str,
) -> None:  # fmt: skip
    """Which file is read, and where a token goes, is not for the extract to choose freely."""
    monkeypatch.setenv("AGNES_REMOTE_ATTACH_EXTENSIONS", "postgres,sqlite,keboola")
    monkeypatch.setenv("AGNES_REMOTE_ATTACH_TOKEN_ENVS", "CRM_TOKEN")
    extract(
        shop,
        {"orders": "remote"},
        f"ATTACH '{attached.file}' AS crm (READ_ONLY)",
        'CREATE VIEW orders AS SELECT * FROM crm.my_dataset."Odd-Name_1"',
        attach=("crm", extension, url, token_env),
    )
    tables, problems = served(root, call)
    if reason:
        assert tables == {}
        assert reason in problems["shop.orders"]
        return
    (table,) = tables.values()
    place = str(shop / url) if extension == "sqlite" else url
    assert table.attach == (alias, extension, place, token_env)
    assert (table.bucket, table.source_table) == ("my_dataset", "Odd-Name_1")
    assert (table.source_type, table.query_mode, table.dialect) == ("attached", "remote", "duckdb")


def test_the_lists_can_be_replaced_and_an_empty_one_is_the_default(
    root: Path, shop: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(shop, {"orders": "remote"}, attach=BQ)
    monkeypatch.setenv("AGNES_REMOTE_ATTACH_EXTENSIONS", "keboola, postgres")
    assert "not allowed" in served(root, call)[1]["shop.orders"]
    monkeypatch.setenv("AGNES_REMOTE_ATTACH_EXTENSIONS", "")
    assert "dataset" in served(root, call)[1]["shop.orders"]


def test_sql_of_an_extract_is_never_run(root: Path, shop: Path, call: Call, tmp_path: Path) -> None:
    outside = parquet(tmp_path / "private" / "secret.parquet")
    own = parquet(shop / "data" / "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    (shop / "data" / "link.parquet").symlink_to(outside)
    views = {
        "absolute": f"SELECT * FROM read_parquet('{outside}')",
        "upward": f"SELECT * FROM read_parquet('{shop}/data/../../../../private/secret.parquet')",
        "replacement": f"SELECT * FROM '{outside}'",
        "text": f"SELECT * FROM read_text('{outside}')",
        "linked": f"SELECT * FROM read_parquet('{shop}/data/link.parquet')",
        "everything": f"SELECT * FROM read_parquet('{shop}/data/*.parquet')",
        "joined": f"SELECT * FROM read_parquet('{own}') AS a JOIN read_parquet('{outside}') AS b USING (id)",
        "inside": f"SELECT *, (SELECT count(*) FROM read_text('{outside}')) FROM read_parquet('{own}')",
        "two": f"SELECT * FROM read_parquet(['{own}', '{outside}'])",
        "named": f"SELECT * FROM read_parquet('{own}', filename = true)",
    }
    extract(
        shop,
        {**dict.fromkeys(views, "local"), "computed": "local", "orders": "local"},
        *(f"CREATE VIEW {name} AS {sql}" for name, sql in views.items()),
        "CREATE TABLE computed (id INTEGER, twice INTEGER GENERATED ALWAYS AS (id * 2))",
        f"CREATE VIEW orders AS SELECT * FROM read_parquet('{own}')",
        f"CREATE MACRO read_parquet(file) AS TABLE SELECT 'hidden' AS id, content FROM read_text('{outside}')",
    )
    tables, problems = served(root, call)
    assert {name: table.path for name, table in tables.items()} == {"orders": str(own)}
    assert rows_of(tables["orders"], call) == 5
    assert set(problems) == {f"shop.{name}" for name in [*views, "computed", ""]}
    assert not any(str(tmp_path) in reason for reason in problems.values())


def test_views_that_compute_over_tables_of_their_own_file_are_served(
    root: Path, shop: Path, call: Call, tmp_path: Path
) -> None:
    outside = parquet(tmp_path / "private" / "secret.parquet")
    served_views = {
        "plain": "SELECT * FROM sales",
        "joined": "SELECT s.id, p.name FROM sales AS s JOIN people AS p ON p.id = s.id % 2",
        "by_person": "SELECT id % 2 AS person, sum(net(amount)) AS net FROM sales GROUP BY ALL",
        "over_views": "SELECT person FROM by_person WHERE net > 1",
        "through_macro": "SELECT * FROM larger(3)",
    }
    refused = {
        "reads_files": (f"SELECT * FROM sales, read_parquet('{outside}')", "it calls read_parquet,"),
        "over_refused": ("SELECT * FROM reads_files", "it calls read_parquet,"),
        "settings": ("SELECT current_setting('temp_directory') AS x FROM sales", "it calls current_setting,"),
        "attached": ("SELECT * FROM sales JOIN bq.d.t USING (id)", 'it reads "bq", which is not in its file'),
        "macro": ("SELECT told('threads') FROM sales", "it calls current_setting,"),
        "computed": ("SELECT b FROM kept", 'a column of "kept", which it reads, is computed'),
    }
    extract(
        shop,
        dict.fromkeys([*served_views, *refused], "local"),
        "CREATE TABLE sales AS SELECT i AS id, i * 1.5 AS amount FROM range(6) AS r(i)",
        "CREATE TABLE people AS SELECT * FROM (VALUES (0, 'Ana'), (1, 'Jiří')) AS v(id, name)",
        "CREATE TABLE kept (a INTEGER, b VARCHAR GENERATED ALWAYS AS (current_setting('threads')))",
        "CREATE MACRO net(x) AS x / 1.21",
        "CREATE MACRO larger(x) AS TABLE SELECT id FROM sales WHERE amount > x",
        "CREATE MACRO told(x) AS current_setting(x)",
        "ATTACH ':memory:' AS bq; CREATE SCHEMA bq.d; CREATE TABLE bq.d.t (id INTEGER)",
        *(f"CREATE VIEW {name} AS {sql}" for name, sql in served_views.items()),
        *(f"CREATE VIEW {name} AS {sql}" for name, (sql, _) in refused.items()),
    )
    tables, problems = served(root, call)
    assert {name: found[0] for name, found in read_all(tables, call).items()} == {
        "plain": 6,
        "joined": 6,
        "by_person": 2,
        "over_views": 2,
        "through_macro": 3,
    }
    assert {name.partition(".")[2]: refused[name.partition(".")[2]][1] in why for name, why in problems.items()} == {
        **dict.fromkeys(refused, True)
    }
    assert not any(str(tmp_path) in reason for reason in problems.values())


def read_all(tables: dict[str, Table], call: Call) -> dict[str, tuple[int, list[str]]]:
    """Of each table, its rows and its columns, as the local source reads them."""
    warehouse, processes = Warehouse(memory_limit_bytes=2**27, threads=1), Processes(JOB, size=1)
    source, found = LocalSource(warehouse, processes), {}
    try:
        for name, table in tables.items():
            schema = source.schema(table, call)
            columns = [column.name for column in schema.columns]
            rows = source.preview(table, schema, columns, 100, call)
            assert rows is not None
            found[name] = rows.num_rows, columns
    finally:
        processes.close()
        warehouse.close()
    return found


def test_a_view_that_takes_for_ever_to_bind_ends_with_its_call(root: Path, shop: Path) -> None:
    """Its constants are evaluated when it is bound, and nothing interrupts that."""
    extract(shop, {"bomb": "local", "sales": "local"}, "CREATE TABLE sales AS SELECT 1 AS id")
    with duckdb.connect(str(shop / "extract.duckdb")) as connection:
        connection.execute("CREATE MACRO much() AS 1")
        connection.execute("CREATE VIEW bomb AS SELECT id FROM sales WHERE id = length(repeat('longer', much()))")
        connection.execute("CREATE OR REPLACE MACRO much() AS 2000000000")
    tables, problems = served(root, Call("catalog", Principal("me"), timeout_s=60))
    assert (set(tables), problems) == ({"bomb", "sales"}, {})
    before = psutil.Process().memory_info().rss
    with pytest.raises(AgnesError) as failed:
        read_all({"bomb": tables["bomb"]}, Call("schema", Principal("me"), timeout_s=3))
    assert failed.value.kind in ("timeout", "query_out_of_memory", "query_failed")
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


def test_a_meta_that_is_no_table_is_not_asked(root: Path, shop: Path, call: Call, tmp_path: Path) -> None:
    outside = parquet(tmp_path / "secret.parquet", "SELECT 'x' AS table_name")
    file = extract(shop, {})
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"DROP TABLE _meta; CREATE VIEW _meta AS SELECT * FROM read_parquet('{outside}')")
    tables, problems = served(root, call)
    assert tables == {}
    assert "no table `_meta`" in problems["shop."]


def _damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "half":
        file.write_bytes(content[: len(content) // 2])
    elif how == "garbage":
        file.write_bytes(os.urandom(len(content)))
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "middle":
        file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    else:
        file.with_name("extract.duckdb.wal").write_bytes(b"a writer was killed")


@pytest.mark.parametrize("how", ["half", "garbage", "empty", "middle", "log"])
def test_a_damaged_extract_is_told_and_the_rest_is_served(
    root: Path, shop: Path, call: Call, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    file = extract(shop, {"orders": "local"}, "CREATE TABLE orders AS SELECT 1 AS id")
    parquet(shop / "data" / "beside.parquet")
    parquet(root / "extracts" / "other" / "data" / "people.parquet")
    _damage(file, how)
    directory = AgnesDirectory(root)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert {table.id for table in directory.tables(call)} == {"beside", "people"}
    assert [problem.source for problem in directory.problems] == ["shop"]
    assert len(caplog.records) == 1
    assert str(root) not in caplog.text


def test_while_an_extract_is_damaged_its_tables_stay(root: Path, shop: Path, call: Call) -> None:
    orders = parquet(shop / "data" / "orders.parquet")
    file = extract(shop, {"sales": "local"}, f"CREATE VIEW sales AS SELECT * FROM read_parquet('{orders}')")
    directory = AgnesDirectory(root)
    assert {table.id for table in directory.tables(call)} == {"orders", "sales"}
    whole = file.read_bytes()
    file.write_bytes(whole[:5000])
    assert {table.id for table in directory.tables(call)} == {"orders", "sales"}
    assert len(directory.problems) == 1
    file.write_bytes(whole)
    assert {table.id for table in directory.tables(call)} == {"orders", "sales"}
    assert list(directory.problems) == []


def test_a_file_that_is_half_written_stays_a_table_and_is_told(root: Path, shop: Path, call: Call) -> None:
    file = parquet(shop / "data" / "orders.parquet", "SELECT i AS id FROM range(999) AS r(i)")
    file.write_bytes(file.read_bytes()[:-20])
    tables, problems = served(root, call)
    assert "still being written" in problems["shop.orders"]
    with pytest.raises(AgnesError, match="table_unavailable"):
        rows_of(tables["orders"], call)


def test_changes_are_noticed_and_unchanged_files_are_not_read_again(
    root: Path, shop: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = AgnesDirectory(root)
    assert directory.tables(call) == []
    extract(shop, {"orders": "local"}, "CREATE TABLE orders AS SELECT 1 AS id")
    assert [table.id for table in directory.tables(call)] == ["orders"]
    monkeypatch.setattr("agnes_mcp.extracts.inspection.CHILD", ("-c", "raise SystemExit('not to be asked')"))
    assert [table.id for table in directory.tables(call)] == ["orders"]
    monkeypatch.undo()
    extract(shop, {"people": "local"}, "CREATE TABLE people AS SELECT 1 AS id")
    assert [table.id for table in directory.tables(call)] == ["people"]
    parquet(shop / "data" / "loose.parquet")
    assert [table.id for table in directory.tables(call)] == ["loose", "people"]
    (shop / "extract.duckdb").unlink()
    assert [table.id for table in directory.tables(call)] == ["loose"]


def test_the_first_source_keeps_a_name(root: Path, call: Call) -> None:
    for source in ("b", "a", "c"):
        parquet(root / "extracts" / source / "data" / "Orders.parquet")
    tables, problems = served(root, call)
    assert tables["orders"].path == str(root / "extracts" / "a" / "data" / "Orders.parquet")
    assert {name: "belongs to the source 'a'" in reason for name, reason in problems.items()} == {
        "b.Orders": True,
        "c.Orders": True,
    }


def test_folders_and_files_of_other_names_are_nobodys(root: Path, call: Call) -> None:
    for folder in ("..hidden", "with space", "-x"):
        parquet(root / "extracts" / folder / "data" / "orders.parquet")
    parquet(root / "extracts" / "shop" / "data" / "no-name.parquet")
    parquet(root / "extracts" / "shop" / "data" / ".orders.parquet")
    (root / "extracts" / "file").write_text("not a folder")
    tables, problems = served(root, call)
    assert tables == {}
    assert list(problems) == ["shop."]


def test_a_call_that_is_over_ends_the_reading(root: Path, shop: Path) -> None:
    extract(shop, {"orders": "local"}, "CREATE TABLE orders AS SELECT 1 AS id")
    with pytest.raises(AgnesError, match="timeout"):
        AgnesDirectory(root).tables(Call("catalog", Principal("me"), timeout_s=0))
