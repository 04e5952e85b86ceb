"""A table is published as one Parquet file, and its hash is that of exactly the bytes that are served."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from support.agnes import parquet

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.published import PublishedFile, Publisher
from agnes_mcp.models import Principal, Table
from agnes_mcp.sources.local import JOB
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse


@pytest.fixture
def source() -> Iterator[LocalSource]:
    warehouse = Warehouse(memory_limit_bytes=2**27, threads=1)
    processes = Processes(JOB, size=1)
    yield LocalSource(warehouse, processes)
    processes.close()
    warehouse.close()


@pytest.fixture
def publisher(tmp_path: Path, source: LocalSource) -> Publisher:
    return Publisher(tmp_path / "published", lambda _: source)


def local(path: Path, source_table: str = "") -> Table:
    return Table(id="orders", source_type="local", path=str(path), source_table=source_table)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def served(publisher: Publisher, table: Table, call: Call) -> tuple[bytes, PublishedFile]:
    descriptor, file = publisher.open(table, call)
    with open(descriptor, "rb") as opened:
        return opened.read(), file


def test_one_parquet_file_is_served_as_it_is(publisher: Publisher, tmp_path: Path, call: Call) -> None:
    path = parquet(tmp_path / "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    content, file = served(publisher, local(path), call)
    assert content == path.read_bytes()
    assert (file.hash, file.rows, file.size_bytes) == (md5(content), 5, len(content))
    entry = file.entry(local(path))
    assert (entry.query_mode, entry.source_type, entry.updated) == ("local", "local", file.updated)
    assert list((tmp_path / "published").glob("*.parquet")) == []


def test_any_other_table_is_written_once_for_as_long_as_its_files_stay(
    publisher: Publisher, source: LocalSource, tmp_path: Path, call: Call
) -> None:
    csv = tmp_path / "orders.csv"
    csv.write_text("id,name\n1,Ana\n2,Jan\n")
    content, first = served(publisher, local(csv), call)
    assert first.hash == md5(content)
    assert duckdb.sql(f"SELECT * FROM '{first.path}' ORDER BY id").fetchall() == [(1, "Ana"), (2, "Jan")]
    assert served(publisher, local(csv), call)[1].path == first.path
    assert served(Publisher(tmp_path / "published", lambda _: source), local(csv), call)[1].path == first.path
    csv.write_text("id,name\n1,Ana\n2,Jan\n3,Eva\n")
    second = served(publisher, local(csv), call)[1]
    assert (second.rows, second.hash == first.hash) == (3, False)
    assert [path.name for path in (tmp_path / "published").glob("*.parquet")] == [Path(second.path).name]


def test_folders_and_tables_of_a_duckdb_file_are_published_too(
    publisher: Publisher, tmp_path: Path, call: Call
) -> None:
    for day in (1, 2):
        parquet(tmp_path / "hive" / f"day={day}" / "a.parquet")
    assert served(publisher, local(tmp_path / "hive"), call)[1].rows == 2
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 340282366920938463463374607431768211455::UHUGEINT AS big")
    file = served(publisher, local(tmp_path / "shop.duckdb", source_table="t"), call)[1]
    assert duckdb.sql(f"FROM '{file.path}'").fetchall() == [("340282366920938463463374607431768211455",)]


def test_a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(
    publisher: Publisher, tmp_path: Path, call: Call
) -> None:
    path = parquet(tmp_path / "orders.parquet")
    descriptor, file = publisher.open(local(path), call)
    with open(descriptor, "rb") as opened:
        parquet(tmp_path / "new.parquet", "SELECT i FROM range(99) AS r(i)").replace(path)
        assert md5(opened.read()) == file.hash
    assert served(publisher, local(path), call)[1].rows == 99


def test_a_file_of_the_same_size_and_time_but_another_content_is_not_taken_for_it(
    publisher: Publisher, tmp_path: Path, call: Call
) -> None:
    path = parquet(tmp_path / "orders.parquet", "SELECT 1 AS id")
    before = served(publisher, local(path), call)[1]
    other = parquet(tmp_path / "other.parquet", "SELECT 2 AS id")
    assert other.stat().st_size == path.stat().st_size
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    content, after = served(publisher, local(path), call)
    assert (after.hash != before.hash, after.hash) == (True, md5(content))


def test_threads_that_ask_at_once_get_one_file(publisher: Publisher, tmp_path: Path) -> None:
    csv = tmp_path / "orders.csv"
    csv.write_text("id\n" + "\n".join(map(str, range(20_000))))
    paths: list[str] = []

    def ask() -> None:
        paths.append(publisher.publish(local(csv), Call("manifest", Principal("me"), timeout_s=60)).path)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(paths), len(set(paths))) == (6, 1)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "unsupported_format"), (b"PAR1 not parquet PAR1", "table_unavailable"), (None, "table_unavailable")],
)
def test_a_table_that_cannot_be_read_is_told_as_such(
    publisher: Publisher, tmp_path: Path, call: Call, content: bytes | None, kind: str
) -> None:
    path = tmp_path / "orders.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AgnesError, match=kind) as told:
        publisher.publish(local(path), call)
    assert str(tmp_path) not in str(told.value)


def test_what_tables_that_are_gone_left_is_removed(publisher: Publisher, tmp_path: Path, call: Call) -> None:
    csv = tmp_path / "orders.csv"
    csv.write_text("id\n1\n")
    publisher.publish(local(csv), call)
    publisher.sweep({"orders"})
    assert served(publisher, local(csv), call)[1].rows == 1
    publisher.sweep({"others"})
    assert list((tmp_path / "published").iterdir()) == []
    assert served(publisher, local(csv), call)[1].rows == 1


def test_a_call_that_is_over_writes_nothing(publisher: Publisher, tmp_path: Path) -> None:
    csv = tmp_path / "orders.csv"
    csv.write_text("id\n1\n")
    with pytest.raises(AgnesError, match="timeout"):
        publisher.publish(local(csv), Call("manifest", Principal("me"), timeout_s=0))
    assert list((tmp_path / "published").glob("*.parquet")) == []


def test_a_file_that_another_one_replaces_before_it_is_opened_is_not_missed(
    publisher: Publisher, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what is known of it and its opening somebody writes the table anew, and removes the old file."""
    csv, publish = tmp_path / "orders.csv", Publisher.publish
    csv.write_text("id\n1\n")

    def outpaced(asked: Publisher, table: Table, of: Call) -> PublishedFile:
        monkeypatch.undo()
        file = publish(asked, table, of)
        csv.write_text("id\n1\n2\n")
        publish(asked, table, of)
        return file

    monkeypatch.setattr(Publisher, "publish", outpaced)
    content, file = served(publisher, local(csv), call)
    assert (file.rows, file.hash) == (2, md5(content))
