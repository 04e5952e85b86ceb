"""A process with one extension of DuckDB and one source attached: it may hang, abort or be killed.

    python -I -B -m agnes_mcp.sources.extensions.job MEMORY_BYTES THREADS

Each question names a table of the source, and the statement of ours to run over it. The token is asked for once, where
a secret is made of it, and is in no question. Until the extension is loaded the process may write, to install it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes import confinement, frames
from agnes_mcp.calls.processes.arrow import Stream
from agnes_mcp.calls.processes.child import Channel, main
from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_errors
from agnes_mcp.sql.duckdb_errors import Complaint
from agnes_mcp.sql.duckdb_types import BATCH_ROWS, columns_of, lossless
from agnes_mcp.sql.instance import open_beside_extension
from agnes_mcp.sql.names import identifier
from agnes_mcp.sql.views import View, make_view

_FOREIGN = (duckdb.Error, pa.ArrowException, OSError, MemoryError, RuntimeError, ValueError)
#: What is the statement's own fault, as with any other local table.
_OF_STATEMENT = (Complaint.VALUES, Complaint.MEMORY, Complaint.INTERRUPT, Complaint.ARGUMENTS)


class Attached:
    """The job: one instance, loaded and attached for as long as the process lives."""

    def __init__(self, memory_bytes: int, threads: int) -> None:
        self._memory_bytes, self._threads = memory_bytes, threads
        self._connection: duckdb.DuckDBPyConnection | None = None

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        phase = "load"
        try:
            connection = self._connection or self._load(question)
            phase = "attach"
            if self._connection is None:
                self._attach(connection, question, channel)
                self._connection = connection
            phase = "read"
            self._read(connection, question, channel)
        except _FOREIGN as error:
            failure = self._failure(error, phase, question)
            channel.fail(frames.as_message(failure))
            return failure.kind == "query_failed"
        return True

    def renew(self) -> bool:
        return False

    def open_instance(self, question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        return open_beside_extension(self._memory_bytes, unsigned=question["unsigned"], folder=question["extensions"])

    def _load(self, question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        connection = self.open_instance(question)
        *others, last = question["load"]
        for statements in others:
            with contextlib.suppress(duckdb.Error):
                _run(connection, statements)
                break
        else:
            _run(connection, last)
        confinement.deny_writing()
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute(f"SET GLOBAL threads = {self._threads}")
        return connection

    def _attach(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any], channel: Channel) -> None:
        if question["secret"]:
            connection.execute(question["secret"], [channel.need({})["token"], *question["secret_more"]])
        connection.execute(question["attach"])
        if question["self_contained"]:
            connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def _read(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any], channel: Channel) -> None:
        """The columns of the table, or without `sql` these alone; then the rows of the statement."""
        name, alias = question["name"], question["alias"]
        schema = question["schema"] or _default_schema(connection, alias)
        view = View(name, "duckdb_table", [], source_table=question["table"], source_schema=schema)
        make_view(connection, view, alias)
        connection.execute(f"SELECT * FROM {identifier(name)} LIMIT 0")  # noqa: S608 - an id
        columns = [column.model_dump(mode="json") for column in columns_of(connection.description or [])]
        if not question["sql"]:
            channel.end({"columns": columns})
            return
        changed = [c["name"] for c in question["columns"] if c not in columns]
        if changed:
            channel.fail(frames.as_message(AgnesError("schema_changed", "", "", {"columns": changed[:20]})))
            return
        reader = lossless(connection, question["sql"]).to_arrow_reader(BATCH_ROWS)
        stream = Stream(channel, reader.schema)
        for batch in reader:
            stream.send(batch)
        stream.close()
        channel.end({"rows": stream.rows})

    def _failure(self, error: BaseException, phase: str, question: dict[str, Any]) -> AgnesError:
        """Nothing that the extension says is repeated: it may hold the token, an address or a value."""
        complaint = duckdb_errors.complaint_of(error)
        own = question["own"] and complaint is Complaint.NAMES
        if phase == "read" and (complaint in _OF_STATEMENT or own):
            return duckdb_errors.of_our_statement(error, question["own"])
        details = {"phase": phase, "said": duckdb_errors.name_of(error)}
        return AgnesError("table_unavailable", "", "", details)


def _run(connection: duckdb.DuckDBPyConnection, statements: list[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _default_schema(connection: duckdb.DuckDBPyConnection, alias: str) -> str:
    """Where a name without a schema is looked for."""
    connection.execute(f"USE {identifier(alias)}")
    found = connection.execute("SELECT current_schema()").fetchone()
    connection.execute("USE memory.main")
    return str(found[0]) if found else "main"


if __name__ == "__main__":
    with contextlib.suppress(frames.ClosedError):
        main({"attached": Attached}, networked=True)
