"""Every call to the disk fails in turn: the old state or the new one, a clear error, and the order that makes it so."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapshots.shelves import ANA, FACTS, files_below, new_call, new_store, put, sessions, stored_rows

from agnes_mcp.errors import AgnesError


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
