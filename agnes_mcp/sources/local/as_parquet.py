"""The rows of a file that is read in a process of its own, as the bytes of one Parquet file, which leave it in pieces.

Whatever the file is, the server only sees bytes that are written here, and counts them: what decodes, checks and
encodes what somebody else wrote may take no more than this process may, and ends with it.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.processes import frames
from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.duckdb_errors import unavailable

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.calls.processes.child import Channel

#: Rows of a row group, as DuckDB writes it; and bytes, of which a group of wide rows has fewer rows.
_GROUP_ROWS = 122_880
_GROUP_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20
#: How a process ends that has used up its processor's time, where the system counts that.
OVERWORKED = -signal.SIGPROF if sys.platform != "win32" else None

#: What is told as a failure of writing where the writer found no memory.
_OUT_OF_MEMORY = ("bad_alloc", "alloc of size")

Rows = tuple["pa.Schema", Iterable["pa.RecordBatch"]]


def answer(channel: Channel, table_id: str, read: Callable[[], Rows], too_large: AgnesError) -> None:
    """Answer with the rows that `read` gives, as Parquet; with what it raises; or, out of memory, with `too_large`."""
    import pyarrow as pa

    try:
        schema, batches = read()
        channel.end({"rows": _send(channel, schema, batches)})
    except MemoryError:
        channel.fail(frames.as_message(too_large))
    except AgnesError as error:
        channel.fail(frames.as_message(error))
    except (pa.ArrowException, OSError, ValueError) as error:
        short = any(words in str(error) for words in _OUT_OF_MEMORY)
        channel.fail(frames.as_message(too_large if short else damaged(table_id)))


def damaged(table_id: str) -> AgnesError:
    reason = "its file could not be converted to Parquet: it is damaged or not what it was"
    return unavailable(reason, table_id)


def limit_work(seconds: int) -> None:
    """End the process as `OVERWORKED` when it has used that much of a processor's time; only where there is a count.

    A call's deadline ends only this one call's reading, and the next call would begin it again.
    """
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _send(channel: Channel, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BufferedWriter(_Pieces(channel), _PIECE_BYTES)
    rows = 0
    with pq.ParquetWriter(pa.PythonFile(out, mode="w"), schema) as writer:
        for group in _groups(batches):
            table = pa.Table.from_batches(group, schema)
            # What is written for each of a hundred thousand pieces takes longer than to make one of them.
            writer.write_table(table if len(group) == 1 else table.combine_chunks(), row_group_size=_GROUP_ROWS)
            rows += table.num_rows
    out.flush()
    return rows


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches that make one row group: a file of very small ones has few groups, one of a very large one many."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        for part in parts(batch):
            if group and (rows + part.num_rows > _GROUP_ROWS or size + part.nbytes > _GROUP_BYTES):
                yield group
                group, rows, size = [], 0, 0
            group.append(part)
            rows, size = rows + part.num_rows, size + part.nbytes
    if group:
        yield group


def parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of no more than a row group has; none where there are no rows."""
    if not batch.num_rows:
        return
    step = max(1, min(_GROUP_ROWS, batch.num_rows * _GROUP_BYTES // max(1, batch.nbytes)))
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


class _Pieces(io.RawIOBase):
    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._channel.send_piece(bytes(piece))
        return len(piece)
