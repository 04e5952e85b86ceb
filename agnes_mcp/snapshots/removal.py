"""Removing snapshots: one by name, whole or damaged, or those that a prune asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots.models import PrunedSnapshot, Snapshot, SnapshotPrune

from .amounts import parse_age, parse_size
from .charts import forget_charts
from .files import disk_errors, exclusive, remove, sync_folder
from .folder import Folder, new_token
from .reading import Stored, is_expired, load
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
        with disk_errors("drop the charts of the snapshot"):
            forget_charts(folder, name)
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


@dataclass(frozen=True)
class PruneFilter:
    """What is asked for is asked for together: a snapshot has to meet all of it."""

    older_than: timedelta | None = None
    larger_than_bytes: int | None = None
    expired: bool = False

    def matches(self, snapshot: Snapshot, now: datetime) -> bool:
        """Whether it goes. Younger than the age, smaller than the size stays; equal goes. What is not known stays."""
        return (
            (self.older_than is None or self._is_old(snapshot, self.older_than, now))
            and (self.larger_than_bytes is None or snapshot.bytes_local >= self.larger_than_bytes)
            and (not self.expired or is_expired(snapshot, now))
        )

    @staticmethod
    def _is_old(snapshot: Snapshot, age: timedelta, now: datetime) -> bool:
        return snapshot.fetched_at is not None and now - snapshot.fetched_at >= age


def prune_filter(older_than: str | None, larger_than: str | None, expired: bool) -> PruneFilter:
    """The filter of these arguments; `invalid_argument` for none (never "everything") and for unreadable ones."""
    if older_than is None and larger_than is None and not expired:
        raise AgnesError(
            "invalid_argument",
            "A prune needs at least one of older_than, larger_than and expired.",
            "Say which may go: older_than='7d', larger_than='1g' or expired=true; dry_run=true shows them first.",
        )
    return PruneFilter(
        None if older_than is None else parse_age(older_than),
        None if larger_than is None else parse_size(larger_than),
        expired,
    )


def plan_prune(kept: Sequence[Stored], wanted: PruneFilter, now: datetime) -> SnapshotPrune:
    """What `prune_folder` would drop; only looks, and touches nothing."""
    matching = [_pruned(snapshot) for snapshot in _matching(kept, wanted, now)]
    return SnapshotPrune(dropped=matching, freed_bytes=sum(entry.bytes_local for entry in matching), dry_run=True)


def prune_folder(folder: Folder, kept: Sequence[Stored], wanted: PruneFilter, now: datetime) -> SnapshotPrune:
    """Drop what matches of those that the folder keeps, each judged once more under its lock."""
    pruned = SnapshotPrune()
    for snapshot in _matching(kept, wanted, now):
        try:
            dropped = drop_if(folder, snapshot.name, lambda present: wanted.matches(present, now), wait_s=0.0)
        except AgnesError as error:
            if error.kind != "snapshot_busy":
                raise
            pruned.busy.append(snapshot.name)
            continue
        if dropped is not None:
            pruned.dropped.append(_pruned(dropped))
            pruned.freed_bytes += dropped.bytes_local
    return pruned


def _matching(kept: Sequence[Stored], wanted: PruneFilter, now: datetime) -> list[Snapshot]:
    return [stored.snapshot for stored in kept if wanted.matches(stored.snapshot, now)]


def _pruned(snapshot: Snapshot) -> PrunedSnapshot:
    return PrunedSnapshot(
        name=snapshot.name,
        bytes_local=snapshot.bytes_local,
        fetched_at=snapshot.fetched_at,
        expires_at=snapshot.expires_at,
    )
