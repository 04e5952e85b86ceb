"""Record batches cut and framed for the wire: bounded messages, whatever the rows weigh."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

#: A receiver's default limit is 4 MiB a message; BigQuery itself stays near 1 MiB.
_TARGET_BATCH_BYTES = 1 << 20
_MAX_BATCH_BYTES = 3 << 20


def compression(codec: int) -> str | None:
    return {1: "lz4", 2: "zstd"}.get(codec)


def serialize(batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions) -> bytes:
    """The encapsulated IPC message of one batch, without its schema."""
    if options.compression is None:
        return bytes(batch.serialize().to_pybytes())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
    messages.read_next_message()
    return bytes(messages.read_next_message().serialize().to_pybytes())


def skip(source: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in source:
        if rows >= batch.num_rows:
            rows -= batch.num_rows
            continue
        yield batch.slice(rows)
        rows = 0


def bounded(source: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about the target size."""
    for batch in source:
        pieces = max(1, -(-batch.nbytes // _TARGET_BATCH_BYTES))
        rows = max(1, -(-batch.num_rows // pieces))
        for start in range(0, batch.num_rows, rows):
            yield from _halved(batch.slice(start, rows))


def _halved(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch`, halved until no part is over the limit of a message: long values may stand together."""
    if batch.nbytes <= _MAX_BATCH_BYTES or batch.num_rows <= 1:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _halved(batch.slice(0, middle))
    yield from _halved(batch.slice(middle))
