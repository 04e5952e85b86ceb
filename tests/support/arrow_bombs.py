"""Arrow files of a few kilobytes that stand for more than a machine holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from support.awkward import Awkward

MIB = 2**20
#: In each column of a batch as many bytes, which it takes once while the file is made.
_ZEROS = bytes(64 * MIB)


def bombs(folder: Path) -> dict[str, Awkward]:
    """Each takes gigabytes where it is read whole, and its file less than two megabytes."""
    many = 2_000_000
    lists = pa.ListViewArray.from_arrays(
        pa.repeat(pa.scalar(0, pa.int32()), many), pa.repeat(pa.scalar(MIB, pa.int32()), many), pa.nulls(MIB, pa.int8())
    )
    records = pa.DictionaryArray.from_arrays(
        pa.repeat(pa.scalar(0, pa.int8()), many), pa.array([{"a": list(range(10_000))}])
    )
    refused: dict[str, Any] = {"kind": "table_unavailable", "says": "more than the memory"}
    return {
        "arrow_of_zeros": Awkward(file(folder / "zeros.arrow", *_zeros()), **refused),
        "arrow_stream_of_zeros": Awkward(file(folder / "zeros.arrows", *_zeros()), **refused),
        "arrow_of_one_list": Awkward(file(folder / "list.feather", lists), **refused),
        "arrow_of_one_record": Awkward(file(folder / "record.arrow", records), **refused),
        "arrow_of_one_run": Awkward(file(folder / "run.arrow", run(many, "x" * MIB)), **refused),
    }


def run(rows: int, value: object) -> pa.Array:
    """So many rows of one value, which takes the room of one."""
    return pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int64()), pa.array([value]))


def _zeros() -> list[pa.Array]:
    """A gigabyte and a half of one buffer."""
    count = len(_ZEROS) // 8
    return [pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(_ZEROS)])] * 24


def file(path: Path, *columns: pa.Array) -> Path:
    """One compressed batch of those columns, c0 and so on."""
    batch = pa.RecordBatch.from_arrays(list(columns), names=[f"c{place}" for place in range(len(columns))])
    new = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as out, new(out, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return path
