"""Files as a store needs them: created once, synced before they are named, never reached through a symbolic link;
and the lock that lets one writer at a time have a name.

Every failure of the file system leaves as `AgnesError` without a path in it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Both are absent on Windows, where opening a reparse point is caught by `lstat` instead.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_POSIX = os.name == "posix"


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` from inside into `disk_full` or `storage_failed`; `doing` completes "could not …"."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing) from error


def disk_error(error: OSError, doing: str) -> AgnesError:
    if error.errno in _FULL:
        return disk_full(f"The disk is full: could not {doing}.")
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return AgnesError(
        "storage_failed",
        f"The disk refused: could not {doing} ({reason}).",
        "Nothing was changed. Check that the snapshots folder is writable and its disk is healthy, then call again.",
        {"reason": reason},
    )


def disk_full(message: str) -> AgnesError:
    return AgnesError(
        "disk_full",
        message,
        "Nothing was kept. Free space with snapshot_drop or snapshot_prune (see disk_info), or ask for fewer columns.",
    )


def open_new(path: Path) -> int:
    """A descriptor of a file that did not exist, readable by its owner alone."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY, 0o600)


def open_regular(path: Path) -> int:
    """A descriptor for reading; `OSError` unless it is a regular file reached without a symbolic link."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.ELOOP, "not a regular file")
    descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, "not a regular file")
    return descriptor


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file, at most `limit` + 1 bytes of it: one more than allowed shows that it is larger."""
    with open(open_regular(path), "rb") as file:
        return file.read(limit + 1)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write every byte: a full disk may take only some of them, and says so at the next call."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def begin_writing(descriptor: int, start: int, end: int) -> None:
    """Have the disk begin with these bytes of a file, without waiting for it.

    Linux takes the advice that a range is not needed as that: it writes what is not on the disk yet, and keeps it.
    Elsewhere nothing is told.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a file system that takes no advice; what is not on the disk is told by fsync
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


def write_new(path: Path, content: bytes) -> None:
    """A new file with this content, on the disk before this returns."""
    descriptor = open_new(path)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make renames and removals in a folder durable. Windows has no such call: there NTFS journals them."""
    if not _POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    unlinked(path)


def unlinked(path: Path) -> bool:
    """Remove a file; False where it was gone already."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def open_held(path: Path) -> int | None:
    """A descriptor that keeps `discard` from removing the file while it is open; None where the file is gone or going.

    A shared flock on POSIX, released by the kernel if the process dies; on Windows the open file alone does it.
    """
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    try:
        kept = _lock(descriptor, exclusive=False) and (not _POSIX or os.fstat(descriptor).st_nlink > 0)
    except BaseException:
        os.close(descriptor)
        raise
    if not kept:
        os.close(descriptor)
    return descriptor if kept else None


def discard(path: Path) -> bool:
    """Remove a data file that nobody reads; False where somebody does, and it has to wait for the next sweep."""
    if not _POSIX:
        return _discard_closed(path)
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return True
    except OSError:
        remove(path)  # a symbolic link or a device: what is removed is the name
        return True
    try:
        unread = _lock(descriptor, exclusive=True)
        if unread:
            remove(path)
        return unread
    finally:
        os.close(descriptor)


def _discard_closed(path: Path) -> bool:
    try:
        remove(path)
    except PermissionError:
        return False  # Windows refuses while the file is open anywhere
    return True


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
