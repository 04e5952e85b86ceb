"""A disk that is full or refuses: a clear error, nothing visible, no leftover, and the store goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from snapshots.shelves import (
    ANA,
    BEN,
    FACTS,
    files_below,
    new_call,
    new_store,
    put,
    refresh,
    sessions,
    stored_rows,
)

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore


def noise(rows: int) -> pa.Table:
    """Rows that do not compress: 32 random bytes each."""
    content = os.urandom(rows * 32)
    return pa.table({"v": pa.array([content[i : i + 32] for i in range(0, len(content), 32)], pa.binary())})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mounted)]
    try:
        outcome = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if outcome.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is of Linux")
def test_a_disk_that_fills_up_at_any_offset_leaves_nothing(small_disk: Path) -> None:
    """20 amounts of free space, from none to almost enough."""
    store = new_store(small_disk / "snapshots")
    put(store, "kept", sessions(10))
    before = files_below(small_disk / "snapshots")
    table = noise(90_000)  # 2.9 MB
    ballast = small_disk / "ballast"
    full = 0
    for free_kb in [0, 4, *range(60, 2900, 160)]:
        leave_free(ballast, free_kb * 1024)
        with pytest.raises(AgnesError) as refused:
            store.write(ANA, "s", table.to_batches(), table.schema, FACTS, call=new_call())
        assert refused.value.kind == "disk_full"
        assert refused.value.exit_code == 4
        full += 1
        assert files_below(small_disk / "snapshots") == before
        assert len(stored_rows(store, "kept")) == 10
    assert full >= 20
    ballast.unlink()
    put(store, "s", table)
    assert len(stored_rows(store, "s")) == 90_000


def leave_free(ballast: Path, free_bytes: int) -> None:
    """Fill the disk until this much is left."""
    with contextlib.suppress(FileNotFoundError):
        ballast.unlink()
    status = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - free_bytes)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is of Linux")
def test_a_full_disk_during_a_refresh_keeps_the_old_version(small_disk: Path) -> None:
    store = new_store(small_disk / "snapshots")
    before = put(store, "s", noise(20_000))
    leave_free(small_disk / "ballast", 300 * 1024)
    with pytest.raises(AgnesError) as refused:
        refresh(store, "s", noise(20_000))
    assert refused.value.kind == "disk_full"
    assert store.get(ANA, "s") == before
    assert len(stored_rows(store, "s")) == 20_000
    store.drop(ANA, "s")  # a full disk can still be emptied
    assert files_below(small_disk / "snapshots") == []


def write_within_a_file_size(root: Path, size_bytes: int) -> None:
    """Exit with 0 if a write that needs more is `disk_full` and leaves nothing."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
    with pytest.raises(AgnesError) as refused:
        put(new_store(root), "s", noise(20_000))
    sys.exit(0 if refused.value.kind == "disk_full" and files_below(root) == [] else 2)


@pytest.mark.parametrize("size_bytes", [0, 3, 4, 1000, 100_000, 639_000])
def test_a_file_size_limit_is_a_full_disk(tmp_path: Path, children: ForkServerContext, size_bytes: int) -> None:
    """The same without a mount: the kernel refuses to let a file grow."""
    child = children.Process(target=write_within_a_file_size, args=(tmp_path, size_bytes))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_the_floor_of_free_space_is_kept(tmp_path: Path) -> None:
    floor = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize + 10**9
    store = new_store(tmp_path / "snapshots", min_free_bytes=floor)
    for attempt in (lambda: store.check_space(ANA, 0), lambda: put(store, "s", sessions(1))):
        with pytest.raises(AgnesError) as refused:
            attempt()
        assert refused.value.kind == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_what_would_not_fit_is_refused_before_it_is_paid(tmp_path: Path) -> None:
    store = new_store(tmp_path / "snapshots")
    store.check_space(ANA, 1)
    with pytest.raises(AgnesError) as refused:
        store.check_space(ANA, 10**18)
    assert refused.value.kind == "disk_full"


def test_the_floor_is_kept_while_rows_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else fills the disk meanwhile."""
    store = new_store(tmp_path, min_free_bytes=1)
    free = iter([10**12, 10**12, 0])
    monkeypatch.setattr("agnes_mcp.snapshots.writing.shutil.disk_usage", lambda _: FreeBytes(next(free)))
    with pytest.raises(AgnesError) as refused:
        put(store, "s", sessions(300_000))
    assert refused.value.kind == "disk_full"
    assert files_below(tmp_path) == []


def test_beyond_the_quota_the_last_of_the_disk_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SnapshotStore(tmp_path, quota_bytes=500_000, min_free_bytes=10**6)
    put(store, "much", noise(20_000))  # 640 kB
    now = FreeBytes(19 * 10**5)  # less than twice the floor
    monkeypatch.setattr("agnes_mcp.snapshots.writing.shutil.disk_usage", lambda _: now)
    table, chart = sessions(10), "{}"
    for attempt in (
        lambda: store.check_space(ANA, 0),
        lambda: put(store, "s", table),
        lambda: put(store, "much", table, force=True),
        lambda: store.keep_chart(ANA, chart, []),
        lambda: store.check_space(BEN, 500_001),  # not yet beyond it
        lambda: put(store, "s", noise(20_000), principal=BEN),  # as its rows arrive
    ):
        with pytest.raises(AgnesError, match="for others") as refused:
            attempt()
        assert (refused.value.kind, "snapshot_drop" in refused.value.hint) == ("disk_full", True)
    store.check_space(BEN, 500_000)
    put(store, "s", table, principal=BEN)
    store.drop(ANA, "much")
    put(store, "s", table)
    put(store, "much", table)
    now.free = 2 * 10**6
    put(store, "t", table)
    assert [kept.name for kept in store.list(ANA)] == ["much", "s", "t"]


class FreeBytes:
    def __init__(self, free: int) -> None:
        self.free = free


def keep_other_bytes(
    monkeypatch: pytest.MonkeyPatch, chosen: Callable[[bytes], bool], from_end: int | None = None
) -> None:
    """Let the disk flip one bit in the writes that are `chosen`: in the middle, or that many bytes before their end."""
    real = os.write

    def corrupting(descriptor: int, content: Any) -> int:
        changed = bytearray(content)
        if chosen(bytes(changed)):
            changed[len(changed) // 2 if from_end is None else -from_end] ^= 1
        return real(descriptor, bytes(changed))

    monkeypatch.setattr(os, "write", corrupting)


def test_a_disk_that_keeps_other_rows_is_found_out_at_the_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is of what was meant, so what a bad disk made of it never passes."""
    store = new_store(tmp_path)
    keep_other_bytes(monkeypatch, lambda content: len(content) > 100_000)
    put(store, "s", noise(5000))
    monkeypatch.undo()
    with pytest.raises(AgnesError) as refused:
        store.verify(ANA, "s")
    assert refused.value.kind == "snapshot_damaged"


def test_a_disk_that_keeps_another_footer_is_found_out_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    keep_other_bytes(monkeypatch, lambda content: content.endswith(b"PAR1"), from_end=2)
    with pytest.raises(AgnesError) as refused:
        put(store, "s", sessions(1000))
    assert refused.value.kind == "storage_failed"
    assert files_below(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_an_error_without_a_path(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    store = new_store(blocked / "snapshots")
    with pytest.raises(AgnesError) as refused:
        put(store, "s", sessions(1))
    assert refused.value.kind == "storage_failed"
    assert str(tmp_path) not in refused.value.message + refused.value.hint + str(refused.value.details)
