"""Listing, reading and dropping."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from snapshots.shelves import (
    ANA,
    BEN,
    FACTS,
    GB,
    data_file,
    files_below,
    new_call,
    new_store,
    put,
    sessions,
    sidecar_file,
    stored_rows,
)
from snapshots.test_names import HOSTILE

from agnes_mcp.calls.call import cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.names import folder_name


def unpaid() -> Iterator[pa.RecordBatch]:
    pytest.fail("rows were pulled")
    yield


def test_nothing_is_on_the_disk_before_the_first_write(tmp_path: Path) -> None:
    store = new_store(tmp_path / "data" / "snapshots")
    assert store.list(ANA) == []
    assert store.prune(ANA, older_than="1d").dropped == []
    assert store.sweep() == 0
    store.check_space(ANA, 0)
    usage = store.disk_usage(ANA)
    assert (usage.used_bytes, usage.snapshot_count) == (0, 0)
    assert usage.free_bytes > 0
    for ask in (store.get, store.drop, store.verify):
        with pytest.raises(AgnesError) as missing:
            ask(ANA, "s")
        assert missing.value.kind == "snapshot_not_found"
    assert list(tmp_path.iterdir()) == []


def test_snapshots_are_listed_by_name(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for name in ("zebra", "apple", "mango"):
        put(store, name, sessions(1))
    assert [snapshot.name for snapshot in store.list(ANA)] == ["apple", "mango", "zebra"]


def test_nobody_sees_the_snapshots_of_another(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    put(store, "s", sessions(5), principal=BEN)
    put(store, "only_ana", sessions(1))
    assert [snapshot.name for snapshot in store.list(BEN)] == ["s"]
    assert len(stored_rows(store, "s")) == 3
    assert len(stored_rows(store, "s", BEN)) == 5
    for ask in (store.get, store.drop, store.verify):
        with pytest.raises(AgnesError) as missing:
            ask(BEN, "only_ana")
        assert missing.value.kind == "snapshot_not_found"
    assert store.disk_usage(BEN).snapshot_count == 1
    assert store.disk_usage().snapshot_count == 3
    assert BEN not in "".join(snapshot.model_dump_json() for snapshot in store.list(ANA))


def test_the_public_form_holds_no_path(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    snapshot = put(store, "s", sessions(3))
    assert str(tmp_path) not in snapshot.model_dump_json()
    assert str(tmp_path) not in store.disk_usage(ANA).model_dump_json()


@pytest.mark.parametrize("principal", ["", "../../x", "a/b", "\x00", "ü@example.com", "x" * 5000, "\ud800"])
def test_any_principal_has_a_folder_of_its_own(tmp_path: Path, principal: str) -> None:
    store = new_store(tmp_path / "snapshots")
    put(store, "s", sessions(3), principal=principal)
    assert store.get(principal, "s").principal == principal
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots"]
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [folder_name(principal)]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_reaches_nothing(tmp_path: Path, name: str) -> None:
    """Section 2.8: drop and refresh too."""
    store = new_store(tmp_path / "snapshots")
    put(store, "s", sessions(3))
    outside = tmp_path / "x.meta.json"
    outside.write_bytes(sidecar_file(store, "s").read_bytes())
    before = files_below(tmp_path)
    with pytest.raises(AgnesError) as refused:
        store.write(ANA, name, unpaid(), sessions(0).schema, FACTS, force=True, call=new_call())
    assert refused.value.kind == "invalid_argument"
    for ask in (store.get, store.drop, store.verify):
        with pytest.raises(AgnesError) as missing:
            ask(ANA, name)
        assert missing.value.kind == "snapshot_not_found"
    assert files_below(tmp_path) == before


def test_a_second_snapshot_of_that_name_is_refused_before_it_is_paid(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    with pytest.raises(AgnesError) as refused:
        store.write(ANA, "s", unpaid(), sessions(0).schema, FACTS, call=new_call())
    assert refused.value.kind == "snapshot_exists"
    assert refused.value.exit_code == 6


def test_force_replaces_a_snapshot_and_removes_its_old_file(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    old = data_file(store, "s")
    put(store, "s", sessions(5), force=True)
    assert len(stored_rows(store, "s")) == 5
    assert not old.exists()
    assert len(files_below(tmp_path)) == 2


def test_a_name_in_use_is_busy_for_others_and_loses_before_paying(tmp_path: Path) -> None:
    store, other = new_store(tmp_path, lock_wait_s=0.05), new_store(tmp_path, lock_wait_s=0.05)
    with store.claim(ANA, "s", new_call()) as claimed:
        for contender, force in ((other, False), (store, True)):
            with pytest.raises(AgnesError) as refused:
                contender.write(ANA, "s", unpaid(), sessions(0).schema, FACTS, force=force, call=new_call())
            assert refused.value.kind == "snapshot_busy"
        put(other, "s", sessions(1), principal=BEN)
        put(other, "another", sessions(1))
        claimed.write(sessions(4).to_batches(), sessions(0).schema, FACTS)
        with pytest.raises(AgnesError) as refused:
            other.drop(ANA, "s")
        assert refused.value.kind == "snapshot_busy"
    assert len(stored_rows(other, "s")) == 4


def test_the_loser_of_a_race_is_told_that_it_exists_now(tmp_path: Path) -> None:
    """The second creator waits for the lock, and gets "exists" once it has it."""
    store = new_store(tmp_path, lock_wait_s=30)
    errors: list[str] = []

    def second() -> None:
        try:
            store.write(ANA, "s", unpaid(), sessions(0).schema, FACTS, call=new_call())
        except AgnesError as error:
            errors.append(error.kind)

    with store.claim(ANA, "s", new_call()) as claimed:
        waiting = threading.Thread(target=second)
        waiting.start()
        claimed.write(sessions(4).to_batches(), sessions(0).schema, FACTS)
    waiting.join(60)
    assert errors == ["snapshot_exists"]


def test_a_cancelled_call_stops_waiting_for_a_name(tmp_path: Path) -> None:
    store = new_store(tmp_path, lock_wait_s=60)
    call = new_call()
    with store.claim(ANA, "s", new_call()):
        threading.Timer(0.1, call.stop, [cancelled()]).start()
        with pytest.raises(AgnesError) as stopped:
            store.write(ANA, "s", unpaid(), sessions(0).schema, FACTS, call=call)
    assert stopped.value.kind == "cancelled"
    assert call.elapsed_s < 30


def test_a_dropped_snapshot_leaves_no_file(tmp_path: Path) -> None:
    """Lock files are gone as well, so that names used once do not pile up."""
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    assert store.drop(ANA, "s").rows == 3
    assert store.list(ANA) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    put(store, "s", sessions(1))
    assert len(stored_rows(store, "s")) == 1


def test_a_folder_that_cannot_be_swept_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    store = new_store(tmp_path / "snapshots")
    for principal in (ANA, BEN):
        put(store, "s", sessions(3), principal=principal)
        staging = tmp_path / "snapshots" / folder_name(principal) / ".staging"
        (staging / "s.0123456789abcdef.parquet").write_bytes(b"left by a dead writer")
    first = min((ANA, BEN), key=folder_name)
    locks = tmp_path / "snapshots" / folder_name(first) / ".locks"
    os.replace(locks, tmp_path / "locks")
    locks.symlink_to(tmp_path / "locks")
    with pytest.raises(AgnesError, match="symbolic link"):
        store.sweep()
    left = [path.parts[0] for path in map(Path, files_below(tmp_path / "snapshots"))]
    assert (left.count(folder_name(first)), len(left)) == (3, 5)


def test_disk_usage_counts_every_file(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3000))
    put(store, "s", sessions(10), principal=BEN)
    everything = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    mine = sum(path.stat().st_size for path in (tmp_path / folder_name(ANA)).rglob("*") if path.is_file())
    assert store.disk_usage().used_bytes == everything
    assert store.disk_usage(ANA).used_bytes == mine
    assert (store.disk_usage().quota_gb, store.disk_usage().snapshot_count) == (10, 2)
    assert store.disk_usage().free_bytes <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_the_folder_is_shown_as_its_owner_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SnapshotStore(tmp_path / ".agnes" / "snapshots", quota_bytes=GB)
    assert store.disk_usage().snapshots_dir == "snapshots"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.disk_usage().snapshots_dir == "~/.agnes/snapshots"


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path / "snapshots")
    put(store, "s", sessions(3))
    for path in (tmp_path / "snapshots").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path.name


@pytest.mark.parametrize("inside", ["", ".staging", ".locks"])
def test_a_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path, inside: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "snapshots" / folder_name(ANA)
    (folder / inside).parent.mkdir(parents=True)
    (folder / inside).symlink_to(elsewhere)
    store = new_store(tmp_path / "snapshots")
    for attempt in (lambda: put(store, "s", sessions(3)), lambda: store.list(ANA)):
        with pytest.raises(AgnesError) as refused:
            attempt()
        assert refused.value.kind == "storage_failed"
        assert str(tmp_path) not in refused.value.message + refused.value.hint
    assert list(elsewhere.iterdir()) == []
