"""Removing what no snapshot owns: leftovers of a writer that died, and versions that were replaced while being read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agnes_mcp.errors import AgnesError

from .files import discard, disk_errors, exclusive, remove, sync_folder
from .folder import Folder, token_of
from .reading import load

_FOLDER = re.compile(r"u[0-9a-f]{32}")


def folders(root: Path) -> Iterator[Folder]:
    """The folder of every principal; a symbolic link in place of one is passed over."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        path = root / name
        if _FOLDER.fullmatch(name) and path.is_dir() and not path.is_symlink():
            yield Folder(path)


def sweep_folder(folder: Folder) -> int:
    """Remove the leftovers of every name whose writer is gone, never a live one's; returns how many files went."""
    names = set(folder.staged())
    names.update(name for name, found in folder.survey().items() if len(found.tokens) > 1)
    removed = 0
    for name in sorted(names):
        removed += _sweep_if_free(folder, name)
    return removed


def sweep_if_replaced(folder: Folder, name: str, path: Path) -> None:
    """After a read: remove the rows that were read, if they were dropped or replaced meanwhile."""
    if folder.data(name, current_token(folder, name) or "") != path:
        with suppress(AgnesError):
            _sweep_if_free(folder, name)


def forget_lock(folder: Folder, name: str) -> None:
    """Remove the lock file of a name without files; the caller holds it, and whoever waits for it notices."""
    if name not in folder.survey() and name not in folder.staged():
        with suppress(OSError):  # Windows removes it itself, once it is released
            remove(folder.lock(name))


def _sweep_if_free(folder: Folder, name: str) -> int:
    try:
        with exclusive(folder.lock(name), name, wait_s=0.0):
            removed = sweep_name(folder, name)
            forget_lock(folder, name)
    except AgnesError as error:
        if error.kind != "snapshot_busy":
            raise
        return 0
    return removed


def sweep_name(folder: Folder, name: str, known: str | None = None) -> int:
    """Remove the leftovers of one name; its lock is held by the caller, who may know the `current_token`: a sidecar of
    thousands of columns takes longer to read than to write."""
    with disk_errors("remove leftovers"):
        current = known or current_token(folder, name)
        return _sweep_staging(folder, name, current) + _sweep_replaced(folder, name, current)


def current_token(folder: Folder, name: str) -> str | None:
    """The token of the rows that the sidecar names; None where there is no readable sidecar, or no such rows."""
    stored = load(folder, name)
    return None if stored is None or stored.path is None else token_of(name, stored.path.name)


def remove_dropped(folder: Folder, name: str, token: str) -> bool:
    """Remove the rows that a trace disowns, then the trace; False while somebody reads them."""
    if not discard(folder.data(name, token)):
        return False
    remove(folder.trace(name, token))
    return True


def _sweep_staging(folder: Folder, name: str, current: str | None) -> int:
    removed = 0
    for token in folder.staged().get(name, set()):
        leftovers = [folder.staged_data(name, token), folder.trace(name, token), folder.data(name, token)]
        present = sum(os.path.lexists(path) for path in leftovers)
        remove(leftovers[0])
        if token == current:
            remove(leftovers[1])
        elif remove_dropped(folder, name, token):
            removed += present
    return removed


def _sweep_replaced(folder: Folder, name: str, current: str | None) -> int:
    if current is None:  # which of them is the right one cannot be told
        return 0
    replaced = [token for token in folder.tokens(name) if token != current]
    removed = sum(discard(folder.data(name, token)) for token in replaced)
    if removed:
        sync_folder(folder.path)
    return removed
