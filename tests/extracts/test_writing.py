"""The extract that is written is one that any DuckDB reads, and is replaced whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
from extracts.conftest import read
from support.agnes import AttachedFile, remote
from support.metadata_server import MetadataServer, closed_port

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.attachment import Attachment
from agnes_mcp.extracts.writing import ExtractWriter
from agnes_mcp.models import Principal
from agnes_mcp.stand_in import StandIn

TABLES = [
    remote("orders", description="One row per order"),
    remote("odd", source_table="Odd-Name_1"),
    remote("landings", source_table="orders_v"),
]


def file_of(root: Path) -> Path:
    return root / "extracts" / "bigquery" / "extract.duckdb"


def write(root: Path, settings: BigQuerySettings, attachment: Attachment, call: Call, tables: Any = TABLES) -> Any:
    return ExtractWriter(settings, attachment).write(root, tables, call)


def test_any_duckdb_reads_what_was_written(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    answer = write(root, bigquery, attached, call)
    assert (answer.tables_registered, answer.views, answer.errors) == (3, 2, [])
    file = file_of(root)
    assert read(file, "SELECT * EXCLUDE extracted_at FROM _meta") == [
        ("orders", "One row per order", 0, 0, "remote"),
        ("odd", "", 0, 0, "remote"),
        ("landings", "", 0, 0, "remote"),
    ]
    assert read(file, "SELECT * FROM _remote_attach") == [("bq", "bigquery", "project=my-project", "")]
    assert read(file, "SELECT * FROM orders ORDER BY id", attached) == [(0,), (1,), (2,)]
    assert read(file, "SELECT * FROM odd", attached) == [(7,)]
    assert attached.attached[0] == "ATTACH 'project=my-project' AS \"bq\" (TYPE bigquery, READ_ONLY)"
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == [".extract.duckdb.lock", "extract.duckdb"]


@pytest.mark.parametrize("wrap", [False, True])
def test_a_view_of_bigquery_is_a_query_only_where_that_is_asked_for(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call, wrap: bool
) -> None:
    settings = bigquery.model_copy(update={"legacy_wrap_views": wrap, "billing_project": "payer-project"})
    answer = write(root, settings, attached, call)
    assert (answer.tables_registered, answer.views) == (3, 3 if wrap else 2)
    if not wrap:
        with pytest.raises(duckdb.CatalogException):
            read(file_of(root), "SELECT * FROM landings", attached)
        return
    assert read(file_of(root), "SELECT * FROM landings", attached) == [
        ("payer-project", "SELECT * FROM `my-project.my_dataset.orders_v`")
    ]
    assert "billing_project=payer-project" in attached.attached[0]


def test_an_attached_view_holds_no_query_and_a_view_no_attached_name(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    write(root, bigquery.model_copy(update={"legacy_wrap_views": True}), attached, call)
    stored = dict(read(file_of(root), "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal"))
    assert "bq.my_dataset.orders" in stored["orders"]
    assert "bigquery_query" not in stored["orders"]
    assert 'bq.my_dataset."Odd-Name_1"' in stored["odd"]
    assert "bq." not in stored["landings"]


@pytest.mark.parametrize("wrap", [False, True])
def test_a_family_of_daily_tables_is_a_table_and_its_view_a_query_over_days(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call, bq: StandIn, wrap: bool
) -> None:
    for name in ("events_20260101", "events_20260102", "events_secret"):
        bq.create_table("my_dataset", name, "id INT64", rows=[{"id": 1}])
    tables = [remote("events", source_table="events_*"), remote("none", source_table="none_*")]
    settings = bigquery.model_copy(update={"legacy_wrap_views": wrap})
    answer = write(root, settings, attached, call, tables)
    assert [(problem.table, "not found" in problem.error) for problem in answer.errors] == [("none", True)]
    assert (answer.tables_registered, answer.views) == (1, int(wrap))
    places = read(file_of(root), "SELECT dataset, source_table, entity_type FROM _places")
    assert places == [("my_dataset", "events_*", "SHARDED")]
    if wrap:
        ((_, inner),) = read(file_of(root), "SELECT * FROM events", attached)
        assert inner.startswith("SELECT * FROM `my-project.my_dataset.events_*` WHERE `_TABLE_SUFFIX` BETWEEN")


def test_one_bad_table_leaves_the_others(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    bad = [
        remote("gone"),
        remote("evil", source_table='orders"; DROP TABLE _meta; --'),
        remote("backquoted", source_table="orders`"),
        remote("newline", source_table="orders\n"),
        remote("spaced", dataset=" my_dataset"),
        remote("1st", source_table="orders"),
        remote("elsewhere", source_table="orders", project="other-project"),
        remote("orders"),
    ]
    answer = write(root, bigquery, attached, call, [*TABLES, *bad])
    said = {problem.table: problem.error for problem in answer.errors}
    assert answer.tables_registered == 3
    assert set(said) == {table.id for table in bad}
    assert "not found" in said["gone"]
    assert said["evil"].startswith("unsafe source_table")
    assert said["spaced"].startswith("unsafe dataset")
    assert said["1st"].startswith("unsafe table_name")
    assert "other-project" not in [row[0] for row in read(file_of(root), "SELECT table_name FROM _meta")]


def test_a_view_that_does_not_bind_is_told_and_its_table_kept(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    with duckdb.connect(str(attached.file)) as connection:
        connection.execute('DROP TABLE my_dataset."Odd-Name_1"')
    answer = write(root, bigquery, attached, call)
    assert [problem.table for problem in answer.errors] == ["odd"]
    assert (answer.tables_registered, answer.views) == (3, 1)


@pytest.mark.parametrize("project", ["My-Project", "my-project\n", "a", "x'; --", "my-project-"])
def test_a_project_that_is_none_makes_no_file(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call, project: str
) -> None:
    answer = write(root, bigquery.model_copy(update={"project": project}), attached, call)
    assert [(problem.table, repr(project) in problem.error) for problem in answer.errors] == [("<config>", True)]
    assert not root.exists()


def test_without_a_token_no_file_is_made(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
        answer = write(root, bigquery.model_copy(update={"auth": "metadata"}), attached, call)
    assert [problem.table for problem in answer.errors] == ["<auth>"]
    assert not root.exists()


def test_each_run_has_a_token_of_its_own_and_leaves_it_nowhere(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MetadataServer() as server:
        monkeypatch.setenv("GCE_METADATA_HOST", server.host)
        settings = bigquery.model_copy(update={"auth": "metadata"})
        for _ in range(2):
            assert write(root, settings, attached, call).errors == []
        assert attached.tokens == [("bq_session", token) for token in server.issued]
        assert len(server.issued) == 2
        for path in root.rglob("*"):
            assert path.is_dir() or not any(token.encode() in path.read_bytes() for token in server.issued)


def test_a_token_never_stands_in_a_statement() -> None:
    attachment = Attachment()
    assert attachment.secret("bq_session") == ('CREATE OR REPLACE SECRET "bq_session" (TYPE bigquery, ACCESS_TOKEN ?)')
    assert attachment.statement('b"q', "project=x'y") == (
        "ATTACH 'project=x''y' AS \"b\"\"q\" (TYPE bigquery, READ_ONLY)"
    )


def test_without_the_extension_only_the_views_are_missing(
    root: Path, bigquery: BigQuerySettings, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGNES_BIGQUERY_EXTENSION", str(tmp_path / "none.duckdb_extension"))
    answer = write(root, bigquery, Attachment(), call)
    assert (answer.tables_registered, answer.views) == (3, 0)
    assert [problem.table for problem in answer.errors] == ["<extension>"]
    assert "INSTALL bigquery" in answer.errors[0].error
    assert len(read(file_of(root), "SELECT * FROM _meta")) == 3


def test_the_log_of_a_crashed_run_is_not_replayed_into_the_new_file(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    write(root, bigquery, attached, call)
    file = file_of(root)
    stale = file.with_name("extract.duckdb.wal")
    with duckdb.connect(str(file)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("SET wal_autocheckpoint = '1GB'")
        connection.execute("INSERT INTO _meta VALUES ('ghost', '', 0, 0, now(), 'remote')")
        left = stale.read_bytes()
    stale.write_bytes(left)
    leftover = file.with_name("extract.duckdb.tmp")
    leftover.write_bytes(b"of a run that was killed")
    leftover.with_name("extract.duckdb.tmp.wal").write_bytes(left)
    write(root, bigquery, attached, call)
    assert sorted(name for (name,) in read(file, "SELECT table_name FROM _meta")) == ["landings", "odd", "orders"]
    assert [path.name for path in file.parent.iterdir() if path.suffix in (".wal", ".tmp")] == []


class _Broken(AttachedFile):
    def attach(self, connection: duckdb.DuckDBPyConnection, alias: str, url: str) -> None:
        raise OSError("the disk went away")


def test_a_run_that_fails_leaves_the_file_before_it(
    root: Path, bigquery: BigQuerySettings, attached: AttachedFile, call: Call
) -> None:
    write(root, bigquery, attached, call)
    before = file_of(root).read_bytes()
    with pytest.raises(OSError, match="went away"):
        write(root, bigquery, _Broken(attached.file), call)
    stopped = Call("extract", Principal("me"), timeout_s=0)
    with pytest.raises(AgnesError, match="timeout"):
        write(root, bigquery, attached, stopped)
    assert file_of(root).read_bytes() == before
    assert [path.name for path in file_of(root).parent.iterdir() if path.suffix in (".wal", ".tmp")] == []


def test_runs_at_the_same_time_take_turns(root: Path, bigquery: BigQuerySettings, attached: AttachedFile) -> None:
    answers: list[Any] = []

    def run() -> None:
        answers.append(write(root, bigquery, attached, Call("extract", Principal("me"), timeout_s=60)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(answer.tables_registered, answer.errors) for answer in answers] == [(3, [])] * 4
    assert len(read(file_of(root), "SELECT * FROM _meta")) == 3
