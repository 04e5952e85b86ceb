"""Tables in files: learnt from metadata, read whole, and when a file fails only its own table does."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from anyio import from_thread, lowlevel
from support.instances import EVENTS, ME, ORDERS, PEOPLE, settings_of, table, write

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.loading import load_settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, Price, ScanRequest, Statement, Table
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.workbench import JOB

FACTS = {
    "orders": (["order_id", "country", "amount", "day", "visit"], 1000),
    "events": (["id", "note", "day"], 400),
    "parts": (["id"], 30),
    "prices": (["id", "price"], None),  # the rows of a CSV are not known without reading it
    "people": (["person_id", "name"], 50),
    "cities": (["city"], 1),
}


def count_of(table_id: str, where: str = "") -> ScanRequest:
    return ScanRequest(table_id=table_id, where=where, aggregates=[Aggregate(function="count")])


async def failure(asked: Any) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        await asked
    return caught.value


@pytest.mark.parametrize("name", FACTS)
async def test_schema_rows_and_size_of_each_kind(gateway: Gateway, files: dict[str, Path], name: str) -> None:
    schema = await gateway.catalog.columns(ME, name)
    assert ([column.name for column in schema.columns], schema.rows) == FACTS[name]
    sizes = {"events": "events/**/*.parquet", "parts": "parts/*.parquet"}
    if name in sizes:
        root = files["orders"].parent
        assert schema.size_bytes == sum(path.stat().st_size for path in root.glob(sizes[name]))
    else:
        assert schema.size_bytes == files[name].stat().st_size
    assert schema.modified is not None
    assert schema.where_dialect_hints


async def test_nested_columns_and_keys_are_told(gateway: Gateway) -> None:
    columns = {column.name: column for column in (await gateway.catalog.columns(ME, "orders")).columns}
    assert [(field.name, field.type, field.mode) for field in columns["visit"].fields] == [
        ("channel", "VARCHAR", "NULLABLE"), ("clicks", "BIGINT", "REPEATED")
    ]  # fmt: skip
    assert columns["amount"].type == "DECIMAL(12,2)"
    assert (await gateway.catalog.columns(ME, "orders")).primary_key == ["order_id"]


async def test_a_hive_folder_is_partitioned_by_its_keys(gateway: Gateway) -> None:
    schema = await gateway.catalog.columns(ME, "events")
    assert schema.partition is not None
    assert (schema.partition.column, schema.partition.type) == ("day", "HIVE")
    answer = await gateway.scans.scan(ME, count_of("events", "day = DATE '2026-01-02'"))
    assert answer.rows == [[100]]


@pytest.mark.parametrize("name", FACTS)
async def test_rows_of_each_kind(gateway: Gateway, name: str) -> None:
    expected = {"orders": 1000, "events": 400, "parts": 30, "prices": 7, "people": 50, "cities": 1}
    assert (await gateway.scans.scan(ME, count_of(name))).rows == [[expected[name]]]
    sample = await gateway.descriptions.sample(ME, name, 3)
    assert sample.row_count == min(3, expected[name])
    assert sample.bytes_billed == 0


def spoil_pages(path: Path) -> None:
    """Overwrite every data page of a Parquet file; its footer stays."""
    content = bytearray(path.read_bytes())
    footer = struct.unpack("<I", content[-8:-4])[0]
    content[4 : len(content) - 8 - footer] = b"\xff" * (len(content) - 12 - footer)
    path.write_bytes(content)


async def test_metadata_is_learnt_without_reading_a_row(tmp_path: Path) -> None:
    """A file whose every data page is spoilt still tells its schema, rows and size; its rows are refused."""
    path = write(tmp_path, "orders.parquet", ORDERS)
    spoil_pages(path)
    async with Gateway(settings_of(tmp_path / "s", [table("orders", path)])) as gateway:
        schema = await gateway.catalog.columns(ME, "orders")
        assert (schema.rows, len(schema.columns)) == (1000, 5)
        entry = (await gateway.catalog.browse(ME, refresh=True)).tables[0]
        assert (entry.rows, entry.size_bytes) == (1000, path.stat().st_size)
        for asked in (
            gateway.descriptions.sample(ME, "orders"),
            gateway.scans.scan(ME, ScanRequest(table_id="orders")),
            gateway.scans.scan(ME, ScanRequest(table_id="orders", order_by=["amount"])),
            gateway.descriptions.describe(ME, "orders", profile=True),
        ):
            error = await failure(asked)
            assert error.kind == "table_unavailable"
            assert "'orders'" in error.message
            assert str(tmp_path) not in f"{error.message}{error.hint}{error.details}"


async def test_pages_that_are_spoilt_behind_the_first_rows_never_end_a_scan_early(tmp_path: Path) -> None:
    """An error in the middle of a stream is an error, not fewer rows."""
    path = write(
        tmp_path, "big.parquet", "SELECT hash(i) AS h FROM range(400000) AS r(i)",
        "FORMAT parquet, ROW_GROUP_SIZE 20000, COMPRESSION zstd",
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200_000] = b"\xff" * 200_000
    path.write_bytes(content)
    async with Gateway(settings_of(tmp_path / "s", [table("big", path)])) as gateway:
        error = await failure(gateway.fetches.fetch(ME, ScanRequest(table_id="big"), name="kept"))
        assert error.kind == "table_unavailable"
        assert (await gateway.snapshots.entries(ME)).total == 0
        error = await failure(gateway.scans.scan(ME, ScanRequest(table_id="big", limit=390_000)))
        assert error.kind == "table_unavailable"


#: What may come to stand where a file was, and whose opening may wait for ever.
NO_FILES = {} if sys.platform == "win32" else {"a pipe": stat.S_IFIFO, "a socket": stat.S_IFSOCK}


@pytest.mark.parametrize("ending", ["missing", "empty", "torn", "another kind", "a folder", *NO_FILES])
async def test_a_file_that_fails_takes_only_its_own_table_along(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path, "orders.parquet", ORDERS)
    good = write(tmp_path, "good.parquet", PEOPLE)
    tables = [table("orders", path), table("good", good)]
    async with Gateway(settings_of(tmp_path / "s", tables)) as gateway:
        await gateway.descriptions.describe(ME, "orders")
        if ending == "missing":
            path.unlink()
        elif ending == "empty":
            path.write_bytes(b"")
        elif ending == "torn":
            path.write_bytes(path.read_bytes()[:-100])
        elif ending == "another kind":
            path.write_text("a,b\n1,2\n" * 100)
        elif ending == "a folder":
            path.unlink()
            path.mkdir()
        else:
            path.unlink()
            os.mknod(path, 0o600 | NO_FILES[ending])
        error = await failure(gateway.scans.scan(ME, count_of("orders")))
        served_not = ending in ("empty", "another kind", *NO_FILES)
        refused = "unsupported_format" if served_not else "table_unavailable"
        assert error.kind == refused
        assert "'orders'" in error.message
        assert str(tmp_path) not in f"{error.message}{error.hint}{error.details}"
        gateway.tables.forget("orders")
        for asked in (
            gateway.catalog.columns(ME, "orders"),
            gateway.descriptions.sample(ME, "orders", 3),
            gateway.descriptions.describe(ME, "orders"),
        ):
            assert (await failure(asked)).kind == refused
        entries = {entry.id: entry for entry in (await gateway.catalog.browse(ME, refresh=True)).tables}
        assert (entries["orders"].rows, entries["good"].rows) == (None, 50)
        assert (await gateway.scans.scan(ME, count_of("good"))).rows == [[50]]
        if path.is_dir():
            path.rmdir()
        elif ending in NO_FILES:
            path.unlink()
        write(tmp_path, "orders.parquet", ORDERS)
        assert (await gateway.scans.scan(ME, count_of("orders"))).rows == [[1000]]


async def test_a_table_that_changed_its_columns_is_what_it_is_now_at_the_next_call(tmp_path: Path) -> None:
    path = write(tmp_path, "orders.parquet", "SELECT 1 AS id, 'x' AS name")
    async with Gateway(settings_of(tmp_path / "s", [table("orders", path)])) as gateway:
        await gateway.catalog.columns(ME, "orders")
        write(tmp_path, "orders.parquet", "SELECT 'one' AS id, 2 AS other")
        error = await failure(gateway.scans.scan(ME, ScanRequest(table_id="orders", select=["name"])))
        assert error.kind == "unknown_column"
        assert [column.name for column in (await gateway.catalog.columns(ME, "orders")).columns] == ["id", "other"]
        assert (await gateway.scans.scan(ME, ScanRequest(table_id="orders"))).rows == [["one", 2]]


def test_a_table_that_changed_between_its_schema_and_its_read_says_so(tmp_path: Path) -> None:
    """The statement was built for other columns: it is not run on these."""
    path = write(tmp_path, "orders.parquet", "SELECT 1 AS id, 'x' AS name")
    of, call = Table(id="orders", source_type="local", path=str(path)), Call("test", ME)
    warehouse = Warehouse(memory_limit_bytes=2**28, threads=1, spill_root=tmp_path)
    source = LocalSource(warehouse, Processes(JOB, size=1))
    schema = source.schema(of, call)
    write(tmp_path, "orders.parquet", "SELECT 'one' AS id, 2 AS other")
    statement = Statement(
        sql='SELECT "name" FROM "orders"', dialect="duckdb", columns=["name"], source_columns=["name"]
    )
    with (
        pytest.raises(AgnesError) as told,
        source.read(of, schema, statement, Price(scan_bytes=0, reserved_bytes=0, path="local"), call),
    ):
        pytest.fail("it was read")
    assert told.value.kind == "schema_changed"
    assert set(told.value.details["columns"]) == {"id", "name"}
    warehouse.close()


async def test_what_arrow_cannot_carry_is_text_and_what_it_can_stays(tmp_path: Path) -> None:
    """Also where files of one kind take the place of those of the other."""
    lossy = "SELECT 340282366920938463463374607431768211455::UHUGEINT AS n, '0101'::BIT AS b, NULL AS nothing, 1 AS id"
    path = tmp_path / "odd.duckdb"
    async with Gateway(settings_of(tmp_path / "s", [table("odd", path)])) as gateway:
        for sql in (lossy, "SELECT 1 AS n, 2 AS b, 3 AS nothing, 4 AS id", lossy):
            path.unlink(missing_ok=True)
            with duckdb.connect(str(path)) as connection:
                connection.execute(f"CREATE TABLE odd AS {sql}")
            scanned = await gateway.scans.scan(ME, ScanRequest(table_id="odd", where="id > 0", limit=5))
            expected = (
                [["340282366920938463463374607431768211455", "0101", None, 1]] if sql == lossy else [[1, 2, 3, 4]]
            )
            assert scanned.rows == expected


async def test_new_rows_are_seen_at_the_next_call(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts", "1.parquet", "SELECT 1 AS id")
    async with Gateway(settings_of(tmp_path / "s", [table("parts", tmp_path / "parts")])) as gateway:
        assert (await gateway.scans.scan(ME, count_of("parts"))).rows == [[1]]
        write(tmp_path / "parts", "2.parquet", "SELECT 2 AS id UNION ALL SELECT 3")
        assert (await gateway.scans.scan(ME, count_of("parts"))).rows == [[3]]


async def test_a_duckdb_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    """Also while another of its tables is served, and never two handles on one file."""

    def make(name: str, rows: int) -> Path:
        with duckdb.connect(str(tmp_path / name)) as connection:
            connection.execute(f"CREATE TABLE a AS SELECT * FROM range({rows}); CREATE TABLE b AS SELECT 1 AS one")
        return tmp_path / name

    path = make("shop.duckdb", 3)
    tables = [table("first", path, source_table="a"), table("b", path)]
    uncached = {"schema_cache_ttl_seconds": 0}
    async with Gateway(settings_of(tmp_path / "s", tables, api=uncached)) as gateway:
        assert (await gateway.scans.scan(ME, count_of("first"))).rows == [[3]]
        assert (await gateway.scans.scan(ME, count_of("b"))).rows == [[1]]
        os.replace(make("shop.tmp.duckdb", 5), path)
        assert (await gateway.scans.scan(ME, count_of("first"))).rows == [[5]]
        assert (await gateway.scans.scan(ME, count_of("b"))).rows == [[1]]
        assert (await gateway.catalog.columns(ME, "first")).rows == 5


async def test_a_table_that_its_duckdb_file_does_not_have(tmp_path: Path, files: dict[str, Path]) -> None:
    tables = [table("ghost", files["people"]), table("people", files["people"])]
    async with Gateway(settings_of(tmp_path, tables)) as gateway:
        assert (await failure(gateway.catalog.columns(ME, "ghost"))).kind in ("table_unavailable", "schema_changed")
        assert (await gateway.catalog.columns(ME, "people")).rows == 50


async def test_names_of_files_are_never_sql(tmp_path: Path) -> None:
    """Quotes, spaces, brackets and percent signs in a path are part of the path."""
    folder = tmp_path / 'it\'s "here" [1] %20 é;--'
    folder.mkdir()
    shutil.move(write(tmp_path, "plain.parquet", PEOPLE), folder / "x' OR 1=1.parquet")
    with duckdb.connect(str(folder / "d'b.duckdb")) as connection:
        connection.execute('CREATE TABLE "we\'ird ""t""" AS SELECT 1 AS "a ""b"""')
    tables = [
        table("one", folder / "x' OR 1=1.parquet"),
        table("two", folder / "d'b.duckdb", source_table='we\'ird "t"') | {"source_table": ""},
    ]
    async with Gateway(settings_of(tmp_path / "s", tables[:1])) as gateway:
        assert (await gateway.scans.scan(ME, count_of("one"))).rows == [[50]]


async def test_a_folder_ignores_what_is_not_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    write(tmp_path, "events", EVENTS, "FORMAT parquet, PARTITION_BY (day)")
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.parquet").write_text("junk")
    (folder / "README.md").write_text("junk")
    async with Gateway(settings_of(tmp_path / "s", [table("events", folder)])) as gateway:
        assert (await gateway.catalog.columns(ME, "events")).rows == 400


async def test_parts_with_different_columns_are_joined_by_name(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    write(tmp_path / "p", "1.parquet", "SELECT 1 AS a, 'x' AS b")
    write(tmp_path / "p", "2.parquet", "SELECT 'y' AS b, 2 AS a, true AS c")
    async with Gateway(settings_of(tmp_path / "s", [table("p", tmp_path / "p" / "*.parquet")])) as gateway:
        answer = await gateway.scans.scan(ME, ScanRequest(table_id="p", order_by=["a"]))
    assert (answer.columns, answer.rows) == (["a", "b", "c"], [[1, "x", None], [2, "y", True]])


async def test_an_empty_result_keeps_its_columns_and_types(gateway: Gateway) -> None:
    answer = await gateway.scans.scan(
        ME, ScanRequest(table_id="orders", where="order_id < 0", select=["amount", "day"])
    )
    assert (answer.columns, answer.rows, answer.truncated) == (["amount", "day"], [], False)
    assert answer.types == ["DECIMAL(12,2)", "DATE"]


async def test_one_missing_file_degrades_one_table_and_the_server_starts(tmp_path: Path) -> None:
    good = write(tmp_path, "good.parquet", PEOPLE)
    tables = [
        table("gone", tmp_path / "gone.parquet"),
        table("good", good),
        table("gone_too", tmp_path / "no" / "*.csv"),
    ]
    path = tmp_path / "instance.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "s"), "tables": tables}))
    async with Gateway(load_settings(path)) as gateway:
        assert (await failure(gateway.catalog.columns(ME, "gone"))).kind == "table_unavailable"
        assert (await failure(gateway.catalog.columns(ME, "gone_too"))).kind == "table_unavailable"
        assert (await gateway.scans.scan(ME, count_of("good"))).rows == [[50]]


async def test_rows_that_were_read_before_a_file_was_replaced_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another call sees the new file while the rows of the old one are still on their way."""
    path = write(tmp_path, "orders.parquet", "SELECT 1 AS id")
    preview, loop = LocalSource.preview, lowlevel.current_token()

    def outpaced(*asked: Any) -> Any:
        monkeypatch.undo()
        found = preview(*asked)
        write(tmp_path, "orders.parquet", "SELECT 2 AS id")
        assert from_thread.run(gateway.descriptions.sample, ME, "orders", token=loop).rows == [[2]]
        gateway.tables.samples._entries.clear()  # as if it had become old
        return found

    async with Gateway(settings_of(tmp_path / "s", [table("orders", path)])) as gateway:
        monkeypatch.setattr(LocalSource, "preview", outpaced)
        assert (await gateway.descriptions.sample(ME, "orders")).rows == [[1]]
        assert (await gateway.descriptions.sample(ME, "orders")).rows == [[2]]
