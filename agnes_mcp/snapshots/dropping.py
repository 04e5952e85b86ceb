"""Dropping one snapshot, whole or damaged."""

from __future__ import annotations

import os
from collections.abc import Callable

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Snapshot

from .files import disk_errors, remove, sync_folder
from .folder import Folder, new_token
from .locks import exclusive
from .reading import load
from .sweeping import forget_lock, remove_dropped, sweep_name


def drop_if(
    folder: Folder, name: str, wanted: Callable[[Snapshot], bool], wait_s: float, call: Call | None = None
) -> Snapshot | None:
    """Drop it if it is still wanted once its lock is held, and return it; None: it is gone, or no longer wanted.

    Raises `snapshot_busy` where the lock is not to be had in `wait_s`.
    """
    with disk_errors("drop the snapshot"):
        folder.create()
    with exclusive(folder.lock(name), name, wait_s, call):
        stored = load(folder, name)
        if stored is None or not wanted(stored.snapshot):
            return None
        drop_files(folder, name)
        forget_lock(folder, name)
        return stored.snapshot


def drop_files(folder: Folder, name: str) -> None:
    """Remove every file of a name; its lock is held by the caller. The snapshot is gone from the first rename on."""
    with disk_errors("drop the snapshot"):
        sweep_name(folder, name)
        stored = load(folder, name)
        tokens = folder.tokens(name)
        _disown(folder, name, tokens, whole=stored is not None and stored.path is not None)
        for token in tokens:
            remove_dropped(folder, name, token)
        sync_folder(folder.path)


def _disown(folder: Folder, name: str, tokens: list[str], *, whole: bool) -> None:
    """Give every data file a trace, and take the sidecar away: of a whole snapshot in one rename."""
    if whole and len(tokens) == 1:
        os.replace(folder.sidecar(name), folder.trace(name, tokens[0]))
        sync_folder(folder.path)
        return
    for token in tokens:
        folder.trace(name, token).touch(mode=0o600)
    _remove_sidecar(folder, name)
    sync_folder(folder.path)


def _remove_sidecar(folder: Folder, name: str) -> None:
    sidecar = folder.sidecar(name)
    if sidecar.is_dir() and not sidecar.is_symlink():
        os.replace(sidecar, folder.staging / f"{new_token()}.unknown")  # somebody's folder is not ours to empty
    else:
        remove(sidecar)
