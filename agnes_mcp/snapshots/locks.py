"""One writer per snapshot name, across threads and processes. The kernel releases the lock of a holder that died."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError

from .files import disk_errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

_POLL_S = 0.02


@contextmanager
def exclusive(path: Path, name: str, wait_s: float, call: Call | None = None) -> Iterator[None]:
    """Hold the lock of `name`, or raise `snapshot_busy` after `wait_s`; a stopped call stops waiting."""
    from filelock import FileLock

    # Another thread may close what this one opened; and every use has a lock of its own, so threads exclude each other.
    lock = FileLock(path, mode=0o600, thread_local=False)
    deadline = time.monotonic() + wait_s
    while not _acquire(lock):
        if call is not None:
            call.check()
        if time.monotonic() >= deadline:
            raise busy(name)
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def busy(name: str) -> AgnesError:
    return AgnesError(
        "snapshot_busy",
        f"Snapshot {name!r} is being written or dropped by another call.",
        "Wait for that call, or use another name.",
        {"name": name},
    )


def _acquire(lock: BaseFileLock) -> bool:
    from filelock import Timeout

    with disk_errors("lock the snapshot"):
        try:
            lock.acquire(timeout=0)
        except Timeout:  # an OSError too, but no failure of the disk
            return False
    return True
