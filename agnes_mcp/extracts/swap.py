"""A DuckDB file that is replaced whole: built beside the old one, renamed over it, never with another file's log.

A write-ahead log that a crash left beside the old file would be replayed into the new one, so it goes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.layout import wal_of
from agnes_mcp.snapshots.files import disk_errors, remove, sync_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: How a full disk is told in the words of the system.
_FULL = ("No space left", "quota exceeded", "File too large")
#: How often a run that waits for another one looks again.
_LOOK_S = 0.1


@contextmanager
def replacing(final: Path, call: Call) -> Iterator[Path]:
    """The path at which to build the new file; it takes the old one's place at the end, unless the block raises.

    One run at a time: another one is waited for until the call ends. Raises `disk_full`, `storage_failed`, and what
    ends the call; then the old file and its log are as they were.
    """
    building = final.with_name(f"{final.name}.tmp")
    with disk_errors("make the folder"):
        final.parent.mkdir(parents=True, exist_ok=True)
    with _alone(final, call):
        with disk_errors("remove what an earlier run left"):
            _discard(building)
        try:
            with _written(final.name, call):
                yield building
            call.check()
            with disk_errors("replace the file"):
                _publish(building, final)
        finally:
            with disk_errors("remove the unfinished file"):
                _discard(building)


@contextmanager
def _written(name: str, call: Call) -> Iterator[None]:
    """What DuckDB says while it writes that file: of the disk, or of itself."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        call.check()
        said = str(error)
        if any(full in said for full in _FULL):
            raise AgnesError(
                "disk_full",
                f"The disk is full: {name} was not written, and what was there stays.",
                "Free space on that disk, then run it again.",
            ) from None
        raise AgnesError(
            "storage_failed",
            f"{name} could not be written ({type(error).__name__}); what was there stays.",
            "Check that its folder is writable and its disk is healthy, then run it again.",
        ) from None


def _publish(building: Path, final: Path) -> None:
    if wal_of(building).exists():
        raise AgnesError("storage_failed", f"{final.name} was not closed whole.", "Run it again; nothing was replaced.")
    remove(wal_of(final))
    building.replace(final)
    sync_folder(final.parent)


def _discard(building: Path) -> None:
    remove(building)
    remove(wal_of(building))


@contextmanager
def _alone(final: Path, call: Call) -> Iterator[None]:
    from filelock import FileLock

    lock = FileLock(final.with_name(f".{final.name}.lock"), mode=0o600, thread_local=False)
    while not _acquired(lock):
        call.check()
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock) -> bool:
    from filelock import Timeout

    with disk_errors("lock the folder"):
        try:
            lock.acquire(timeout=_LOOK_S, poll_interval=_LOOK_S / 2)
        except Timeout:  # an OSError too, but no failure of the disk
            return False
    return True
