"""The attached process with a file in BigQuery's place, which misbehaves as the extension was seen to.

It is the real process and the real job; what differs are the statements (`FileStatements`: a DuckDB file attached under
the same three-part names) and a function in them that does, in the middle of a scan, what the extension did.

    python -I -B attached_double.py MEMORY_BYTES THREADS
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes.child import main
from agnes_mcp.sources.bigquery.attached_job import Attached as Job
from agnes_mcp.sources.bigquery.extension_sql import ExtensionStatements, alias

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings
    from agnes_mcp.sources.bigquery.names import TablePath

COMMAND = ("-I", "-B", str(Path(__file__).resolve()))
#: The words of the extension for what Storage Read answered.
REFUSALS = {
    "unauthenticated": "ReadRows failed: UNAUTHENTICATED: Request had invalid authentication credentials.",
    "internal": "ReadRows failed: INTERNAL: RST_STREAM",
    "denied": "ReadRows failed: PERMISSION_DENIED: Permission denied on table my-project:my_dataset.big",
    "exhausted": "CreateReadSession failed: RESOURCE_EXHAUSTED: Quota exceeded",
}


class FileStatements(ExtensionStatements):
    """`file` stands for BigQuery. `fault` is what happens at the row `at`, or when it is loaded (`load:…`)."""

    def __init__(self, settings: BigQuerySettings, file: Path, fault: str = "", at: int = 0) -> None:
        super().__init__(settings)
        self._file = file
        self._loading, self._reading = (fault, "") if fault.startswith("load:") else ("", fault)
        self._at = at
        self.load = ["SET GLOBAL preserve_insertion_order = false", f"SELECT '{self._loading}'"]

    def secret(self) -> str:
        return "SET VARIABLE token = ?"

    def attach(self, project: str, dataset: str) -> str:
        return f"ATTACH IF NOT EXISTS '{self._file}' AS \"{alias(project, dataset)}\" (READ_ONLY)"

    def select(self, path: TablePath, columns: Sequence[str]) -> str:
        return f"{super().select(path, columns)} -- {self._reading or 'nothing'}:{self._at}"


class Double(Job):
    def open_instance(self, question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        if fault := str(question["load"][-1]).partition("load:")[2].rstrip("'"):
            misbehave(fault)
        return super().open_instance(question)

    def start(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any]) -> pa.RecordBatchReader:
        """The rows of the file, through a scan of DuckDB's in which the fault happens."""
        fault, _, at = str(question["select"]).rpartition(" -- ")[2].partition(":")
        reader = super().start(connection, question)
        if fault == "nothing":
            return reader
        cursor = connection.cursor()
        faulty = pa.RecordBatchReader.from_batches(reader.schema, until(reader, fault, int(at)))
        cursor.register("faulty", faulty.__arrow_c_stream__())
        return cursor.execute("FROM faulty").to_arrow_reader(question["batch_rows"])


def until(reader: pa.RecordBatchReader, fault: str, at: int) -> Iterator[pa.RecordBatch]:
    """The first `at` rows; then the fault."""
    given = 0
    for batch in reader:
        part = batch.slice(0, at - given)
        given += part.num_rows
        if part.num_rows:
            yield part
        if given >= at:
            break
    if fault != "truncate":
        misbehave(fault)


def misbehave(fault: str) -> None:
    if fault == "abort":
        os.abort()
    if fault == "stall":  # whatever interrupts it
        threading.Event().wait(3600)
    if fault == "silent port":  # somebody accepts, and never answers
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as asked:
            asked.recv(1)
    raise OSError(REFUSALS.get(fault, "the stream broke"))


if __name__ == "__main__":
    main({"attached": Double}, networked=True)
