"""Which snapshots a prune drops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import PrunedSnapshot, Snapshot, SnapshotPrune

from .amounts import parse_age, parse_size
from .dropping import drop_if
from .folder import Folder
from .reading import is_expired, load_all


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


def plan_prune(folder: Folder, wanted: PruneFilter, now: datetime) -> SnapshotPrune:
    """What `prune_folder` would drop; only looks, and touches nothing."""
    matching = [_pruned(snapshot) for snapshot in _matching(folder, wanted, now)]
    return SnapshotPrune(dropped=matching, freed_bytes=sum(entry.bytes_local for entry in matching), dry_run=True)


def prune_folder(
    folder: Folder, wanted: PruneFilter, now: datetime, on_drop: Callable[[Snapshot], None]
) -> SnapshotPrune:
    """Drop what matches, each judged once more under its lock; `on_drop` hears of each at once."""
    pruned = SnapshotPrune()
    for snapshot in _matching(folder, wanted, now):
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
            on_drop(dropped)
    return pruned


def _matching(folder: Folder, wanted: PruneFilter, now: datetime) -> list[Snapshot]:
    return [stored.snapshot for stored in load_all(folder) if wanted.matches(stored.snapshot, now)]


def _pruned(snapshot: Snapshot) -> PrunedSnapshot:
    return PrunedSnapshot(
        name=snapshot.name,
        bytes_local=snapshot.bytes_local,
        fetched_at=snapshot.fetched_at,
        expires_at=snapshot.expires_at,
    )
