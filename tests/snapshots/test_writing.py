"""Writing a snapshot: what comes back is what went in, and a write that fails leaves nothing."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import random
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from snapshots.shelves import (
    ANA,
    FACTS,
    NOON,
    Clock,
    data_file,
    failing,
    files_below,
    new_call,
    new_store,
    put,
    sessions,
    stored_rows,
)

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal, Receipt
from agnes_mcp.snapshots import writing
from agnes_mcp.snapshots.models import SnapshotFacts
from agnes_mcp.snapshots.writing import ROW_GROUP_BYTES, ROW_GROUP_ROWS, TRIED_ROWS, regroup


def lists_of(levels: int) -> pa.DataType:
    """DuckDB would not be done with reading more than 16 of them out of Parquet."""
    return pa.list_(lists_of(levels - 1)) if levels else pa.int64()


def test_as_many_lists_are_kept_as_can_be_read(tmp_path: Path) -> None:
    table = pa.table({"v": pa.array([None, None], lists_of(16))})
    store = new_store(tmp_path)
    put(store, "s", table)
    assert stored_rows(store, "s") == [(None,), (None,)]


def test_a_snapshot_holds_its_rows_and_tells_what_it_is(tmp_path: Path) -> None:
    store = new_store(tmp_path / "snapshots", Clock())
    facts = FACTS.model_copy(update={"estimated_scan_bytes_at_fetch": 0, "sql": "SELECT …", "limit": 5000})
    table = sessions(1000)
    with store.claim(ANA, "sessions_de", new_call()) as claimed:
        written = claimed.write(
            table.to_batches(max_chunksize=7), table.schema, facts, lambda: Receipt(bytes_billed=10, job_id="j1")
        )
    snapshot = written.snapshot
    assert written.warnings == []
    assert stored_rows(store, "sessions_de") == [tuple(row.values()) for row in table.to_pylist()]
    assert (snapshot.name, snapshot.rows, snapshot.table_id) == ("sessions_de", 1000, "web_sessions")
    assert (snapshot.where, snapshot.where_sql) == ("country = 'DE'", "`country` = 'DE'")
    assert (snapshot.bytes_billed, snapshot.job_id, snapshot.estimated_scan_bytes_at_fetch) == (10, "j1", 0)
    assert snapshot.fetched_at == snapshot.effective_as_of == NOON
    assert [(c.name, c.type) for c in snapshot.columns] == [("id", "BIGINT"), ("country", "VARCHAR")]
    assert snapshot.bytes_local == data_file(store, "sessions_de").stat().st_size
    assert snapshot.file_sha256 == hashlib.sha256(data_file(store, "sessions_de").read_bytes()).hexdigest()
    assert snapshot.request().limit == 5000
    assert store.get(ANA, "sessions_de") == snapshot


def test_what_is_not_known_of_the_price_stays_unknown(tmp_path: Path) -> None:
    snapshot = put(new_store(tmp_path), "s", sessions(1))
    assert (snapshot.estimated_scan_bytes_at_fetch, snapshot.bytes_billed, snapshot.job_id) == (None, None, None)


def test_a_snapshot_without_rows_keeps_its_column_types(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    snapshot = put(store, "s", sessions(0))
    assert snapshot.rows == 0
    assert [c.type for c in snapshot.columns] == ["BIGINT", "VARCHAR"]
    assert stored_rows(store, "s") == []


@pytest.mark.parametrize(
    "names", [["order", "group"], ['a"b', "c'd; --"], ["x y", "ü"], ["c0", "position"], ["a", "A"]]
)
def test_any_column_name_is_kept(tmp_path: Path, names: list[str]) -> None:
    store = new_store(tmp_path)
    table = pa.table([pa.array([1]), pa.array(["x"])], names=names)
    put(store, "s", table, FACTS.model_copy(update={"order_by": [names[0]]}))
    assert pq.read_schema(data_file(store, "s")).names == names
    assert stored_rows(store, "s") == [(1, "x")]


@pytest.mark.parametrize(
    ("array", "duckdb_type", "expected"),
    [
        (pa.array([Decimal("1.5")], pa.decimal256(76, 38)), "VARCHAR", "1.5" + "0" * 37),
        (pa.array([Decimal("1.5")], pa.decimal256(20, 2)), "DECIMAL(20,2)", Decimal("1.50")),
        (pa.array([Decimal("1.5")], pa.decimal128(38, 9)), "DECIMAL(38,9)", Decimal("1.500000000")),
        (pa.array(["a"]).dictionary_encode(), "VARCHAR", "a"),
        (pa.array([1.5], pa.float16()), "FLOAT", 1.5),
        (pa.array([5], pa.duration("us")), "BIGINT", 5),
        (pa.array([(14, -3, 500_000_000)], pa.month_day_nano_interval()), "VARCHAR", "P14M-3DT0.5S"),
        (pa.array([(0, 0, -1_000_000_001)], pa.month_day_nano_interval()), "VARCHAR", "PT-1.000000001S"),
        (pa.array([[Decimal("1.5")]], pa.list_(pa.decimal256(50, 1))), "VARCHAR[]", ["1.5"]),
        (pa.array([{"x": [1]}], pa.struct([("x", pa.list_(pa.int64()))])), "STRUCT(x BIGINT[])", {"x": [1]}),
        (pa.array([{"x": 1.5}], pa.struct([("x", pa.float16())])), "STRUCT(x FLOAT)", {"x": 1.5}),
        (pa.array([["a"]], pa.large_list(pa.large_string())), "VARCHAR[]", ["a"]),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), "MAP(VARCHAR, INTEGER)", {"k": 1}),
        (pa.array([b"\x00\xff"]), "BLOB", b"\x00\xff"),
        (pa.array([True]), "BOOLEAN", True),
        (pa.array([2**64 - 1], pa.uint64()), "UBIGINT", 2**64 - 1),
    ],
)
def test_a_type_is_kept_as_duckdb_can_read_it_exactly(
    tmp_path: Path, array: pa.Array, duckdb_type: str, expected: object
) -> None:
    store = new_store(tmp_path)
    snapshot = put(store, "s", pa.table({"v": array}))
    assert snapshot.columns[0].type == duckdb_type
    assert stored_rows(store, "s") == [(expected,)]


def test_what_a_source_says_beside_the_types_does_not_matter(tmp_path: Path) -> None:
    """Metadata, NOT NULL and the names of list elements differ between what is announced and what arrives."""
    announced = pa.schema(
        [
            pa.field("g", pa.string(), metadata={"ARROW:extension:name": "google:sqlType:geography"}),
            pa.field("r", pa.int64(), nullable=False),
            pa.field("l", pa.list_(pa.field("element", pa.int64(), nullable=False))),
            pa.field("s", pa.struct([pa.field("x", pa.int64(), nullable=False)])),
        ],
        metadata={"pandas": "{}"},
    )
    rows = {"g": ["POINT(1 1)"], "r": pa.array([None], pa.int64()), "l": [[1, None]], "s": [{"x": 1}]}
    arrived = pa.table(rows).to_batches()
    store = new_store(tmp_path)
    store.write(ANA, "s", arrived, announced, FACTS, call=new_call())
    assert stored_rows(store, "s") == [("POINT(1 1)", None, [1, None], {"x": 1})]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"v": pa.array([{}], pa.struct([]))}),
        pa.table({"v": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
        pa.table({"v": pa.array([[(1, 1, 1)]], pa.list_(pa.month_day_nano_interval())).slice(0, 0)}),
        pa.table({"v": pa.array([], lists_of(17))}),
        pa.table({"v": pa.array([], pa.struct([("m", pa.map_(pa.string(), lists_of(16)))]))}),
    ],
    ids=["no columns", "empty struct", "union", "interval in a list", "17 lists", "lists in a map"],
)
def test_a_type_that_cannot_be_kept_is_refused_before_a_row_is_pulled(tmp_path: Path, table: pa.Table) -> None:
    def unpaid() -> Iterator[pa.RecordBatch]:
        pytest.fail("rows were pulled")
        yield

    store = new_store(tmp_path)
    with pytest.raises(AgnesError) as refused:
        store.write(ANA, "s", unpaid(), table.schema, FACTS, call=new_call())
    assert refused.value.kind == "invalid_argument"
    assert files_below(tmp_path) == []


def test_rows_with_other_columns_than_announced_are_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(AgnesError) as refused:
        store.write(
            ANA, "s", sessions(3).rename_columns(["id", "x"]).to_batches(), sessions(0).schema, FACTS, call=new_call()
        )
    assert refused.value.kind == "schema_changed"
    assert store.list(ANA) == []


class SourceError(Exception):
    """What a source might raise that nobody foresaw."""


@pytest.mark.parametrize("error", [SourceError(), cancelled(), KeyboardInterrupt(), ConnectionResetError(104, "reset")])
@pytest.mark.parametrize("rows", [0, 10, 300_000])
def test_an_error_of_the_source_passes_through_and_leaves_nothing(
    tmp_path: Path, error: BaseException, rows: int
) -> None:
    store = new_store(tmp_path)
    with pytest.raises(type(error)) as raised:
        store.write(ANA, "s", failing(sessions(rows).to_batches(), error), sessions(0).schema, FACTS, call=new_call())
    assert raised.value is error
    assert files_below(tmp_path) == []
    put(store, "s", sessions(5))
    assert len(stored_rows(store, "s")) == 5


@pytest.mark.parametrize("error", [SourceError(), cancelled()])
def test_a_forced_write_that_fails_keeps_the_old_version(tmp_path: Path, error: BaseException) -> None:
    store = new_store(tmp_path)
    before = put(store, "s", sessions(5))
    with pytest.raises(type(error)):
        store.write(
            ANA, "s", failing(sessions(9).to_batches(), error), sessions(0).schema, FACTS, force=True, call=new_call()
        )
    assert store.get(ANA, "s") == before
    assert len(stored_rows(store, "s")) == 5
    assert len(files_below(tmp_path)) == 2


def test_a_call_stopped_at_any_look_writes_nothing(tmp_path: Path) -> None:
    """Stopped at the first look, the second, … wherever the writer looks, until there is none left."""
    store = new_store(tmp_path)
    batches = sessions(10).to_batches(max_chunksize=2)
    never = StoppingCall(after=10_000)
    store.write(ANA, "whole", batches, sessions(0).schema, FACTS, call=never)
    assert never.looks > len(batches)
    before = files_below(tmp_path)
    for after in range(never.looks):
        call = StoppingCall(after)
        with pytest.raises(AgnesError) as stopped:
            store.write(ANA, "s", batches, sessions(0).schema, FACTS, call=call)
        assert stopped.value is call.reason
        assert files_below(tmp_path) == before
    store.write(ANA, "s", batches, sessions(0).schema, FACTS, call=StoppingCall(never.looks))
    assert len(stored_rows(store, "s")) == 10


class StoppingCall(Call):
    """A call that is cancelled when it is looked at for the n-th time."""

    def __init__(self, after: int) -> None:
        super().__init__("fetch", Principal(ANA))
        self.after = after
        self.looks = 0
        self.reason = cancelled()

    def check(self) -> None:
        self.looks += 1
        if self.looks > self.after:
            raise self.reason


def _batches(sizes: list[int]) -> list[pa.RecordBatch]:
    return [sessions(size).to_batches()[0] for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([1] * 300, [300]),
        ([ROW_GROUP_ROWS], [ROW_GROUP_ROWS]),
        ([ROW_GROUP_ROWS + 1], [ROW_GROUP_ROWS, 1]),
        ([100_000, 100_000], [ROW_GROUP_ROWS, 200_000 - ROW_GROUP_ROWS]),
        ([300_000], [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 300_000 - 2 * ROW_GROUP_ROWS]),
        ([], []),
    ],
)
def test_small_and_large_batches_become_row_groups_of_one_size(
    tmp_path: Path, sizes: list[int], groups: list[int]
) -> None:
    store = new_store(tmp_path)
    store.write(ANA, "s", _batches(sizes), sessions(0).schema, FACTS, call=new_call())
    footer = pq.read_metadata(data_file(store, "s"))
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == groups
    assert all(footer.row_group(i).column(0).compression == "ZSTD" for i in range(footer.num_row_groups))


def test_values_too_many_for_a_dictionary_are_packed_where_that_is_smaller(tmp_path: Path) -> None:
    rows = TRIED_ROWS + 5_000
    chance = random.Random(1)
    scattered = [chance.getrandbits(64) - 2**63 for _ in range(rows)]
    numbers = [None, -(2**63), 2**63 - 1, *range(rows - 3)]
    columns = {
        "count": pa.array(numbers, pa.int64()),
        "small": pa.array([None if i % 9 == 0 else i - 2**31 for i in range(rows)], pa.int32()),
        "at": pa.array(range(0, rows * 1000, 1000), pa.timestamp("us")),
        "share": pa.array([math.nan, -0.0, math.inf, None, *(i / 8 for i in range(rows - 4))]),
        "scattered": pa.array(scattered, pa.int64()),
        "cents": pa.array([chance.randrange(20_000) / 100 for _ in range(rows)]),
        "text": pa.array([f"{number:x}" for number in scattered]),
        "few": pa.array([i % 97 for i in range(rows)]),
        "word": pa.array([f"word {i % 97}" for i in range(rows)]),
        "nest": pa.array([{"ed": f"{number:x}"} for number in scattered]),
        "nest.ed": pa.array(range(rows)),  # a path that two columns have
    }
    store, table = new_store(tmp_path), pa.table(columns)
    put(store, "s", table)
    group = pq.read_metadata(data_file(store, "s")).row_group(0)
    chunks = [group.column(place) for place in range(group.num_columns)]
    encoded = {chunk.path_in_schema: "+".join(sorted({*chunk.encodings} - {"RLE"})) for chunk in chunks[:9]}
    assert encoded == {
        **dict.fromkeys(("count", "small", "at"), "DELTA_BINARY_PACKED"),
        "share": "BYTE_STREAM_SPLIT",
        **dict.fromkeys(("scattered", "cents"), "PLAIN"),
        **dict.fromkeys(("text", "few", "word"), "PLAIN+RLE_DICTIONARY"),
    }
    assert [set(chunk.encodings) for chunk in chunks[9:]] == [{"PLAIN", "RLE", "RLE_DICTIONARY"}] * 2
    assert all(chunk.statistics.has_min_max for chunk in chunks[:9] if chunk.path_in_schema != "share")
    assert repr(stored_rows(store, "s")) == repr(list(zip(*map(pa.Array.to_pylist, columns.values()), strict=True)))


@pytest.mark.skipif(sys.platform != "linux", reason="no other system is given the advice")
def test_a_file_system_that_takes_no_advice_gets_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = []

    def refuse(descriptor: int, start: int, size: int, advice: int) -> None:
        ranges.append((start, size))
        raise OSError(errno.EINVAL, "no advice here")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    monkeypatch.setattr(writing, "_BEGUN_BYTES", 1)
    rows = 5 * ROW_GROUP_ROWS
    numbers = pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(random.Random(1).randbytes(8 * rows))])
    table = pa.table({"v": numbers})
    store = new_store(tmp_path)
    put(store, "s", table)
    ends = [start + size for start, size in ranges]
    assert len(ranges) > 1
    assert [start for start, _ in ranges] == [0, *ends[:-1]]
    assert pq.read_table(data_file(store, "s")).equals(table)


def test_row_groups_of_wide_rows_are_bounded_in_bytes() -> None:
    wide = pa.table({"v": ["x" * 1_000_000] * 200}).to_batches()
    groups = list(regroup(wide, wide[0].schema, new_call()))
    assert sum(group.num_rows for group in groups) == 200
    assert max(group.nbytes for group in groups) <= ROW_GROUP_BYTES
    assert len(groups) == 3


def test_above_the_quota_a_write_warns_but_succeeds(tmp_path: Path) -> None:
    """A warning, not a refusal."""
    from agnes_mcp.snapshots import SnapshotStore

    store = SnapshotStore(tmp_path, quota_bytes=0, min_free_bytes=0)
    written = store.write(ANA, "s", sessions(10).to_batches(), sessions(0).schema, FACTS, call=new_call())
    assert "0 B" in written.warnings[0]
    assert len(stored_rows(store, "s")) == 10


def test_facts_with_a_time_that_has_no_zone_are_refused() -> None:
    facts: dict[str, Any] = {"table_id": "t", "expires_at": NOON.replace(tzinfo=None)}
    with pytest.raises(ValueError, match="timezone"):
        SnapshotFacts(**facts)


def test_an_expiry_and_staleness_follow_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    put(store, "s", sessions(1), FACTS.model_copy(update={"expires_at": NOON + timedelta(hours=24)}))
    assert (store.get(ANA, "s").expired, store.get(ANA, "s").stale) == (False, False)
    clock.forward(timedelta(hours=24))
    assert (store.get(ANA, "s").expired, store.get(ANA, "s").stale) == (True, False)
    clock.forward(timedelta(days=6, seconds=1))
    assert store.get(ANA, "s").stale
