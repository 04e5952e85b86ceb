"""One query in a worker process: gate, grant, lock, run, stream."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes import confinement, frames
from agnes_mcp.errors import AgnesError
from agnes_mcp.workbench import columns, engine, failures
from agnes_mcp.workbench.admission import Parser
from agnes_mcp.workbench.views import View

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Rows of a batch: what may be computed past the limit. Small answers should not wait for a large batch.
SMALL_BATCH_ROWS, LARGE_BATCH_ROWS = 2048, 16384

Admit = Callable[[str, Sequence[str], Parser], list[str]]


class Query:
    """`touched` tells whether the instance was given views or ran anything, and so must not serve again."""

    def __init__(
        self, requests: BinaryIO, answers: BinaryIO, instance: DuckDBPyConnection, parser: Parser, admit: Admit
    ) -> None:
        self._requests, self._answers = requests, answers
        self._instance, self._parser, self._admit = instance, parser, admit
        self._paths: list[str] = []
        self.touched = False

    def serve(self) -> bool:
        """Answer one request. False: this process should not serve another. Raises frames.ClosedError."""
        ask = self._receive(frames.ASK)
        confinement.limit_cpu(ask["cpu_s"])
        try:
            self._answer(ask)
        except (AgnesError, duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
            failure = failures.translate(error, ask["sql"], self._paths)
            frames.send_json(self._answers, frames.FAILED, failures.as_message(failure))
            return failures.leaves_process_sound(error, failure)
        return True

    def _answer(self, ask: dict[str, Any]) -> None:
        tables = self._admit(ask["sql"], ask["tables"], self._parser)
        frames.send_json(self._answers, frames.NEEDS, {"tables": tables})
        views = [View(**view) for view in self._receive(frames.GRANT)["views"]]
        self._paths = [path for view in views for path in view.files()]
        self.touched = True
        engine.lock_instance(self._instance, views)
        self._run(ask["sql"], ask["limit_rows"], ask["max_bytes"])

    def _run(self, sql: str, limit_rows: int, max_bytes: int) -> None:
        self._instance.execute(sql)
        description = self._instance.description or []
        types = [str(column[1]) for column in description]
        columns.check_types(types)
        batch_rows = SMALL_BATCH_ROWS if limit_rows < SMALL_BATCH_ROWS else LARGE_BATCH_ROWS
        reader = self._instance.to_arrow_reader(batch_rows)
        schema = columns.readable_schema(reader.schema, [str(column[0]) for column in description])
        stream = _Stream(self._answers, schema)
        cut_by = stream.copy(reader, limit_rows, max_bytes)
        done = {"rows": stream.rows, "cut_by": cut_by, "types": types}
        frames.send_json(self._answers, frames.DONE, done)

    def _receive(self, expected: bytes) -> dict[str, Any]:
        kind, content = frames.receive(self._requests)
        if kind != expected:
            raise frames.ClosedError
        message: dict[str, Any] = json.loads(content)
        return message


class _Stream:
    """Record batches on their way out, as one Arrow IPC stream in pieces."""

    def __init__(self, answers: BinaryIO, schema: pa.Schema) -> None:
        self._answers, self._schema = answers, schema
        self._piece = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._piece, self._schema)
        self.rows = 0
        self._bytes = 0

    def copy(self, reader: pa.RecordBatchReader, limit_rows: int, max_bytes: int) -> str:
        """Send batches until the limits; returns what ended it: "rows", "bytes", or "" when all were sent."""
        cut_by = ""
        for batch in reader:
            part = batch.slice(0, limit_rows - self.rows)
            cut_by = "rows" if part.num_rows < batch.num_rows else ""
            if self._bytes + part.nbytes > max_bytes:
                part, cut_by = part.slice(0, _rows_within(part, max_bytes - self._bytes)), "bytes"
            self._send(part)
            if cut_by:
                break
        if cut_by == "bytes" and self.rows == 0:
            raise _row_too_large(max_bytes)
        self._writer.close()
        self._flush()
        return cut_by

    def _send(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writer.write_batch(pa.record_batch(columns.Renamed(batch, self._schema)))
            self.rows += batch.num_rows
            self._bytes += batch.nbytes
            self._flush()

    def _flush(self) -> None:
        frames.queue(self._answers, frames.ARROW, self._piece.getvalue())
        self._piece.seek(0)
        self._piece.truncate()


def _rows_within(batch: pa.RecordBatch, max_bytes: int) -> int:
    """The largest number of leading rows that fit."""
    low, high = 0, batch.num_rows
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if batch.slice(0, middle).nbytes <= max_bytes else (low, middle - 1)
    return low


def _row_too_large(max_bytes: int) -> AgnesError:
    return AgnesError(
        "result_too_large",
        f"One row of the result alone has more than {max_bytes:,} bytes.",
        "Select fewer columns, or shorten long texts and lists (left(text, 200), list[1:20]).",
        {"max_bytes": max_bytes},
    )
