"""Arrow files: read where they harm nobody, once for each state; others may write them anew meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from support.arrow_bombs import bombs, file, run
from support.instances import ME

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local import conversion
from agnes_mcp.sources.local.conversion import Conversions
from agnes_mcp.sources.local.files import find_files

#: Of which a file of some megabytes is large.
LITTLE_BYTES = 256 * 2**20


@pytest.fixture(scope="module")
def little() -> Iterator[Conversions]:
    conversions = Conversions(LITTLE_BYTES)
    yield conversions
    conversions.close()


def arrow(path: Path, count: int = 4, rows: int = 100_000) -> pa.RecordBatch:
    """A file of so many such batches, of 800 kB each."""
    batch = pa.record_batch({"a": list(range(rows))})
    new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    with new(path, batch.schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)
    return batch


def parquet(conversions: Conversions, path: Path, call: Call | None = None) -> Any:
    """What is made of the file at `path`, beside it."""
    table = Table(id="t", source_type="local", path=str(path))
    (made,) = conversions.parquet(table, find_files(table), path.parent, call or Call("scan", ME))
    return duckdb.connect().read_parquet(made)


def test_what_stands_for_more_than_there_is_memory_is_refused_once(tmp_path: Path, little: Conversions) -> None:
    for name, bomb in bombs(tmp_path).items():
        for _ in range(2):
            with pytest.raises(AgnesError, match=bomb.says) as told:
                parquet(little, bomb.path)
            assert told.value.kind == bomb.kind, name
        os.unlink(bomb.path)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_for_more_work_than_its_size_is_refused(
    tmp_path: Path, little: Conversions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is what would take more of the disk."""
    path = file(tmp_path / "t.arrow", run(2**31 - 1, 7))
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_LEAST_WORK_S", 1)
        with pytest.raises(AgnesError, match="far more than files of its size"):
            parquet(little, path)
    monkeypatch.setattr(conversion, "_LEAST_BYTES", 0)
    path = file(tmp_path / "u.arrow", pa.DictionaryArray.from_arrays(pa.repeat(0, 200), pa.array(["x" * 2**22])))
    with pytest.raises(AgnesError, match="far more than files of its size"):
        parquet(little, path)
    assert {each.name for each in tmp_path.iterdir()} == {"t.arrow", "u.arrow"}


@pytest.mark.parametrize("ending", ["arrow", "arrows"])
def test_a_large_file_is_served_beside_little_memory(tmp_path: Path, little: Conversions, ending: str) -> None:
    """Also where all of it is one batch; all of it is more than the process may use."""
    path = tmp_path / f"t.{ending}"
    batch = pa.record_batch([pa.array(range(300)), pa.repeat("x" * 2**20, 300)], names=["a", "text"])
    new = pa.ipc.new_file if ending == "arrow" else pa.ipc.new_stream
    with new(path, batch.schema) as writer:
        writer.write_batch(batch)
    assert path.stat().st_size > LITTLE_BYTES
    assert parquet(little, path).aggregate("sum(a), sum(length(text))").fetchall() == [(150 * 299, 300 * 2**20)]


def test_many_small_batches_make_few_row_groups(tmp_path: Path, little: Conversions) -> None:
    arrow(tmp_path / "t.arrow", count=20_000, rows=10)
    made = parquet(little, tmp_path / "t.arrow")
    assert made.aggregate("count(*), sum(a)").fetchall() == [(200_000, 900_000)]
    (path,) = tmp_path.glob("*.parquet")
    assert duckdb.sql(f"SELECT num_row_groups FROM parquet_file_metadata('{path}')").fetchall() == [(2,)]


def test_what_parquet_writes_otherwise_keeps_its_values(tmp_path: Path, little: Conversions) -> None:
    columns = {
        "run": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", "b"])),
        "records": pa.DictionaryArray.from_arrays(pa.array([0, 0, None], pa.int8()), pa.array([{"a": 1}])),
        "wide": pa.array([Decimal("1.25"), Decimal(-7), None], pa.decimal256(50, 2)),
        "lists": pa.array([[1], [2, 3], None], pa.list_view(pa.int64())),
        "texts": pa.array(["a", "b" * 30, None], pa.string_view()),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pa.ipc.new_file(tmp_path / "t.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    assert parquet(little, tmp_path / "t.arrow").fetchall() == [
        ("a", {"a": 1}, 1.25, [1], "a"),
        ("a", {"a": 1}, -7.0, [2, 3], "b" * 30),
        ("b", None, None, None, None),
    ]


def test_dictionaries_that_grow_or_are_replaced_keep_their_values(tmp_path: Path, little: Conversions) -> None:
    schema = pa.schema([("a", pa.dictionary(pa.int32(), pa.string()))])
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    for path, second in ((tmp_path / "t.arrow", ["a", "b", "c"]), (tmp_path / "t.arrows", ["x", "y", "c"])):
        new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with new(path, schema, options=options) as writer:
            for words, places in ((["a", "b"], [0, 1]), (second, [2, 0])):
                column = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(words))
                writer.write_batch(pa.RecordBatch.from_arrays([column], schema=schema))
        assert parquet(little, path).fetchall() == [("a",), ("b",), ("c",), (second[0],)]


def test_a_type_that_parquet_does_not_have_is_named(tmp_path: Path, little: Conversions) -> None:
    path = file(tmp_path / "t.arrow", pa.array([1]), pa.array([pa.MonthDayNano([1, 2, 3])]))
    with pytest.raises(AgnesError, match=r"column 'c1' is of Arrow's type month_day_nano_interval") as told:
        parquet(little, path)
    assert told.value.kind == "unsupported_format"


class _Cutting(Call):
    """Cuts the file short once rows of it have come."""

    def __init__(self, path: Path) -> None:
        super().__init__("scan", ME)
        self._path = path

    def check(self) -> None:
        if list(self._path.parent.glob("*.parquet")):
            os.truncate(self._path, 4096)
        super().check()


@pytest.mark.parametrize("count", [4, 100])
def test_a_file_that_is_cut_short_while_it_is_read_is_an_error(tmp_path: Path, little: Conversions, count: int) -> None:
    """Whether it is read or, as a large one, mapped: then a signal ends what reads it, and nobody else."""
    path = tmp_path / "t.arrow"
    arrow(path, count)
    assert (path.stat().st_size > LITTLE_BYTES // conversion._PART_IN_MEMORY) == (count == 100)
    with pytest.raises(AgnesError, match="damaged or not what it was"):
        parquet(little, path, _Cutting(path))
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.parametrize("ending", ["arrow", "arrows"])
def test_a_file_that_is_not_what_was_found_is_not_kept(tmp_path: Path, little: Conversions, ending: str) -> None:
    """Of a stream the batches before the cut would be taken for all."""
    path = tmp_path / f"t.{ending}"
    batch = arrow(path)
    table = Table(id="t", source_type="local", path=str(path))
    files = find_files(table)
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(AgnesError, match="damaged or not what it was"):
        little.parquet(table, files, tmp_path, Call("scan", ME))
    assert list(tmp_path.glob("*.parquet")) == []
