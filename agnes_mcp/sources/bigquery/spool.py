"""Rows put aside until it is known that they are all there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import pyarrow as pa

#: What is smaller never touches the disk.
IN_MEMORY_BYTES = 16 * 2**20


class Spool:
    """Record batches of one schema, in a file without a name that goes with it. Use it as a context manager.

    Raises OSError where there is no room.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self._writer = pa.ipc.new_stream(self._file, schema)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def finish(self) -> None:
        """Nothing more comes; what was added is where it is to be read from."""
        self._writer.close()
        self._file.flush()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All that was added before `finish`, in its order; once."""
        self._file.seek(0)
        yield from pa.ipc.open_stream(self._file)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written is written once more first; the file is closed all the same
            self._file.close()
