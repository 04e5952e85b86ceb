"""A process with DuckDB's `bigquery` extension, and nothing of anybody else: it may hang, abort or be killed.

    python -I -B -m agnes_mcp.sources.bigquery.attached_job MEMORY_BYTES THREADS

Each question holds the statements that load and attach, which run once, and perhaps one SELECT. The token is asked for
where a secret is made of it, and is in no question. Until the extension is loaded the process may write, to install it.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes import confinement, frames
from agnes_mcp.calls.processes.arrow import Stream
from agnes_mcp.calls.processes.child import Channel, main
from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.instance import open_beside_extension

#: What DuckDB raises, the built-in errors that it raises in the middle of a stream, and pyarrow's in its place.
_FOREIGN = (duckdb.Error, pa.ArrowException, OSError, MemoryError, RuntimeError, ValueError)
_MAX_TEXT_CHARS = 2_000


class Attached:
    """The job: one instance, loaded and attached for as long as the process lives."""

    def __init__(self, memory_bytes: int, threads: int) -> None:
        self._memory_bytes, self._threads = memory_bytes, threads
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._attached: list[str] = []
        self._token = ""
        self._renew_at = 0.0
        self._version = ""

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        phase = "load"
        try:
            connection = self._connection or self._open(question)
            phase = "attach"
            self._authorize(connection, question, channel)
            for statement in question["attach"]:
                if statement not in self._attached:
                    connection.execute(statement)
                    self._attached.append(statement)
            phase = "read"
            rows = self._read(connection, question, channel) if question["select"] else 0
            channel.end({"rows": rows, "version": self._version})
        except _FOREIGN as error:
            details = {"phase": phase, "text": str(error)[:_MAX_TEXT_CHARS]}
            channel.fail(frames.as_message(AgnesError("query_failed", "", "", details)))
            return False  # whatever it left behind goes with the process
        return True

    def renew(self) -> bool:
        return False

    def open_instance(self, question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        return open_beside_extension(self._memory_bytes, unsigned=question["unsigned"], folder=question["extensions"])

    def start(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any]) -> pa.RecordBatchReader:
        """The rows of the SELECT, as they stream."""
        return connection.cursor().sql(question["select"]).to_arrow_reader(question["batch_rows"])

    def _open(self, question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        connection = self.open_instance(question)
        for statement in question["load"]:
            connection.execute(statement)
        found = connection.execute(
            "SELECT extension_version FROM duckdb_extensions() WHERE loaded AND extension_name = ?",
            [question["extension"]],
        ).fetchone()
        self._version = str(found[0]) if found else ""
        confinement.deny_writing()
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute(f"SET GLOBAL threads = {self._threads}")
        self._connection = connection
        return connection

    def _authorize(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any], channel: Channel) -> None:
        """The secret, made anew where the token is another one; it counts from the next request on."""
        if not question["secret"]:
            return
        given = channel.need({})
        token = str(given["token"])
        self._renew_at = time.monotonic() + float(given["renew_in_s"])
        if token != self._token:
            connection.execute(question["secret"], [token])
            self._token = token

    def _read(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any], channel: Channel) -> int:
        reader = self.start(connection, question)
        stream = Stream(channel, reader.schema)
        for batch in reader:
            stream.send(batch)
            channel.flush()
            if time.monotonic() >= self._renew_at:
                self._authorize(connection.cursor(), question, channel)
        stream.close()
        return stream.rows


if __name__ == "__main__":
    with contextlib.suppress(frames.ClosedError):
        main({"attached": Attached}, networked=True)
