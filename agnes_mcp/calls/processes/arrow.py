"""Record batches on their way out of a worker process: one Arrow IPC stream, in pieces."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from agnes_mcp.calls.processes.child import Channel


class Stream:
    """Sends batches under `schema`, which has their layout and perhaps other names. `rows` and `bytes` are counted."""

    def __init__(self, channel: Channel, schema: pa.Schema) -> None:
        self._channel, self._schema = channel, schema
        self._piece = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._piece, self._schema)
        self.rows = 0
        self.bytes = 0

    def send(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writer.write_batch(under_schema(batch, self._schema))
            self.rows += batch.num_rows
            self.bytes += batch.nbytes
            self._flush()

    def close(self) -> None:
        self._writer.close()
        self._flush()

    def _flush(self) -> None:
        self._channel.send_piece(self._piece.getvalue())
        self._piece.seek(0)
        self._piece.truncate()


def under_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same batch under another schema of the same layout, which may differ in names, nullability and metadata."""
    return pa.record_batch(_Renamed(batch, schema))


class _Renamed:
    """A record batch under another schema of the same layout, for `pa.record_batch`."""

    def __init__(self, batch: pa.RecordBatch, schema: pa.Schema) -> None:
        self._batch, self._schema = batch, schema

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._schema.__arrow_c_schema__(), self._batch.__arrow_c_array__()[1]
