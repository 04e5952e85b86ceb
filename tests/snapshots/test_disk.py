"""A disk that is full or refuses: a clear error, nothing visible, no leftover, and the store goes on."""

from __future__ import annotations

import contextlib
import errno
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
    for attempt in (lambda: store.check_space(0), lambda: put(store, "s", sessions(1))):
        with pytest.raises(AgnesError) as refused:
            attempt()
        assert refused.value.kind == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_what_would_not_fit_is_refused_before_it_is_paid(tmp_path: Path) -> None:
    store = new_store(tmp_path / "snapshots")
    store.check_space(1)
    with pytest.raises(AgnesError) as refused:
        store.check_space(10**18)
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


class FreeBytes:
    def __init__(self, free: int) -> None:
        self.free = free


class Breaking:
    """The operating system's calls, of which the n-th fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
        self.fails_at = 10**9
        self.error = errno.EIO
        self.made = 0
        for name in names:
            monkeypatch.setattr(os, name, self._breaking(getattr(os, name)))

    def _breaking(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.made += 1
            if self.made == self.fails_at:
                raise OSError(self.error, os.strerror(self.error))
            return real(*args, **options)

        return call


WRITES = ["write", "fsync", "replace"]


@pytest.mark.parametrize(("error", "kind"), [(errno.EIO, "storage_failed"), (errno.ENOSPC, "disk_full")])
@pytest.mark.parametrize("existing", [False, True])
def test_each_call_that_fails_leaves_the_old_state_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, kind: str, existing: bool
) -> None:
    """The first, the second, … of all writes, syncs and renames of a snapshot, until one gets through unbroken."""
    disk = Breaking(monkeypatch, WRITES)
    disk.error = error
    kinds = []
    for fails_at in range(1, 100):
        root = tmp_path / str(fails_at)
        store = new_store(root)
        if existing:
            put(store, "s", sessions(3))
        disk.made, disk.fails_at = 0, fails_at
        try:
            put(store, "s", sessions(5000), force=True)
            kinds.append("written")
        except AgnesError as refused:
            kinds.append(refused.kind)
        broken = disk.made >= fails_at
        disk.fails_at = 10**9
        new_store(root).sweep()
        expected = {"written": 5000}.get(kinds[-1], 3 if existing else None)
        assert visible_rows(root) == expected
        assert len(files_below(root)) == (0 if expected is None else 2)
        if not broken:
            break
    assert kinds[-1] == "written"
    assert set(kinds) == {kind, "written"}
    assert len(kinds) > 8


def visible_rows(root: Path) -> int | None:
    store = new_store(root)
    return len(stored_rows(store, "s")) if store.list(ANA) else None


@pytest.mark.skipif(sys.platform != "linux", reason="the name of a descriptor is read from /proc")
def test_each_step_is_on_the_disk_before_the_next_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power failure may undo: nothing that a later step builds upon."""
    put(new_store(tmp_path), "s", sessions(3))
    steps: list[str] = []
    real_fsync, real_replace, real_unlink = os.fsync, os.replace, os.unlink

    def what(path: object) -> str:
        name = Path(str(path)).name
        kind = "sidecar" if name == "s.meta.json" else "trace" if name.endswith(".json") else "rows"
        return "folder" if Path(str(path)).is_dir() else kind

    def fsync(descriptor: int) -> None:
        steps.append("sync " + what(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    def replace(source: object, target: object) -> None:
        steps.append(f"rename {what(source)} to {what(target)}")
        real_replace(str(source), str(target))

    def unlink(path: object, **options: Any) -> None:
        if ".locks" not in str(path) and Path(str(path)).exists():
            steps.append(f"remove {what(path)}")
        real_unlink(str(path), **options)

    for name, replacement in (("fsync", fsync), ("replace", replace), ("unlink", unlink)):
        monkeypatch.setattr(os, name, replacement)
    put(new_store(tmp_path), "s", sessions(9), force=True)
    assert steps == [
        "sync rows",
        "sync trace",
        "sync folder",
        "rename rows to rows",
        "sync folder",
        "rename trace to sidecar",
        "sync folder",
        "remove rows",
        "sync folder",
    ]
    steps.clear()
    new_store(tmp_path).drop(ANA, "s")
    assert steps == ["rename sidecar to trace", "sync folder", "remove rows", "remove trace", "sync folder"]


def test_a_commit_the_disk_does_not_confirm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very last sync: the snapshot is there, but may not survive a power failure."""
    disk = Breaking(monkeypatch, ["fsync"])
    put(new_store(tmp_path / "count"), "s", sessions(5))
    disk.fails_at, disk.made = disk.made, 0
    store = new_store(tmp_path / "s")
    written = store.write(ANA, "s", sessions(5).to_batches(), sessions(0).schema, FACTS, call=new_call())
    assert "power failure" in written.warnings[0]
    assert len(stored_rows(store, "s")) == 5


def test_each_call_of_a_drop_that_fails_drops_it_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Breaking(monkeypatch, ["replace", "unlink", "fsync"])
    for fails_at in range(1, 20):
        store = new_store(tmp_path / str(fails_at))
        put(store, "s", sessions(3))
        disk.made, disk.fails_at = 0, fails_at
        with contextlib.suppress(AgnesError):
            store.drop(ANA, "s")
        broken = disk.made >= fails_at
        disk.fails_at = 10**9
        store.sweep()
        left = files_below(store.root)
        assert left == [] or (len(left) == 2 and len(stored_rows(store, "s")) == 3)
        if not broken:
            break
    assert fails_at > 3
    assert left == []


def keep_other_bytes(monkeypatch: pytest.MonkeyPatch, chosen: Callable[[bytes], bool]) -> None:
    """Let the disk flip one bit in the writes that are `chosen`."""
    real = os.write

    def corrupting(descriptor: int, content: Any) -> int:
        changed = bytearray(content)
        if chosen(bytes(changed)):
            changed[len(changed) // 2] ^= 1
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
    keep_other_bytes(monkeypatch, lambda content: content.endswith(b"PAR1") and len(content) == 4)
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
