"""What lists of snapshots read: of each its outline, kept while its sidecar is the same file; never the truth.

A sidecar holds every column twice and may have megabytes. Its outline is the snapshot without columns and SQL, and with
the first names of a long `select`. Outlines of large sidecars are in `.index.json` of their folder too, for the next
process; the file proves itself, and one that does not is read as empty. Small sidecars are kept whole, in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from agnes_mcp.snapshots.models import Snapshot

from .files import read_regular, write_new
from .folder import Folder, new_token
from .names import folder_name
from .reading import Stored, load, visible_damage

#: A sidecar of fewer bytes is as quick to read as its outline.
SMALL_BYTES = 8 * 1024
#: Entries in memory, of all principals together: at most as many times `SMALL_BYTES`.
_MOST_KNOWN = 4_096
_MOST_COLUMN_SETS = 32
_MOST_LISTINGS = 256
_MAX_INDEX_BYTES = 4 * 1024 * 1024
_SELECTED_SHOWN = 200
#: A file that was written less than this ago may be written again within the same tick of the clock.
_SETTLED_AFTER_NS = 100_000_000
#: The same of a folder on a disk whose clock has whole seconds: FAT's has every other one.
_SETTLED_AFTER_COARSE_NS = 3_000_000_000
_FILE = ".index.json"

K = TypeVar("K")
V = TypeVar("V")
#: Device, inode, size, times of change: those of one version of a file.
_Signature = tuple[int, int, int, int, int]


class Columns(NamedTuple):
    """The names of a snapshot's columns in small letters, and whether they are all that its table had."""

    held: frozenset[str]
    every: bool


class _Entry(NamedTuple):
    """A sidecar's version, what it says, and the file of its rows."""

    signature: _Signature
    stored: Stored
    token: str
    data: str


class _Listing(NamedTuple):
    """A folder's version, and the paths of all sidecars that it then had, sorted; all of them were known."""

    signature: _Signature
    paths: list[str]


class _Latest(OrderedDict[K, V]):
    """At most so many, those that were put or used last. Not thread-safe."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)


class Index:
    """Thread-safe; for any number of folders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # `_MOST_KNOWN`, least used out; true of a sidecar with that signature alone.
        # By the sidecar's path, as a text: to make and to compare `Path`s took longer than to look at the files.
        self._known = _Latest[str, _Entry](_MOST_KNOWN)
        self._read: set[str] = set()
        self._turns: dict[Path, threading.Lock] = {}  # one a folder, so one a caller who has snapshots
        self._listings = _Latest[str, _Listing](_MOST_LISTINGS)  # of a folder, true of that version of it alone
        # `_MOST_COLUMN_SETS`; by what the sidecar's file is, so never of another.
        self._columns = _Latest[_Signature, Columns](_MOST_COLUMN_SETS)

    def outlines(self, folder: Folder) -> list[Stored]:
        """Every snapshot of a folder, sorted by name, damaged ones too; large ones without columns and SQL."""
        found, learnt, place = list[Stored](), False, os.fspath(folder.path)
        self._read_file(folder, place)
        signature, paths, every = _settled(place), list[str](), True
        for name in sorted(folder.survey()):
            path = f"{place}/{name}.meta.json"
            paths.append(path)
            stored = self._unchanged(path)
            if stored is None:
                every = False
                with self._turn(folder):  # two calls at once do not open the same one
                    stored = self._unchanged(path)
                    if stored is None:
                        stored, is_large = self._learn(folder, name)
                        learnt = learnt or is_large
            if stored is not None:
                found.append(stored)
        if learnt:
            self._write_file(folder, place)
        if every and signature is not None:
            with self._lock:
                self._listings.put(place, _Listing(signature, paths))
        return found

    def chosen(self, folder: Folder, choose: Callable[[list[Stored]], Snapshot | None]) -> Snapshot | None:
        """What `choose` takes of `outlines`. Only the files of what it takes are looked at, unless one came, went or
        was replaced since all were, by whichever process: each of these gives the folder another version."""
        remembered = self._remembered(folder)
        if remembered is not None:
            taken = choose(remembered)
            if taken is None or self._unchanged(os.fspath(folder.sidecar(taken.name))):
                return taken
        return choose(self.outlines(folder))

    def columns(self, folder: Folder, name: str) -> Columns:
        """The columns of a snapshot; none where it is gone or damaged."""
        signature = _signature(folder.sidecar(name))
        with self._lock:
            known = self._columns.get(signature) if signature else None
        if known is not None:
            return known
        stored = load(folder, name)
        if stored is None or stored.snapshot.damaged:
            return Columns(frozenset(), every=False)
        columns = columns_of(stored.snapshot)
        if signature is not None and signature == _signature(folder.sidecar(name)):  # else replaced while it was read
            with self._lock:
                self._columns.put(signature, columns)
        return columns

    def _remembered(self, folder: Folder) -> list[Stored] | None:
        place = os.fspath(folder.path)
        with self._lock:
            listing = self._listings.get(place)
        if listing is None or listing.signature != _settled(place):
            return None
        with self._lock:
            known = [self._known.get(path) for path in listing.paths]
        found = [entry.stored for entry in known if entry is not None]
        return found if len(found) == len(known) else None

    def _turn(self, folder: Folder) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(folder.path, threading.Lock())

    def _unchanged(self, path: str) -> Stored | None:
        with self._lock:
            entry = self._known.get(path)
            if entry is not None:
                self._known.move_to_end(path)
        if entry is None or entry.signature != _signature(path):
            return None
        if visible_damage(entry.data, entry.stored.snapshot) is not None:
            return None  # whoever reads it all says why
        return entry.stored

    def _learn(self, folder: Folder, name: str) -> tuple[Stored | None, bool]:
        """The snapshot as its files tell it, or its outline; and whether it is a new large one."""
        path = os.fspath(folder.sidecar(name))
        before = _signature(path)
        stored = load(folder, name)
        if stored is None or stored.path is None or stored.snapshot.damaged or before is None:
            return stored, False
        is_large = before[2] >= SMALL_BYTES
        if is_large:
            stored = Stored(_outline(stored.snapshot), stored.path)
        if before == _signature(path) and time.time_ns() - before[3] > _SETTLED_AFTER_NS:
            assert stored.path is not None  # noqa: S101 - looked at above
            self._remember(path, _Entry(before, stored, stored.path.name.split(".")[-2], os.fspath(stored.path)))
            return stored, is_large
        return stored, False

    def _remember(self, path: str, entry: _Entry) -> None:
        with self._lock:
            self._known.put(path, entry)

    def _read_file(self, folder: Folder, place: str) -> None:
        with self._lock:
            if place in self._read:
                return
            self._read.add(place)
        for name, entry in _entries(folder):
            if (path := os.fspath(folder.sidecar(name))) not in self._known:
                self._remember(path, entry)

    def _write_file(self, folder: Folder, place: str) -> None:
        """For the next process; where it cannot be written, that one reads the sidecars."""
        with self._lock:
            entries = [
                {
                    "signature": entry.signature,
                    "token": entry.token,
                    "snapshot": entry.stored.snapshot.model_dump(mode="json"),
                }
                for path, entry in self._known.items()
                if os.path.dirname(path) == place and entry.signature[2] >= SMALL_BYTES
            ]
        body = json.dumps(entries, ensure_ascii=True).encode()
        written = folder.staging / f"{new_token()}.index"
        with suppress(OSError):
            write_new(written, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            os.replace(written, folder.path / _FILE)


def columns_of(snapshot: Snapshot) -> Columns:
    held = frozenset(column.name.casefold() for column in snapshot.columns)
    source = {column.name.casefold() for column in snapshot.source_columns}
    return Columns(held, every=snapshot.select is None or "*" in snapshot.select or (bool(source) and source <= held))


def _outline(snapshot: Snapshot) -> Snapshot:
    select = snapshot.select
    if select is not None and len(select) > _SELECTED_SHOWN:
        select = [*select[:_SELECTED_SHOWN], f"… {len(select):,} columns in all"]
    return snapshot.model_copy(update={"columns": [], "source_columns": [], "sql": "", "select": select})


def _signature(path: str | Path) -> _Signature | None:
    try:
        return _signed(os.lstat(path))
    except OSError:
        return None


def _signed(status: os.stat_result) -> _Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _settled(place: str) -> _Signature | None:
    """The version of a folder's list of names; None where it could change and stay the same, and where there is none.

    The folder is opened: of one that is not, a network file system tells what it was told a while ago."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:
        return None  # also on Windows, which opens no folders
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    coarse = status.st_mtime_ns % 1_000_000_000 == 0
    settled_after_ns = _SETTLED_AFTER_COARSE_NS if coarse else _SETTLED_AFTER_NS
    return _signed(status) if time.time_ns() - status.st_mtime_ns > settled_after_ns else None


def _entries(folder: Folder) -> Iterator[tuple[str, _Entry]]:
    """What the index file says, if it is whole and of this folder's owner."""
    try:
        digest, _, body = read_regular(folder.path / _FILE, _MAX_INDEX_BYTES).partition(b"\n")
    except OSError:
        return
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return
    with suppress(ValueError, KeyError, TypeError, ValidationError):
        entries: list[dict[str, Any]] = json.loads(body)
        for entry in entries:
            snapshot = Snapshot.model_validate(entry["snapshot"])
            if folder_name(snapshot.principal) == folder.path.name:
                device, inode, size, modified, changed = map(int, entry["signature"])
                token = str(entry["token"])
                data = folder.data(snapshot.name, token)
                signature = device, inode, size, modified, changed
                yield snapshot.name, _Entry(signature, Stored(snapshot, data), token, os.fspath(data))
