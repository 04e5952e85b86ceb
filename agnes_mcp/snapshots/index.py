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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
_MAX_INDEX_BYTES = 4 * 1024 * 1024
_SELECTED_SHOWN = 200
#: A file that was written less than this ago may be written again within the same tick of the clock.
_SETTLED_AFTER_NS = 100_000_000
_FILE = ".index.json"

#: Device, inode, size, times of change: those of one version of a file.
_Signature = tuple[int, int, int, int, int]


class Columns(NamedTuple):
    """The names of a snapshot's columns in small letters, and whether they are all that its table had."""

    held: frozenset[str]
    every: bool


@dataclass(frozen=True)
class _Entry:
    signature: _Signature
    snapshot: Snapshot
    token: str


class Index:
    """Thread-safe; for any number of folders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # `_MOST_KNOWN`, least used out; true of a sidecar with that signature alone.
        self._known: OrderedDict[Path, _Entry] = OrderedDict()
        self._read: set[Path] = set()
        self._turns: dict[Path, threading.Lock] = {}  # one a folder, so one a caller who has snapshots
        # `_MOST_COLUMN_SETS`; by what the sidecar's file is, so never of another.
        self._columns: OrderedDict[_Signature, Columns] = OrderedDict()

    def outlines(self, folder: Folder) -> list[Stored]:
        """Every snapshot of a folder, sorted by name, damaged ones too; large ones without columns and SQL."""
        self._read_file(folder)
        found, learnt = list[Stored](), False
        for name in sorted(folder.survey()):
            stored = self._unchanged(folder, name)
            if stored is None:
                with self._turn(folder):  # two calls at once do not open the same one
                    stored = self._unchanged(folder, name)
                    if stored is None:
                        stored, is_large = self._learn(folder, name)
                        learnt = learnt or is_large
            if stored is not None:
                found.append(stored)
        if learnt:
            self._write_file(folder)
        return found

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
                self._columns[signature] = columns
                while len(self._columns) > _MOST_COLUMN_SETS:
                    self._columns.popitem(last=False)
        return columns

    def _turn(self, folder: Folder) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(folder.path, threading.Lock())

    def _unchanged(self, folder: Folder, name: str) -> Stored | None:
        path = folder.sidecar(name)
        with self._lock:
            entry = self._known.get(path)
            if entry is not None:
                self._known.move_to_end(path)
        if entry is None or entry.signature != _signature(path):
            return None
        data = folder.data(name, entry.token)
        if visible_damage(data, entry.snapshot) is not None:
            return None  # whoever reads it all says why
        return Stored(entry.snapshot, data)

    def _learn(self, folder: Folder, name: str) -> tuple[Stored | None, bool]:
        """The snapshot as its files tell it, or its outline; and whether it is a new large one."""
        path = folder.sidecar(name)
        before = _signature(path)
        stored = load(folder, name)
        if stored is None or stored.path is None or stored.snapshot.damaged or before is None:
            return stored, False
        is_large = before[2] >= SMALL_BYTES
        if is_large:
            stored = Stored(_outline(stored.snapshot), stored.path)
        if before == _signature(path) and time.time_ns() - before[3] > _SETTLED_AFTER_NS:
            assert stored.path is not None  # noqa: S101 - looked at above
            self._remember(path, _Entry(before, stored.snapshot, stored.path.name.split(".")[-2]))
            return stored, is_large
        return stored, False

    def _remember(self, path: Path, entry: _Entry) -> None:
        with self._lock:
            self._known[path] = entry
            self._known.move_to_end(path)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    def _read_file(self, folder: Folder) -> None:
        with self._lock:
            if folder.path in self._read:
                return
            self._read.add(folder.path)
        for name, entry in _entries(folder):
            if folder.sidecar(name) not in self._known:
                self._remember(folder.sidecar(name), entry)

    def _write_file(self, folder: Folder) -> None:
        """For the next process; where it cannot be written, that one reads the sidecars."""
        with self._lock:
            entries = [
                {"signature": entry.signature, "token": entry.token, "snapshot": entry.snapshot.model_dump(mode="json")}
                for path, entry in self._known.items()
                if path.parent == folder.path and entry.signature[2] >= SMALL_BYTES
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


def _signature(path: Path) -> _Signature | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


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
                yield snapshot.name, _Entry((device, inode, size, modified, changed), snapshot, str(entry["token"]))
