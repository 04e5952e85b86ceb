"""Pruning and expiry: no filter never means all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from snapshots.shelves import (
    ANA,
    BEN,
    FACTS,
    NOON,
    Clock,
    data_file,
    files_below,
    new_call,
    new_store,
    put,
    sessions,
    sidecar_file,
)
from snapshots.test_damage import rewrite_sidecar

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.folder import Folder
from agnes_mcp.snapshots.index import Index
from agnes_mcp.snapshots.models import Snapshot
from agnes_mcp.snapshots.names import folder_name
from agnes_mcp.snapshots.removal import PruneFilter, prune_folder

DAY = timedelta(days=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> SnapshotStore:
    """`old` of two days, `young` of one, both small; `large` of today."""
    store = new_store(tmp_path, clock)
    put(store, "old", sessions(300))
    clock.forward(DAY)
    put(store, "young", sessions(300))
    clock.forward(DAY)
    put(store, "large", sessions(20_000))
    return store


def names(store: SnapshotStore, principal: str = ANA) -> list[str]:
    return [snapshot.name for snapshot in store.list(principal)]


@pytest.mark.parametrize(
    ("filters", "dropped"),
    [
        ({"older_than": "3d"}, []),
        ({"older_than": "2d"}, ["old"]),  # equal goes
        ({"older_than": "49h"}, []),
        ({"older_than": "47h"}, ["old"]),
        ({"older_than": "1d"}, ["old", "young"]),
        ({"older_than": "1441m"}, ["old"]),
        ({"larger_than": "8k"}, ["large"]),
        ({"larger_than": "1g"}, []),
        ({"older_than": "1m", "larger_than": "1k"}, ["old", "young"]),
        ({"older_than": "1d", "larger_than": "8k"}, []),
        ({"expired": True}, []),
        ({"older_than": "1d", "expired": True}, []),
    ],
)
def test_what_meets_every_filter_goes(store: SnapshotStore, filters: dict[str, Any], dropped: list[str]) -> None:
    shown = store.prune(ANA, **filters, dry_run=True)
    assert names(store) == ["large", "old", "young"]
    done = store.prune(ANA, **filters)
    assert [entry.name for entry in done.dropped] == [entry.name for entry in shown.dropped] == dropped
    assert done.freed_bytes == shown.freed_bytes == sum(entry.bytes_local for entry in done.dropped)
    assert names(store) == sorted({"large", "old", "young"} - set(dropped))


def test_a_size_that_is_just_reached_goes(store: SnapshotStore) -> None:
    kilobytes = store.get(ANA, "large").bytes_local // 1024
    assert store.prune(ANA, larger_than=f"{kilobytes + 1}k").dropped == []
    assert [entry.name for entry in store.prune(ANA, larger_than=f"{kilobytes}k").dropped] == ["large"]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"dry_run": True},
        {"older_than": ""},
        {"larger_than": ""},
        {"older_than": "x"},
        {"larger_than": "zz"},
        {"older_than": "7d", "larger_than": "0m"},
        {"older_than": "0d", "expired": True},
    ],
)
def test_no_filter_and_a_bad_one_drop_nothing(store: SnapshotStore, filters: dict[str, Any]) -> None:
    with pytest.raises(AgnesError) as refused:
        store.prune(ANA, **filters)
    assert refused.value.kind == "invalid_argument"
    assert len(names(store)) == 3


def test_a_dry_run_touches_no_file(store: SnapshotStore, tmp_path: Path) -> None:
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    store.prune(ANA, older_than="1m", dry_run=True)
    assert {path: path.stat() for path in tmp_path.rglob("*")} == before


def test_only_the_callers_snapshots_go(store: SnapshotStore) -> None:
    put(store, "theirs", sessions(1), principal=BEN)
    store.prune(ANA, older_than="1m", larger_than="1k")
    store.prune(BEN, older_than="1d")
    assert names(store, BEN) == ["theirs"]


def test_what_is_being_written_is_busy_and_stays(store: SnapshotStore) -> None:
    with store.claim(ANA, "old", new_call(), force=True):
        pruned = store.prune(ANA, older_than="1d")
    assert (pruned.busy, [entry.name for entry in pruned.dropped]) == (["old"], ["young"])
    assert "old" in names(store)


def expiring(store: SnapshotStore, name: str, after: timedelta) -> None:
    put(store, name, sessions(1), FACTS.model_copy(update={"expires_at": NOON + after}), force=True)


@pytest.mark.parametrize(
    "remove", [lambda s: s.prune(ANA, expired=True), lambda s: s.retire(None, None)], ids=["prune", "retire"]
)
def test_what_has_expired_goes_and_the_rest_stays(tmp_path: Path, remove: Callable[[SnapshotStore], object]) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    expiring(store, "short", DAY)
    expiring(store, "long", 2 * DAY)
    put(store, "forever", sessions(1))
    remove(store)
    assert names(store) == ["forever", "long", "short"]
    clock.forward(DAY)
    remove(store)
    assert names(store) == ["forever", "long"]


def test_an_expiry_that_was_extended_meanwhile_is_honoured(tmp_path: Path) -> None:
    """It is read again under the lock. The extension arrives right after the first look."""
    clock = Clock()
    store = new_store(tmp_path, clock)
    expiring(store, "s", DAY)
    clock.forward(DAY)
    looks: list[bool] = []

    class Extended(PruneFilter):
        def matches(self, snapshot: Snapshot, now: datetime) -> bool:
            matched = super().matches(snapshot, now)
            if not looks:
                expiring(store, "s", 3 * DAY)
            looks.append(matched)
            return matched

    folder = Folder(tmp_path / folder_name(ANA))
    assert prune_folder(folder, Index().outlines(folder), Extended(expired=True), clock()).dropped == []
    assert looks == [True, False]
    assert names(store) == ["s"]


@pytest.mark.parametrize("expiry", ["banana", "2026-01-01T00:00:00", "", {}])
def test_an_expiry_that_cannot_be_read_never_expires(tmp_path: Path, expiry: object) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    expiring(store, "s", DAY)
    rewrite_sidecar(store, "s", {"expires_at": expiry})
    clock.forward(1000 * DAY)
    assert store.prune(ANA, expired=True).dropped == []
    assert store.retire(None, None) == []
    assert names(store) == ["s"]


def test_damaged_snapshots_are_pruned_by_size_but_not_by_an_age_nobody_knows(tmp_path: Path) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    put(store, "s", sessions(20_000))
    sidecar_file(store, "s").write_bytes(b"garbage")
    clock.forward(1000 * DAY)
    assert store.prune(ANA, older_than="1d").dropped == []
    assert data_file(store, "s").exists()
    pruned = store.prune(ANA, larger_than="8k")
    assert [entry.name for entry in pruned.dropped] == ["s"]
    assert pruned.freed_bytes > 8 * 1024
    assert files_below(tmp_path) == []
