"""From files to snapshots: what is there, whether it is whole, and a path that stays valid while it is read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots.models import Snapshot

from .files import disk_errors, open_held, read_regular
from .folder import Folder, Found
from .names import folder_name
from .sidecar import MAX_SIDECAR_BYTES, UnreadableSidecarError, parse

_HASHED_AT_ONCE = 1024 * 1024
# A sidecar can be replaced between the look at it and the look at its rows. Each retry needs another complete write in
# between, so that many in a row do not happen.
_TRIES = 20


@dataclass(frozen=True)
class Stored:
    """A snapshot and where its rows are; `path` is None where that is not known."""

    snapshot: Snapshot
    path: Path | None = None


def load(folder: Folder, name: str) -> Stored | None:
    """The snapshot of that name as its files tell it, damaged or not, without reading its rows; None: there is none."""
    for _ in range(_TRIES):
        content = _sidecar_bytes(folder, name)
        if isinstance(content, str):
            return damaged(folder, name, content)
        if content is None:
            return _without_sidecar(folder, name)
        stored = _from_sidecar(folder, name, content)
        if stored.snapshot.damaged is None or _sidecar_bytes(folder, name) == content:
            return stored
    return damaged(folder, name, "its files keep changing")


def damaged(folder: Folder, name: str, reason: str, snapshot: Snapshot | None = None) -> Stored:
    size = size_on_disk(folder, name)
    known = snapshot or Snapshot(name=name)
    return Stored(known.model_copy(update={"damaged": reason, "bytes_local": size}))


def size_on_disk(folder: Folder, name: str, found: Found | None = None) -> int:
    """Bytes of the data files of a name."""
    tokens = folder.tokens(name) if found is None else found.tokens
    return sum(_size(folder.data(name, token)) for token in tokens)


def computed(snapshot: Snapshot, now: datetime, stale_after: timedelta) -> Snapshot:
    """The snapshot with what depends on the time of day: `expired` and `stale`."""
    as_of = snapshot.effective_as_of or snapshot.fetched_at
    return snapshot.model_copy(
        update={
            "expired": is_expired(snapshot, now),
            "stale": as_of is not None and now - as_of > stale_after,
        }
    )


def is_expired(snapshot: Snapshot, now: datetime) -> bool:
    """Whether its time is over. What has no expiry, or one that cannot be read, never expires."""
    return snapshot.expires_at is not None and snapshot.expires_at <= now


class Verifier:
    """Compares data files with their SHA-256, once per version of a file: (device, inode, size, mtime in ns)."""

    def __init__(self) -> None:
        # At most as `_remember` says; a file that is written to has another key.
        self._known: dict[tuple[object, ...], bool] = {}
        self._failed: set[str] = set()  # what files were to have that had not: those of others need no look
        self._lock = threading.Lock()

    def damage(self, descriptor: int, snapshot: Snapshot, call: Call | None = None) -> str | None:
        """Why the open file is not the one that was written; None: it is."""
        status = os.fstat(descriptor)
        if status.st_size != snapshot.bytes_local:
            return "its file has another size than was written"
        key = self._key(status, snapshot)
        with self._lock:
            intact = self._known.get(key)
        if intact is None:
            intact = _sha256(descriptor, call) == snapshot.file_sha256
            self._remember(key, intact)
        return None if intact else "its file fails its checksum"

    def known_damage(self, path: Path, snapshot: Snapshot) -> str | None:
        """As `damage`, from what has been found out before; never reads the file."""
        if snapshot.file_sha256 not in self._failed:
            return None
        try:
            key = self._key(os.lstat(path), snapshot)
        except FileNotFoundError:
            return None  # replaced since it was looked at
        return "its file fails its checksum" if self._known.get(key) is False else None

    @staticmethod
    def _key(status: os.stat_result, snapshot: Snapshot) -> tuple[object, ...]:
        return (
            snapshot.file_sha256,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    def _remember(self, key: tuple[object, ...], intact: bool) -> None:
        with self._lock:
            if len(self._known) >= 10_000:
                self._known.clear()
                self._failed.clear()
            self._known[key] = intact
            if not intact:
                self._failed.add(str(key[0]))


@contextmanager
def reading(folder: Folder, name: str, verifier: Verifier, call: Call | None = None) -> Iterator[tuple[Stored, Path]]:
    """A snapshot whose file is verified and stays where it is until the end of the block, dropped or replaced or not.

    Raises `snapshot_not_found`, `snapshot_damaged`.
    """
    stored, path, descriptor = _open(folder, name)
    try:
        reason = verifier.damage(descriptor, stored.snapshot, call)
        if reason is not None:
            raise damage_error(name, reason)
        yield stored, path
    finally:
        os.close(descriptor)


def not_found(name: str) -> AgnesError:
    return AgnesError(
        "snapshot_not_found",
        f"There is no snapshot {name[:80]!r}.",
        "Call snapshot_list to see what there is, or fetch to make one.",
        {"name": name[:80]},
    )


def damage_error(name: str, reason: str) -> AgnesError:
    return AgnesError(
        "snapshot_damaged",
        f"Snapshot {name!r} cannot be used: {reason}.",
        "Fetch it again with force=true, or drop it with snapshot_drop.",
        {"name": name, "reason": reason},
    )


def _open(folder: Folder, name: str) -> tuple[Stored, Path, int]:
    for _ in range(_TRIES):
        stored = load(folder, name)
        if stored is None:
            raise not_found(name)
        if stored.path is None:
            raise damage_error(name, stored.snapshot.damaged or "its file is missing")
        with disk_errors("read the snapshot"):
            descriptor = open_held(stored.path)
        if descriptor is not None:
            return stored, stored.path, descriptor
    raise damage_error(name, "its file keeps changing")


def _sidecar_bytes(folder: Folder, name: str) -> bytes | str | None:
    """The sidecar's content; a reason where it cannot be read; None where there is none."""
    try:
        return read_regular(folder.sidecar(name), MAX_SIDECAR_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "its metadata is not a regular file"
        return f"its metadata cannot be read ({os.strerror(error.errno or 0)})"


def _without_sidecar(folder: Folder, name: str) -> Stored | None:
    tokens = folder.tokens(name)
    if any(folder.orphaned(name, token) for token in tokens):
        return damaged(folder, name, "its metadata is missing")
    return None


def _from_sidecar(folder: Folder, name: str, content: bytes) -> Stored:
    try:
        sidecar = parse(content, name)
    except UnreadableSidecarError as error:
        return damaged(folder, name, str(error))
    snapshot, path = sidecar.snapshot, folder.data(name, sidecar.token)
    if folder_name(snapshot.principal) != folder.path.name:
        return damaged(folder, name, "its metadata belongs to somebody else")
    reason = visible_damage(path, snapshot)
    return Stored(snapshot, path) if reason is None else damaged(folder, name, reason, snapshot)


def visible_damage(path: str | Path, snapshot: Snapshot) -> str | None:
    """Why the file at `path` cannot be the rows of the snapshot, without reading it; None: it may be."""
    try:
        status = os.lstat(path)
    except OSError:
        return "its file is missing"
    if not stat.S_ISREG(status.st_mode):
        return "its file is not a regular file"
    if status.st_size != snapshot.bytes_local:
        return "its file has another size than was written"
    return None


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _sha256(descriptor: int, call: Call | None) -> str:
    digest = hashlib.sha256()
    with disk_errors("read the snapshot"):
        os.lseek(descriptor, 0, os.SEEK_SET)
        while part := os.read(descriptor, _HASHED_AT_ONCE):
            if call is not None:
                call.check()
            digest.update(part)
    return digest.hexdigest()
