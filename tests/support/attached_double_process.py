"""The process of `attached_double`: the real job, and what the extension does to it. It reads no more than that job.

python -I -B attached_double_process.py MEMORY_BYTES THREADS
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

from agnes_mcp.calls.processes.child import main
from agnes_mcp.sources.bigquery.attached_job import Attached as Job

#: The words of the extension for what Storage Read answered.
REFUSALS = {
    "unauthenticated": "ReadRows failed: UNAUTHENTICATED: Request had invalid authentication credentials.",
    "internal": "ReadRows failed: INTERNAL: RST_STREAM",
    "denied": "ReadRows failed: PERMISSION_DENIED: Permission denied on table my-project:my_dataset.big",
    "exhausted": "CreateReadSession failed: RESOURCE_EXHAUSTED: Quota exceeded",
}


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
        scan = outlive(reader, connection.cursor(), int(at)) if fault == "expire" else until(reader, fault, int(at))
        faulty = pa.RecordBatchReader.from_batches(reader.schema, scan)
        cursor.register("faulty", faulty.__arrow_c_stream__())
        return cursor.sql("FROM faulty").to_arrow_reader(question["batch_rows"])


def outlive(reader: pa.RecordBatchReader, cursor: duckdb.DuckDBPyConnection, pause_ms: int) -> Iterator[pa.RecordBatch]:
    """All rows, slowly; but no more of them once the token of the beginning was refused, unless there is another."""

    def token() -> str:
        return str((cursor.execute("SELECT token FROM memory.main.secret").fetchone() or ("",))[0])

    first, started = token(), time.monotonic()
    for batch in reader:
        time.sleep(pause_ms / 1000)  # a slow wire
        yield batch
    if token() == first and time.monotonic() - started > pause_ms / 1000:
        misbehave("unauthenticated")


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
    FAULTS.get(fault, lambda: None)()
    raise OSError(REFUSALS.get(fault, "the stream broke"))


def fill_memory() -> None:
    taken = []
    while True:
        taken.append(bytearray(2**26))


def wait_for_a_silent_port() -> None:
    """Somebody accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as asked:
        asked.recv(1)


def try_a_closed_port() -> None:
    """Nobody listens, and it tries again and again, as it does for ten minutes."""
    with socket.socket() as held:  # bound: neither another process nor the one that tries is given that port meanwhile
        held.bind(("127.0.0.1", 0))
        while True:
            with socket.socket() as trying:
                if not trying.connect_ex(held.getsockname()):
                    return
            threading.Event().wait(0.02)


def ask_a_port_that_closes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as asked:
        server.accept()[0].close()
        if not asked.recv(1):
            raise ConnectionResetError("the connection was closed")


FAULTS: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the system does where memory runs out
    "memory": fill_memory,
    "stall": lambda: threading.Event().wait(3600),  # whatever interrupts it
    "silent port": wait_for_a_silent_port,
    "closed port": try_a_closed_port,
    "port closes": ask_a_port_that_closes,
}


if __name__ == "__main__":
    main({"attached": Double}, networked=True)
