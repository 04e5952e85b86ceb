"""Tables behind another extension of DuckDB, in a real process; a DuckDB file stands for the extension's source.

With `AGNES_TEST_DUCKDB` (a folder with a DuckDB that has extensions, see `make test-extension-sqlite`) the last test
attaches a real SQLite file with the real extension.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa
import pytest
from support.extension_double import COMMAND, FileStatements
from support.waiting import soon, wait_until

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Principal, Statement, Table
from agnes_mcp.sources.extensions.source import ExtensionSource
from agnes_mcp.sources.extensions.statements import Attach, AttachStatements
from agnes_mcp.sql.names import identifier, literal

pytestmark = pytest.mark.slow

ROWS = 50_000
FREE = Price(scan_bytes=0, reserved_bytes=0)
Open = Callable[..., ExtensionSource]


def call(timeout_s: float | None = 60) -> Call:
    return Call("scan", Principal("ana@example.com"), timeout_s=timeout_s)


@pytest.fixture
def url(tmp_path: Path) -> str:
    file = tmp_path / "crm.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA sales")
        connection.execute(f"CREATE TABLE sales.deals AS SELECT i AS id, 'deal ' || i AS title FROM range({ROWS}) t(i)")
        connection.execute("CREATE TABLE people AS SELECT 1::HUGEINT AS id, 'Ana' AS name")
    return str(file)


@pytest.fixture
def open_source() -> Iterator[Open]:
    made: list[ExtensionSource] = []

    def make(fault: str = "") -> ExtensionSource:
        made.append(ExtensionSource(memory_bytes=2**30, threads=2, statements=FileStatements(fault), command=COMMAND))
        return made[-1]

    yield make
    for source in made:
        source.close()


def deals(url: str, token_env: str = "") -> Table:
    return Table(
        id="deals", source_type="attached", query_mode="remote", bucket="sales", source_table="deals",
        attach=("crm", "postgres", url, token_env),
    )  # fmt: skip


def asked(where: str = "") -> Statement:
    tail = f" WHERE {where}" if where else ""
    return Statement(
        sql=f'SELECT "title", "id" FROM "deals"{tail}', dialect="duckdb", columns=["title", "id"],
        source_columns=["title", "id"], predicate_sql=where,
    )  # fmt: skip


def read(source: ExtensionSource, table: Table, statement: Statement, on: Call | None = None) -> pa.Table:
    schema = source.schema(table, call())
    with source.read(table, schema, statement, FREE, on or call()) as reading:
        return pa.Table.from_batches(list(reading), reading.schema)


def pids(source: ExtensionSource) -> list[int]:
    return [pid for known in source._aliases.values() for pid in known.processes.state()["processes"]]


def test_columns_rows_and_conditions_are_those_of_the_source(open_source: Open, url: str) -> None:
    source, table = open_source(), deals(url)
    assert [(c.name, c.type) for c in source.schema(table, call()).columns] == [("id", "BIGINT"), ("title", "VARCHAR")]
    assert read(source, table, asked()).num_rows == ROWS
    assert read(source, table, asked('"id" < 2')).to_pylist() == [
        {"title": "deal 0", "id": 0},
        {"title": "deal 1", "id": 1},
    ]
    first = source.preview(table, source.schema(table, call()), ["id"], 3, call())
    assert first is not None
    assert first["id"].to_pylist() == [0, 1, 2]
    assert source.price(table, source.schema(table, call()), asked(), call()).scan_bytes == 0
    assert source.health() == {"crm": {"state": "attached"}}


def test_a_name_without_a_schema_is_in_the_first_one_and_wide_numbers_are_kept(open_source: Open, url: str) -> None:
    table = deals(url).model_copy(update={"id": "people", "bucket": "", "source_table": "people"})
    schema = open_source().schema(table, call())
    assert [(c.name, c.type) for c in schema.columns] == [("id", "HUGEINT"), ("name", "VARCHAR")]


def test_one_process_serves_an_alias_and_another_one_another(open_source: Open, url: str) -> None:
    source, other = open_source(), deals(url).model_copy(update={"attach": ("other", "postgres", url, "")})
    for table in (deals(url), deals(url), other):
        assert source.schema(table, call()).columns
    wait_until(lambda: len(pids(source)) == 2)


def test_the_token_is_in_the_secret_and_nowhere_else(
    open_source: Open, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_TOKEN", "canary-token")
    source, table = open_source(), deals(url, "CRM_TOKEN")
    assert read(source, table, asked()).num_rows == ROWS
    for process in map(psutil.Process, pids(source)):
        assert "canary" not in repr(process.environ()) + repr(process.cmdline())
    statements = AttachStatements()
    for attach in (Attach("a", "postgres", "host=db", "T"), Attach("a", "keboola", "https://kbc.example.com/", "T")):
        assert "canary" not in repr(statements.secret(attach)) + statements.attach(attach)


def test_a_token_that_is_not_there_is_said(open_source: Open, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    source, table = open_source(), deals(url, "CRM_TOKEN")
    with pytest.raises(AgnesError, match="CRM_TOKEN is not set") as caught:
        source.schema(table, call())
    assert caught.value.kind == "table_unavailable"
    monkeypatch.setenv("CRM_TOKEN", "now")
    source.try_again()
    assert source.schema(table, call()).columns


LOST = {
    "it is not there": ("load:raise", "is not to be had here (IOException)"),
    "it aborts": ("load:abort", "is not to be had here (it ended its process, -6)"),
    "its source refuses": ("attach:raise", "could not attach its source (IOException)"),
}


@pytest.mark.parametrize(("fault", "said"), LOST.values(), ids=LOST.keys())
def test_what_is_not_to_be_had_says_so_with_the_cure_and_is_tried_again(
    open_source: Open, url: str, fault: str, said: str
) -> None:
    """Nothing that the extension says is repeated: its words hold a host and a token here."""
    source, table = open_source(fault), deals(url)
    assert source.problem(table) == ""
    for _ in range(2):
        with pytest.raises(AgnesError) as caught:
            source.schema(table, call())
        assert caught.value.kind == "table_unavailable"
        assert f"DuckDB's extension 'postgres' {said}" in caught.value.message
        assert "tried again at 20" in caught.value.message
        assert "postgres.duckdb_extension" in caught.value.hint
        assert "canary" not in caught.value.message + caught.value.hint
        assert "secret-host" not in caught.value.message
    started = [known.processes.state()["processes_started"] for known in source._aliases.values()]
    assert max(started) <= 2  # the second call asked nobody
    assert said in source.problem(table)
    assert "next_try" in source.health()["crm"]
    source._statements = FileStatements()
    source.try_again()
    assert source.schema(table, call()).columns
    assert source.problem(table) == ""


def test_what_breaks_in_a_read_is_an_error_and_the_next_read_works(open_source: Open, url: str) -> None:
    for fault, said in (("read:raise", "IOException"), ("read:abort", "it ended its process, -6")):
        source, table = open_source(fault), deals(url)
        with pytest.raises(AgnesError) as caught:
            read(source, table, asked())
        assert caught.value.kind == "table_unavailable"
        assert said in caught.value.message
        assert "canary" not in caught.value.message
        source._statements = FileStatements()
        assert read(source, table, asked()).num_rows == ROWS


def test_the_deadline_and_the_caller_end_what_hangs(open_source: Open, url: str) -> None:
    source, table = open_source("read:stall"), deals(url)
    with soon(), pytest.raises(AgnesError) as caught:
        read(source, table, asked(), call(timeout_s=1))
    assert caught.value.kind == "timeout"
    on, kinds = call(timeout_s=None), list[str]()

    def work() -> None:
        try:
            read(source, table, asked(), on)
        except AgnesError as error:
            kinds.append(error.kind)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: any(known.processes.pool._busy for known in source._aliases.values()))
    with soon():
        on.stop(cancelled())
        thread.join()
    assert kinds == ["cancelled"]
    source._statements = FileStatements()
    assert read(source, table, asked()).num_rows == ROWS


def test_what_an_agent_wrote_is_its_own_fault(open_source: Open, url: str) -> None:
    with pytest.raises(AgnesError) as caught:
        read(open_source(), deals(url), asked('CAST("title" AS BIGINT) > 1'))
    assert caught.value.kind == "query_failed"


def test_columns_that_changed_are_said(open_source: Open, url: str) -> None:
    source, table = open_source(), deals(url)
    schema = source.schema(table, call())
    known = schema.model_copy(update={"columns": [schema.columns[0].model_copy(update={"type": "DATE"})]})
    with pytest.raises(AgnesError) as caught, source.read(table, known, asked(), FREE, call()) as reading:
        list(reading)
    assert caught.value.kind == "schema_changed"


def test_the_true_statements() -> None:
    statements = AttachStatements()
    assert statements.load("sqlite") == [['LOAD "sqlite"'], ['INSTALL "sqlite"', 'LOAD "sqlite"']]
    assert statements.load("keboola")[1] == ['INSTALL "keboola" FROM community', 'LOAD "keboola"']
    kbc = Attach("kbc", "keboola", "https://connection.example.com/", "KBC_TOKEN")
    assert statements.secret(kbc) == (
        'CREATE OR REPLACE SECRET "agnes_kbc" (TYPE "keboola", TOKEN ?, URL ?)',
        ["https://connection.example.com"],
    )
    assert statements.attach(kbc) == (
        'ATTACH \'https://connection.example.com\' AS "kbc" (TYPE "keboola", SECRET "agnes_kbc", READ_ONLY)'
    )
    plain = Attach("crm", "postgres", "host=db dbname=crm", "")
    assert statements.secret(plain) == ("", [])
    assert statements.attach(plain) == 'ATTACH \'host=db dbname=crm\' AS "crm" (TYPE "postgres", READ_ONLY)'


_HOSTILE = ["crm", 'a"b', "a'b", "a;b", "--", "select", "a b", "ünï", 'x" (TYPE duckdb); DROP TABLE t; --']
_URLS = {
    "postgres": "host=db.example.com port=5432 dbname=crm user=agnes sslmode=verify-full",
    "mysql": "host=db.example.com database=crm ssl_mode=verify_identity",
    "sqlite": "/data/o'brien's; \"files\".db",
    "ducklake": "https://lake.example.com/o'brien;--",
    "keboola": "https://connection.example.com/'); ATTACH 'x",
}


@pytest.mark.parametrize("name", _HOSTILE)
@pytest.mark.parametrize("extension", sorted(_URLS))
def test_each_statement_is_one_for_duckdbs_own_parser_whatever_it_names(
    name: str, extension: str, tmp_path: Path
) -> None:
    """And what it attaches has exactly this name: a file of DuckDB's takes the extension's place."""
    statements = AttachStatements()
    for token_env in ("", "CRM_TOKEN"):
        source = Attach(name, extension, _URLS[extension], token_env)
        secret, more = statements.secret(source)
        texts = [*(text for way in statements.load(extension) for text in way), *([secret] if secret else [])]
        for text in texts:
            assert len(duckdb.extract_statements(text)) == 1, text
        assert secret.count("?") == (1 + len(more) if secret else 0)
        attach = statements.attach(source)
        (parsed,) = duckdb.extract_statements(attach)
        assert parsed.type == duckdb.StatementType.ATTACH
        file = tmp_path / f"{token_env}.duckdb"
        duckdb.connect(str(file)).close()
        target = literal(source.url.rstrip("/") if extension == "keboola" else source.url)
        given = (
            f"(TYPE {identifier(extension)}{', SECRET ' + identifier('agnes_' + name) if token_env else ''}, READ_ONLY)"
        )
        assert attach.count(target) == attach.count(given) == 1
        with duckdb.connect() as connection:
            connection.execute(attach.replace(target, literal(str(file)), 1).replace(given, "(READ_ONLY)"))
            found = connection.execute("SELECT database_name FROM duckdb_databases() WHERE readonly").fetchall()
            assert found == [(name,)]


@pytest.mark.skipif("AGNES_TEST_DUCKDB" not in os.environ, reason="AGNES_TEST_DUCKDB names no DuckDB with extensions")
def test_a_real_extension_attaches_a_real_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's extension, from its package, in the DuckDB that it was built for; LOAD, ATTACH and reads are real."""
    folder = Path(os.environ["AGNES_TEST_DUCKDB"])
    (file,) = folder.glob("duckdb_extension_sqlite_scanner/extensions/*/sqlite_scanner.duckdb_extension")
    database = tmp_path / "crm.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE deals (id INTEGER, title TEXT, worth REAL)")
        connection.executemany("INSERT INTO deals VALUES (?, ?, ?)", [(i, f"deal {i}", i / 2) for i in range(ROWS)])

    class Real(AttachStatements):
        def load(self, extension: str) -> list[list[str]]:
            return [[f"LOAD '{file}'"]]

    launcher = ("-I", "-B", "-c", _UNDER.format(folder=str(folder), site=_site()))
    source = ExtensionSource(memory_bytes=2**30, threads=2, statements=Real(), command=launcher)
    table = deals("").model_copy(update={"bucket": "main", "attach": ("crm", "sqlite", str(database), "")})
    assert [(c.name, c.type) for c in source.schema(table, call()).columns] == [
        ("id", "BIGINT"), ("title", "VARCHAR"), ("worth", "DOUBLE"),
    ]  # fmt: skip
    assert read(source, table, asked()).num_rows == ROWS
    assert read(source, table, asked('"title" LIKE \'deal 1%\' AND "id" < 11'))["id"].to_pylist() == [1, 10]
    source.close()


_UNDER = (
    "import sys; sys.path.insert(0, {folder!r}); sys.path.append({site!r}); "
    "from agnes_mcp.calls.processes.child import main; from agnes_mcp.sources.extensions.job import Attached; "
    "main({{'attached': Attached}}, networked=True)"
)


def _site() -> str:
    return next(path for path in sys.path if path.endswith("site-packages"))
