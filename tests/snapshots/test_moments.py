"""What happens between two looks: the moments that a race would need luck to hit, brought about on purpose."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from snapshots.shelves import (
    ANA,
    FACTS,
    data_file,
    files_below,
    new_call,
    new_store,
    put,
    sessions,
    sidecar_file,
    stored_rows,
)

from agnes_mcp.calls.call import cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Receipt
from agnes_mcp.snapshots import files, reading, sidecar

posix = pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")


def test_a_call_stopped_after_the_last_row_writes_nothing(tmp_path: Path) -> None:
    """The rows have ended and the bill is asked for: still in time."""
    call = new_call()
    store = new_store(tmp_path)

    def bill() -> Receipt:
        call.stop(cancelled())
        return Receipt()

    with pytest.raises(AgnesError) as stopped:
        store.write(ANA, "s", sessions(5).to_batches(), sessions(0).schema, FACTS, call=call, receipt=bill)
    assert stopped.value.kind == "cancelled"
    assert files_below(tmp_path) == []


def test_that_a_name_exists_is_told_without_waiting_for_its_lock(tmp_path: Path) -> None:
    store = new_store(tmp_path, lock_wait_s=60)
    put(store, "s", sessions(5))
    with store.claim(ANA, "s", new_call(), force=True), pytest.raises(AgnesError) as refused:
        put(store, "s", sessions(6))
    assert refused.value.kind == "snapshot_exists"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_a_file_that_is_just_being_removed_is_not_held(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "rows"
    path.write_bytes(b"rows")
    with path.open("rb") as remover:
        fcntl.flock(remover, fcntl.LOCK_EX)
        before = open_descriptors()
        assert [files.open_held(path) for _ in range(3)] == [None] * 3
        assert open_descriptors() == before
    assert files.open_held(tmp_path / "nowhere") is None


@posix
def test_a_file_removed_between_opening_and_locking_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"rows")
    real = files._lock

    def late(descriptor: int, *, exclusive: bool) -> bool:
        path.unlink()
        return real(descriptor, exclusive=exclusive)

    monkeypatch.setattr(files, "_lock", late)
    assert files.open_held(path) is None


def test_a_snapshot_replaced_between_its_sidecar_and_its_rows_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    real, replaced = sidecar.parse, False

    def late(content: bytes, name: str) -> Any:
        nonlocal replaced
        parsed = real(content, name)
        if not replaced:
            replaced = True
            put(new_store(tmp_path), "s", sessions(8), force=True)
        return parsed

    monkeypatch.setattr("agnes_mcp.snapshots.reading.parse", late)
    listed = store.list(ANA)
    assert replaced
    assert [(snapshot.rows, snapshot.damaged) for snapshot in listed] == [(8, None)]


def test_a_snapshot_dropped_while_it_is_listed_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    real = reading.visible_damage

    def late(path: Path, snapshot: Any) -> str | None:
        monkeypatch.setattr(reading, "visible_damage", real)
        new_store(tmp_path).drop(ANA, "s")
        return real(path, snapshot)

    monkeypatch.setattr(reading, "visible_damage", late)
    assert store.list(ANA) == []


def test_a_trace_beside_a_valid_sidecar_costs_no_rows(tmp_path: Path) -> None:
    """A drop that died before it took the sidecar away has not dropped anything."""
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    token = data_file(store, "s").name.split(".")[1]
    trace = sidecar_file(store, "s").parent / ".staging" / f"s.{token}.meta.json"
    trace.write_bytes(b"")
    store.sweep()
    assert not trace.exists()
    assert len(stored_rows(store, "s")) == 3


def test_rows_that_a_damaged_sidecar_may_mean_are_not_swept(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    rows = data_file(store, "s")
    shutil.copy(rows, rows.with_name("s.0123456789abcdef.parquet"))
    sidecar_file(store, "s").write_bytes(b"garbage")
    store.sweep()
    assert len(files_below(tmp_path)) == 3
    store.drop(ANA, "s")
    assert files_below(tmp_path) == []
