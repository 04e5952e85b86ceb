"""Record batches into one Parquet file: streamed, hashed on the way, synced, read back."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column

from .amounts import format_bytes
from .content import ContentHash, Engine
from .files import begin_writing, disk_errors, disk_full, open_new, write_all
from .folder import used_bytes
from .storable import storable_schema, store_as

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from _typeshed import ReadableBuffer

#: DuckDB's own row group: it reads row groups in parallel, and smaller ones slow it down ("Parquet Tips", DuckDB docs).
ROW_GROUP_ROWS = 122_880
#: A row group of wide rows is cut here, so that memory does not depend on how wide they are.
ROW_GROUP_BYTES = 64 * 1024 * 1024
#: Where a column's dictionary is given up for plain values. With pyarrow's megabyte keys, times and notes are looked up
#: value by value and then written plain all the same: this takes 0.6 of its time, and the file is half as large.
DICTIONARY_BYTES = 128 * 1024

#: Of so many rows of a longer result other encodings are tried: enough for a number's dictionary to pass that limit.
TRIED_ROWS = 40_960
#: How numbers too many for a dictionary are packed: as differences, or all their first bytes before all second ones.
#: Writing them then takes a third to a half of the time, and reading less. DuckDB reads neither for other types.
_PACKED = dict.fromkeys(("INT32", "INT64"), "DELTA_BINARY_PACKED") | dict.fromkeys(
    ("FLOAT", "DOUBLE"), "BYTE_STREAM_SPLIT"
)

#: What is handed to the disk at once. The writer hands on each column of a row group in four parts, of some bytes.
WRITE_BYTES = 1024 * 1024
#: After so many bytes the disk is told to begin with them, so that it has little left to do when the file is synced.
_BEGUN_BYTES = 4 * WRITE_BYTES
#: Bytes of a column, on average, below which zstd takes longer to begin than it saves.
_WORTH_COMPRESSING_BYTES = 512


@dataclass(frozen=True)
class Room:
    """What may be written in a principal's `folder`: `min_free_bytes` stay free on its disk, and twice as many for
    others once all that is in it takes more than `quota_bytes`, so that nobody alone takes the last of the disk."""

    folder: Path
    quota_bytes: int
    min_free_bytes: int

    def require(self, disk: Path, expected_bytes: int) -> None:
        """`disk_full` unless it holds once `expected_bytes` are written to the disk of that folder, which exists."""
        free, floor = shutil.disk_usage(disk).free, self.min_free_bytes
        left, why = free - expected_bytes, ""
        if left < 2 * floor and used_bytes(self.folder) + expected_bytes > self.quota_bytes:
            floor *= 2
            quota = format_bytes(self.quota_bytes)
            why = f" for others, as your snapshots would take more than the {quota} meant for them"
        if left < floor:
            raise disk_full(
                f"The disk has {format_bytes(free)} free; {format_bytes(expected_bytes)} more are wanted "
                f"and {format_bytes(floor)} have to stay free{why}."
            )


@dataclass(frozen=True)
class Staged:
    """A complete file under its staging name."""

    rows: int
    size_bytes: int
    sha256: str
    content_hash: str
    columns: list[Column]


def stage(
    path: Path,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    engine: Engine,
    call: Call,
    ordered: bool,
    room: Room,
) -> Staged:
    """Write `batches` to the new file `path`, to the disk. Whatever is raised, the caller removes the file.

    Raises what iterating raises, what ended the call, `disk_full`, `storage_failed`, `schema_changed`.
    """
    stored = storable_schema(schema)
    with engine.cursor() as cursor:
        content = ContentHash(cursor, stored, ordered=ordered)
        with _Sink(path, call) as sink:
            with closing(_with_room(regroup(batches, stored, call), path.parent, room)) as tables:
                _write_parquet(sink, tables, content, stored)
            sink.sync()
    columns = _read_back(path, sink.size_bytes, content.rows, engine)
    return Staged(content.rows, sink.size_bytes, sink.sha256.hexdigest(), content.hexdigest(), columns)


def regroup(batches: Iterable[pa.RecordBatch], schema: pa.Schema, call: Call) -> Iterator[pa.Table]:
    """The same rows in tables of at most `ROW_GROUP_ROWS` rows and about `ROW_GROUP_BYTES`; the last may be smaller."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        call.check()
        left = store_as(batch, schema)
        while left.num_rows:
            left_bytes = left.nbytes  # of thousands of batches, each of some columns: asked once
            fit = max(1, (ROW_GROUP_BYTES - size) * left.num_rows // max(1, left_bytes))
            part = left.slice(0, min(ROW_GROUP_ROWS - rows, fit))
            left = left.slice(part.num_rows)
            waiting.append(part)
            rows, size = rows + part.num_rows, size + (part.nbytes if left.num_rows else left_bytes)
            if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES or left.num_rows:
                yield pa.Table.from_batches(waiting, schema).combine_chunks()
                waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema).combine_chunks()


def _with_room(tables: Iterator[pa.Table], folder: Path, room: Room) -> Generator[pa.Table, None, None]:
    """The tables, each once there is room for it."""
    for table in tables:
        room.require(folder, table.nbytes if room.min_free_bytes else 0)
        yield table


def _write_parquet(sink: _Sink, tables: Iterator[pa.Table], content: ContentHash, schema: pa.Schema) -> None:
    """Encoded, compressed and written by one thread, while this one reads and hashes: neither holds the GIL for long,
    and each takes about as long as the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = list(islice(tables, 1))
    buffered = pa.BufferedOutputStream(pa.PythonFile(sink, mode="w"), WRITE_BYTES)
    writer = pq.ParquetWriter(buffered, schema, **_encoding(first))
    try:
        with ThreadPoolExecutor(1, "snapshot-write") as beside:
            content.take(_written(chain(first, tables), writer, beside))
        writer.close()
        buffered.detach()  # so that what is left of it is written, and the file stays open
    except BaseException:
        sink.deaf = True  # or the writer, when it is collected, would try to write a footer behind what is there
        with suppress(pa.ArrowException, OSError):
            writer.close()
            buffered.detach()
        raise


def _written(tables: Iterator[pa.Table], writer: pq.ParquetWriter, beside: ThreadPoolExecutor) -> Iterator[pa.Table]:
    """The tables, each while it is written. Of small ones the next but one may wait for that, so that neither thread
    waits whenever the other takes a little longer."""
    under_way: deque[Future[None]] = deque()
    for table in tables:
        may_wait = 1 if 2 * table.nbytes <= ROW_GROUP_BYTES else 0
        while len(under_way) > may_wait:
            under_way.popleft().result()
        under_way.append(beside.submit(writer.write_table, table, row_group_size=ROW_GROUP_ROWS))
        yield table
    for piece in under_way:
        piece.result()


def _encoding(first: list[pa.Table]) -> dict[str, Any]:
    """What the Parquet writer is told, by the first row group: of a few values in each column there is nothing to
    compress, and to begin doing so takes most of the time that thousands of such columns take."""
    few = all(table.nbytes < _WORTH_COMPRESSING_BYTES * table.num_columns for table in first)
    if few:
        return {"compression": "none", "use_dictionary": False}
    usual = {"compression": "zstd", "dictionary_pagesize_limit": DICTIONARY_BYTES}
    if first[0].num_rows <= TRIED_ROWS:
        return usual
    return usual | _packed(first[0].slice(0, TRIED_ROWS), usual)


def _packed(sample: pa.Table, usual: dict[str, Any]) -> dict[str, Any]:
    """Which numbers have no dictionary: those that would give it up soon, for it takes more room than it saves them."""
    paths = [chunk.path_in_schema for chunk in _chunks(sample.slice(0, 1), usual)]
    many = [name for name in sample.column_names if paths.count(name) == 1 and _too_many(sample.column(name))]
    if not many:
        return {}
    bare = usual | {"use_dictionary": False}
    plain = _chunks(sample.select(many), bare)
    ways = {chunk.path_in_schema: _PACKED.get(chunk.physical_type, "PLAIN") for chunk in plain}
    packed = _chunks(sample.select(many), bare | {"column_encoding": ways})
    for name, large, small in zip(many, plain, packed, strict=True):
        if small.total_compressed_size > large.total_compressed_size:
            ways[name] = "PLAIN"
    return {"use_dictionary": [path for path in paths if path not in ways], "column_encoding": ways}


def _too_many(column: pa.ChunkedArray) -> bool:
    """Whether it has numbers, and too many for a dictionary."""
    import pyarrow.types as types

    kind = column.type
    number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind) or types.is_temporal(kind)
    return bool(number and column.unique().nbytes > DICTIONARY_BYTES)


def _chunks(table: pa.Table, told: dict[str, Any]) -> list[Any]:
    """What the footer says of each column, were it written so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = pa.BufferOutputStream()
    pq.write_table(table, target, **told)
    group = pq.read_metadata(pa.BufferReader(target.getvalue())).row_group(0)
    return [group.column(place) for place in range(group.num_columns)]


def _read_back(path: Path, size_bytes: int, rows: int, engine: Engine) -> list[Column]:
    """The columns that the disk has, which must have what was written, as far as its size and its footer tell."""
    import duckdb

    try:
        with disk_errors("read the snapshot back"):
            if os.lstat(path).st_size == size_bytes:
                found, columns = engine.footer(path)
                if found == rows:
                    return columns
    except duckdb.Error:
        pass  # told below: the file is not what was written
    raise AgnesError(
        "storage_failed",
        "The snapshot read back from the disk is not what was written.",
        "Nothing was kept. Check the disk of the snapshots folder, then call again.",
    )


class _Sink(io.RawIOBase):
    """The file below the Parquet writer: counts and hashes what passes, and stops when the call is stopped.

    The hash is that of the bytes that were meant, so a disk that keeps other bytes is found out at the first read.
    """

    def __init__(self, path: Path, call: Call) -> None:
        super().__init__()
        self.size_bytes = self._begun_bytes = 0
        self.sha256 = hashlib.sha256()
        self.deaf = False
        self._call = call
        with disk_errors("create the snapshot"):
            self._descriptor = open_new(path)

    def writable(self) -> bool:
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        view = memoryview(content)
        if self.deaf:
            return view.nbytes
        self.deaf = True  # unless this ends well: what is written next may have begun before anybody hears of a failure
        self._call.check()
        with disk_errors("write the snapshot"):
            write_all(self._descriptor, view)
        self.deaf = False
        self.sha256.update(view)
        self.size_bytes += view.nbytes
        if self.size_bytes - self._begun_bytes >= _BEGUN_BYTES:
            begin_writing(self._descriptor, self._begun_bytes, self.size_bytes)
            self._begun_bytes = self.size_bytes
        return view.nbytes

    def tell(self) -> int:
        return self.size_bytes

    def sync(self) -> None:
        with disk_errors("write the snapshot"):
            os.fsync(self._descriptor)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
