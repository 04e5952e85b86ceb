"""The shared DuckDB connection: one instance, a cursor per call.

Only SQL that the server built runs here. A cursor belongs to one thread for the length of one call; the connection
object itself is never handed out, because threads that share one read each other's rows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Receipt

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SPILL_PREFIX = "agnes-spill-"


class Warehouse:
    """Opened on first use."""

    def __init__(
        self,
        *,
        memory_limit_bytes: int,
        threads: int,
        spill_root: Path | None = None,
    ) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._threads = threads
        self._spill_root = spill_root or Path(tempfile.gettempdir())
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._spill: Path | None = None
        self.generation = 0  # goes up with each opening, so that what was attached is known to be gone

    @contextmanager
    def cursor(self, call: Call | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of this thread's own, closed at the end. Stopping the call interrupts what it runs.

        DuckDB's errors come out translated; see `sql.duckdb_errors`.
        """
        import duckdb

        from agnes_mcp.sql.instance import interrupt

        cursor = self._open().cursor()
        try:
            if call is None:
                yield cursor
            else:
                with call.interruptible(partial(interrupt, cursor)):
                    yield cursor
        except duckdb.Error as error:
            raise self.explain(error, call) from None
        finally:
            cursor.close()

    def explain(self, error: BaseException, call: Call | None, own: str = "") -> AgnesError:
        """What a failure of DuckDB means for the call: that it was stopped, or the translated error.

        `own` is the statement, where an agent's predicate is part of it. An instance that an internal error has made
        unusable is discarded.
        """
        from agnes_mcp.sql.duckdb_errors import INVALIDATED, of_our_statement

        if INVALIDATED in str(error):
            self.reopen()
        if call is not None:
            call.check()
        return of_our_statement(error, own)

    def cause_of(self, error: Exception, call: Call, sql: str) -> BaseException:
        """What failed in `sql`; see `sql.duckdb_errors.cause_of`."""
        from agnes_mcp.sql.duckdb_errors import INVALIDATED, cause_of
        from agnes_mcp.sql.instance import interrupt

        if call.stopped or INVALIDATED in str(error):
            return error
        with closing(self._open().cursor()) as cursor, call.interruptible(partial(interrupt, cursor)):
            return cause_of(error, sql, cursor.execute)

    def reopen(self) -> None:
        """Discard the instance; the next cursor opens a new one. Calls in flight fail with `table_unavailable`."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        self.reopen()
        if self._spill is not None:
            shutil.rmtree(self._spill, ignore_errors=True)

    def scratch(self) -> Path:
        """A folder of this process that goes with the warehouse."""
        with self._lock:
            if self._spill is None:
                sweep_spill(self._spill_root)
                self._spill = Path(tempfile.mkdtemp(prefix=f"{SPILL_PREFIX}{os.getpid()}-", dir=self._spill_root))
            return self._spill

    def _open(self) -> duckdb.DuckDBPyConnection:
        spill = self.scratch()
        with self._lock:
            if self._connection is None:
                self._connection = self._connect(spill)
                self.generation += 1
            return self._connection

    def _connect(self, spill: Path) -> duckdb.DuckDBPyConnection:
        import duckdb

        from agnes_mcp.sql.duckdb_lines import settings

        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{self._memory_limit_bytes // 1024}KiB",
                "threads": self._threads,
                "temp_directory": str(spill),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_unsigned_extensions": False,
                "allow_persistent_secrets": False,
                "python_enable_replacements": False,
                # Streams that are registered here keep their order; rows of files come in theirs.
                "preserve_insertion_order": True,
                **settings(),
            },
        )
        # A cursor inherits global settings only.
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        return connection


class FreeReading:
    """A running read of what DuckDB gives, here or in a process of ours, as record batches. It is free."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], call: Call) -> None:
        self.schema, self.columns = schema, None
        self.receipt = Receipt()
        self._batches, self._call = batches, call

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self._call.check()
            yield batch

    def whole(self) -> pa.Table:
        """All that is left."""
        import pyarrow as pa

        return pa.Table.from_batches(list(self), self.schema)


def run(
    cursor: duckdb.DuckDBPyConnection,
    sql: str,
    rows: int,
    explain: Callable[[Exception], AgnesError],
    *,
    plain: bool = False,
) -> pa.RecordBatchReader:
    """The statement's rows, as many in a batch; `plain` where it reads no column that Arrow cannot carry. Raises what
    `explain` makes of a failure."""
    import duckdb
    import pyarrow as pa

    from agnes_mcp.sql.duckdb_types import lossless

    try:
        return lossless(cursor, sql, plain=plain).to_arrow_reader(rows)
    except (duckdb.Error, pa.ArrowInvalid) as error:  # Arrow's: types nested deeper than it hands on
        raise explain(error) from None


def batches(reader: pa.RecordBatchReader, explain: Callable[[Exception], AgnesError]) -> Iterator[pa.RecordBatch]:
    """What the reader of a shared connection gives. Raises what `explain` makes of a failure."""
    import pyarrow as pa

    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:  # how DuckDB fails in the middle of a stream
            raise explain(error) from None
        yield batch


def sweep_spill(root: Path) -> None:
    """Remove spill folders of processes that are gone."""
    for folder in root.glob(f"{SPILL_PREFIX}*-*"):
        import psutil  # mostly there is none

        owner = folder.name.removeprefix(SPILL_PREFIX).split("-", 1)[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            with suppress(OSError):
                shutil.rmtree(folder)
