"""Books in SQLite: in memory for one process, or in a file that all processes on one data directory share."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import QuotaStore
from agnes_mcp.spending.books import utc_now
from agnes_mcp.spending.stores import statements as sql
from agnes_mcp.spending.stores.ledger import Ledger
from agnes_mcp.spending.stores.statements import Session

if TYPE_CHECKING:
    from filelock import BaseFileLock

FILE = "books.sqlite3"
#: How long a session waits for those of other processes; each takes well under a millisecond.
BUSY_S = 5.0


class SqliteLedger(Ledger):
    """One connection per process; its threads take turns. `clock` is the day's, UTC."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__()
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.RLock()
        self._closed = False

    def close(self) -> None:
        with self._turn:
            if self._connection is not None:
                with suppress(AgnesError):
                    self._write_the_unwritten()
                    with self._session(scopes=()) as session:
                        self._take_over(session, self.owner)
                self._connection.close()
                self._connection = None
            self._closed = True

    def _open(self) -> sqlite3.Connection:
        return self._connect(":memory:")

    def _connect(self, database: str) -> sqlite3.Connection:
        connection = sqlite3.connect(database, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in sql.TABLES:
                connection.execute(statement)
            connection.execute(sql.ADD_META, {"name": "version", "value": str(sql.VERSION)})
            version = connection.execute(sql.READ_META, {"name": "version"}).fetchone()
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        if int(version[0]) > sql.VERSION:
            connection.close()
            raise sql.newer()
        return connection

    @contextmanager
    def _session(self, scopes: Collection[str] | None = None, durable: bool = False) -> Iterator[Session]:
        with self._turn, _errors_of_sqlite():
            connection = self._current()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN" if scopes is None else "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    def _current(self) -> sqlite3.Connection:
        if self._closed:
            raise AgnesError("quota_unavailable", "This server is shutting down.", "Call again once it is back.")
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _now(self, session: Session) -> datetime:
        return self._clock()

    def _adopt(self) -> bool:
        return False


class ProcessBooks(SqliteLedger):
    """Counts for this process alone, and forgets with it."""

    store: ClassVar[QuotaStore] = "process"


class FileBooks(SqliteLedger):
    """Counts for every process that has the same folder. The folder must be on a disk of this machine.

    A process holds a lock on a file of its own for as long as it lives; the kernel gives it back however the process
    ends. Whose lock can be taken is gone.
    """

    store: ClassVar[QuotaStore] = "file"

    def __init__(self, folder: Path, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        self._folder = folder
        self._owners = folder / "processes"
        self._path = folder / FILE
        self._alive: BaseFileLock | None = None
        self._file: tuple[int, int] | None = None

    def close(self) -> None:
        with self._turn:
            super().close()
            if self._alive is not None:
                with suppress(OSError):
                    self._alive.release()
                    self._lock_of(self.owner).unlink(missing_ok=True)
                self._alive = None

    def _open(self) -> sqlite3.Connection:
        from filelock import FileLock

        self._owners.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._alive is None:
            alive = FileLock(self._lock_of(self.owner), mode=0o600, thread_local=False)
            alive.acquire(timeout=BUSY_S)
            self._alive = alive
        # SQLite would make it readable by others; and two processes must not both turn the log on.
        with FileLock(self._folder / "open.lock", mode=0o600, timeout=BUSY_S, thread_local=False):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = self._connect(str(self._path))
        self._file = _identity(self._path)
        self._sweep()
        return connection

    def _current(self) -> sqlite3.Connection:
        connection = super()._current()
        if _identity(self._path) != self._file:
            raise AgnesError(
                "quota_unavailable",
                "The quota's books were removed or replaced while this server was running.",
                "Restart every server on this data directory.",
            )
        return connection

    def _adopt(self) -> bool:
        with self._session() as session:
            others = [str(row[0]) for row in session.execute(sql.OTHER_OWNERS, {"owner": self.owner}).fetchall()]
        found = False
        for owner in others:
            with _errors_of_sqlite(), _claimed(self._lock_of(owner)) as gone:
                if gone:
                    with self._session(scopes=()) as session:
                        found = self._take_over(session, owner) or found
        return found

    def _sweep(self) -> None:
        """Remove the lock files of processes that are gone and have left nothing else."""
        for path in self._owners.glob("*.lock"):
            if path != self._lock_of(self.owner):
                with _claimed(path):
                    pass

    def _lock_of(self, owner: str) -> Path:
        return self._owners / f"{owner}.lock"


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of that file; then it is held meanwhile, and the file is removed."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
        path.unlink(missing_ok=True)
    finally:
        lock.release()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _errors_of_sqlite() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _as_error(error) from error
    except TimeoutError as error:  # a lock of ours that others hold; an OSError too, but no failure of the disk
        raise _busy() from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full() from error
        raise _refused(os.strerror(error.errno) if error.errno else type(error).__name__) from error


def _as_error(error: sqlite3.Error) -> AgnesError:
    exactly = getattr(error, "sqlite_errorcode", 0)
    code = exactly & 0xFF  # the low byte is the kind, the rest says where
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _busy()
    if code == sqlite3.SQLITE_FULL or exactly == sqlite3.SQLITE_IOERR_SHMSIZE:  # the latter: no room for its index
        return _full()
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return AgnesError(
            "quota_unavailable",
            "The quota's books are damaged, so nothing can be spent.",
            f"Stop every server on this data directory, move books/{FILE} away, and start again: what was billed today "
            "is then read from the audit.",
        )
    return _refused(str(error) if exactly else type(error).__name__)  # its own words name no place and no value


def _full() -> AgnesError:
    return AgnesError(
        "disk_full",
        "The disk is full: what is spent could not be written down, so nothing was read.",
        "Free space with snapshot_drop or snapshot_prune (see disk_info), or free it otherwise, then call again.",
    )


def _busy() -> AgnesError:
    return AgnesError(
        "quota_unavailable",
        f"The quota's books were held by another process for more than {BUSY_S:g} seconds, so nothing was spent.",
        "Call again in a moment; if it stays so, look for a process that hangs on this data directory.",
    )


def _refused(reason: str) -> AgnesError:
    return AgnesError(
        "storage_failed",
        f"The disk refused: what is spent could not be written down ({reason}), so nothing was read.",
        "Check that the data directory is writable and its disk is healthy, then call again.",
        {"reason": reason},
    )
