"""The shared DuckDB connection: one instance, a cursor per call.

Only SQL that the server built runs here. A cursor belongs to one thread for the length of one call; the connection
object itself is never handed out, because threads that share one read each other's rows.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    import duckdb

SPILL_PREFIX = "agnes-spill-"
# What DuckDB says once an internal error has made the whole instance unusable.
INVALIDATED = "database has been invalidated"


class Warehouse:
    """Opened on first use. `allow_unsigned_extensions` is for a local extension file and fixed at opening."""

    def __init__(
        self,
        *,
        memory_limit_bytes: int,
        threads: int,
        spill_root: Path | None = None,
        unsigned_extensions: bool = False,
    ) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._threads = threads
        self._spill_root = spill_root or Path(tempfile.gettempdir())
        self._unsigned_extensions = unsigned_extensions
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._spill: Path | None = None
        self.generation = 0  # goes up with each opening, so that what was attached is known to be gone

    @contextmanager
    def cursor(self, call: Call | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of this thread's own, closed at the end. Stopping the call interrupts what it runs.

        DuckDB's errors come out translated; see `translate`.
        """
        import duckdb

        cursor = self._open().cursor()
        try:
            if call is None:
                yield cursor
            else:
                with call.interruptible(cursor.interrupt):
                    yield cursor
        except duckdb.Error as error:
            raise self.explain(error, call) from None
        finally:
            cursor.close()

    def explain(self, error: Exception, call: Call | None) -> AgnesError:
        """What a failure of DuckDB means for the call: that it was stopped, or the translated error.

        An instance that an internal error has made unusable is discarded.
        """
        if INVALIDATED in str(error):
            self.reopen()
        if call is not None:
            call.check()
        return translate(error)

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

    def _open(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
                self.generation += 1
            return self._connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        if self._spill is None:
            sweep_spill(self._spill_root)
            self._spill = Path(tempfile.mkdtemp(prefix=f"{SPILL_PREFIX}{os.getpid()}-", dir=self._spill_root))
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{self._memory_limit_bytes // 1024}KiB",
                "threads": self._threads,
                "temp_directory": str(self._spill),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_unsigned_extensions": self._unsigned_extensions,
                "allow_persistent_secrets": False,
                "python_enable_replacements": False,
                "preserve_insertion_order": False,
            },
        )
        # A cursor inherits global settings only.
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        return connection


def sweep_spill(root: Path) -> None:
    """Remove spill folders of processes that are gone."""
    import psutil

    for folder in root.glob(f"{SPILL_PREFIX}*-*"):
        owner = folder.name.removeprefix(SPILL_PREFIX).split("-", 1)[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            with suppress(OSError):
                shutil.rmtree(folder)


def as_duckdb_error(error: Exception) -> Exception:
    """What DuckDB raised in the middle of an Arrow stream: Arrow hands over the text, which begins with the kind."""
    import duckdb

    kinds: dict[str, type[Exception]] = {
        "INTERRUPT Error": duckdb.InterruptException,
        "Out of Memory Error": duckdb.OutOfMemoryException,
        "Conversion Error": duckdb.ConversionException,
        "Out of Range Error": duckdb.OutOfRangeException,
        "IO Error": duckdb.IOException,
        "FATAL Error": duckdb.FatalException,
        "INTERNAL Error": duckdb.InternalException,
    }
    text = str(error)
    kind = next((kinds[name] for name in kinds if text.startswith(name)), duckdb.InvalidInputException)
    return kind(text)


def translate(error: Exception) -> AgnesError:
    """One of DuckDB's exceptions as ours: without paths, with the next step."""
    import duckdb

    text = without_paths(str(error))
    if INVALIDATED in text or isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
        return AgnesError("table_unavailable", "DuckDB had an internal error and was reopened.", "Call again.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return AgnesError(
            "query_out_of_memory",
            "DuckDB ran out of the memory it may use.",
            "Select fewer columns, narrow the WHERE, or aggregate over fewer distinct values.",
        )
    if isinstance(error, duckdb.InterruptException):
        return AgnesError("cancelled", "The statement was interrupted.", "Call again when needed.")
    if isinstance(error, (duckdb.IOException, duckdb.HTTPException, duckdb.PermissionException)):
        return unavailable("its files are missing or cannot be read")
    if isinstance(error, (duckdb.CatalogException, duckdb.BinderException)):
        return AgnesError("schema_changed", f"The table is not as it was: {text}", "Call `schema` again, then repeat.")
    if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.TypeMismatchException)):
        return AgnesError("query_failed", text, "Check the literals and casts against the types that `schema` shows.")
    if isinstance(error, (duckdb.InvalidInputException, duckdb.NotImplementedException)) and not _DAMAGE.search(text):
        return AgnesError("query_failed", text, "Check the patterns and literals, and what the functions take.")
    return unavailable("its files are damaged or not what they were")


def unavailable(reason: str, table_id: str = "") -> AgnesError:
    which = f"The table {table_id!r}" if table_id else "The table"
    return AgnesError(
        "table_unavailable",
        f"{which} cannot be read just now: {reason}.",
        "Other tables are not affected. Tell whoever keeps this instance; the files of the table need a look.",
    )


# DuckDB has one exception for a bad pattern and for a bad file; only a file's message speaks of these.
_DAMAGE = re.compile(
    r"<path>|CSV Error|[Pp]arquet|[Tt]hrift|TProtocol|[Dd]ecompress|what type:|[Pp]age header|magic bytes|"
    r"[Cc]hecksum|[Cc]orrupt"
)
_QUOTED_PATH = re.compile(r"""(["'])(?:[A-Za-z]:)?[\\/][^"']*[\\/][^"']*\1""")
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\"`:;,()\[\]]+){2,}[\\/]?|file:\S+")


def without_paths(text: str) -> str:
    """The first line of DuckDB's message (its caret picture quotes SQL of ours), with anything like a path removed."""
    said = _QUOTED_PATH.sub("<path>", text.split("\n\nLINE ", 1)[0])
    return _PATH.sub("<path>", said).replace("\n", " ").strip()
