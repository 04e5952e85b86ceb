"""Files that stand for far more than they hold are known by their footers, and read where a process can be killed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.instances import write

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Principal, Relation, ScanRequest, Statement, Table, TableSchema
from agnes_mcp.sources.local import JOB
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.sql.duckdb_types import BATCH_ROWS, MAX_VALUE_BYTES, batch_rows
from agnes_mcp.sql.statement import build_statement

ANA = Principal("ana")
FREE = Price(scan_bytes=0, reserved_bytes=0)
MB = 2**20


@pytest.fixture(scope="module")
def source() -> Iterator[LocalSource]:
    warehouse = Warehouse(memory_limit_bytes=256 * MB, threads=2)
    processes = Processes(JOB, size=1, memory_bytes=192 * MB, threads=1)
    yield LocalSource(warehouse, processes)
    processes.close()
    warehouse.close()


def known(source: LocalSource, path: Path) -> tuple[Table, TableSchema]:
    table = Table(id=path.stem, source_type="local", path=str(path))
    return table, source.schema(table, Call("schema", ANA, 60))


def statement(schema: TableSchema, **request: object) -> Statement:
    asked = ScanRequest.model_validate({"table_id": schema.table_id, **request})
    return build_statement(asked, schema, Relation("", "", schema.table_id), "duckdb", 10_000)


def arrow(folder: Path, name: str, texts: list[str], **options: object) -> Path:
    pq.write_table(pa.table({"note": texts}), folder / name, **options)
    return folder / name


def repeated(folder: Path, name: str, text: str, rows: int) -> Path:
    """One text for all rows, which is nowhere written out."""
    column = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), [text])
    pq.write_table(pa.table({"note": column}), folder / name, compression="zstd", store_schema=False)
    return folder / name


def test_what_a_value_may_take_is_told_by_the_footers(source: LocalSource, tmp_path: Path) -> None:
    long, many = "a" * 200_000, [f"value {i}" for i in range(40_000)]
    dictionary = write(tmp_path, "d.parquet", f"SELECT i, '{long}' AS note FROM range(3000) AS r(i)")
    nested = write(tmp_path, "n.parquet", f"SELECT [{{'x': '{long}'}}, NULL] AS notes FROM range(300)")
    elements = write(tmp_path, "e.parquet", "SELECT list_resize([0], 20000, 0) AS l FROM range(30)")
    assert known(source, dictionary)[1].heavy_values == {"note": 200_000}
    assert known(source, nested)[1].heavy_values == {"notes": 2 * 200_004}
    assert known(source, elements)[1].heavy_values == {"l": 160_000}
    prefixed = arrow(
        tmp_path, "p.parquet", [long] * 9, use_dictionary=False, column_encoding={"note": "DELTA_BYTE_ARRAY"}
    )
    assert known(source, prefixed)[1].heavy_values["note"] > MAX_VALUE_BYTES
    plain = arrow(tmp_path, "t.parquet", [str(i) + long for i in range(9)], use_dictionary=False)
    assert 200_000 < known(source, plain)[1].heavy_values["note"] < 201_000
    assert known(source, arrow(tmp_path, "m.parquet", many))[1].heavy_values == {}, "a large dictionary of short texts"
    assert known(source, write(tmp_path, "f.parquet", "SELECT i, i * 2.5 AS x FROM range(9) AS r(i)"))[
        1
    ].heavy_values == ({})


def test_a_database_is_looked_at_where_its_rows_may_be_heavy(source: LocalSource, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "heavy.duckdb")) as connection:
        connection.execute("CREATE TABLE heavy AS SELECT repeat('a', 200000) || i AS note FROM range(50) AS r(i)")
        connection.execute("CREATE TABLE light AS SELECT 'b' AS note")
        connection.execute("CREATE TABLE numbers AS SELECT {'n': 5::BIGNUM} AS big, 1 AS one")
    table, schema = known(source, tmp_path / "heavy.duckdb")
    assert schema.heavy_values == {"note": 200_002}
    assert source.reads_apart(table, statement(schema))
    light = Table(id="light", source_type="local", path=table.path)
    assert source.schema(light, Call("schema", ANA, 60)).heavy_values == {}
    numbers = Table(id="numbers", source_type="local", path=table.path)
    schema = source.schema(numbers, Call("schema", ANA, 60))
    assert list(schema.heavy_values) == ["big"], "digits take their square"
    assert source.reads_apart(numbers, statement(schema))
    assert not statement(schema, where="big.n = 5").bounded


def test_kilobytes_that_stand_for_gigabytes_take_none_of_the_server(source: LocalSource, tmp_path: Path) -> None:
    path = repeated(tmp_path, "bomb.parquet", "a" * MB, 8192)
    assert path.stat().st_size < MB
    table, schema = known(source, path)
    before = psutil.Process().memory_info().rss
    for built in (
        statement(schema),
        statement(schema, where="note >= 'a'"),
        statement(schema, where="concat(note, note) LIKE 'a%'"),
        statement(schema, order_by=["note"]),
    ):
        assert source.reads_apart(table, built)
        with (
            pytest.raises(AgnesError) as refused,
            source.read(table, schema, built, FREE, Call("scan", ANA, 60)) as rows,
        ):
            for _ in rows:
                pass
        assert refused.value.kind == "query_out_of_memory"
        assert psutil.Process().memory_info().rss - before < 1024 * MB, "a vector of them has two gigabytes"
    sample = source.preview(table, schema, ["note"], 3, Call("sample", ANA, 60))
    assert sample is not None
    assert sample.num_rows == 3


def test_what_makes_text_of_long_ones_runs_apart(tmp_path: Path, source: LocalSource) -> None:
    """One vector of them has two gigabytes, of which DuckDB holds each text once."""
    table, schema = known(source, repeated(tmp_path, "long.parquet", "a" * 100_000, 3000))
    assert not source.reads_apart(table, statement(schema))
    assert statement(schema, where="note = 'x'").bounded
    assert not statement(schema, where="lower(note) || note = 'x'").bounded
    assert not statement(schema, where=f"note LIKE '%{'a' * 28}b%'").bounded


def test_what_fails_with_a_text_runs_apart_where_one_may_be_long(tmp_path: Path, source: LocalSource) -> None:
    """A text file has no longer ones than it has bytes, unless it is packed; a DuckDB file keeps their lengths."""
    for name, rows in (("short", 1), ("long", 300_000)):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb")) as connection:
            long = f"repeat('a', CASE WHEN i = 5000 THEN {rows} ELSE 1 END)"
            connection.execute(
                f"CREATE TABLE {name} AS SELECT i AS id, {long} AS note, {{'n': note}} AS s FROM range(9000) r(i)"
            )
            for kind in ("csv", "json"):
                connection.execute(
                    f"COPY (SELECT id, note FROM {name} WHERE id >= 5000 LIMIT 9) TO '{tmp_path}/{name}.{kind}'"
                )
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress((tmp_path / "long.csv").read_bytes()))
    for path in sorted(tmp_path.iterdir()):
        name = path.name.split(".")[0]
        table = Table(id=name, source_type="local", path=str(path))
        schema = source.schema(table, Call("schema", ANA, 60))
        for where in ("CAST(note AS INTEGER) = 4", "id = note"):
            assert source.reads_apart(table, statement(schema, where=where)) is (name != "short"), (path.name, where)
        for where in ("note = 'x'", "note LIKE 'a%' AND id > 1", "TRY_CAST(note AS INTEGER) = 4", ""):
            assert not source.reads_apart(table, statement(schema, where=where)), (path.name, where)


def test_a_batch_holds_no_more_than_it_may() -> None:
    assert batch_rows(0) == batch_rows(1000) == BATCH_ROWS
    assert batch_rows(MB) == 128
    assert batch_rows(2**40) == 1
