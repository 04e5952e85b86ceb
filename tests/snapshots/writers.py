"""What child processes do to a store until they are killed.

Version v of a snapshot is recognisable in its rows and in its facts.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from snapshots.shelves import ANA, FACTS, new_store, put, refresh, rows_of, sessions

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore

SYSTEM_CALLS = ["open", "write", "fsync", "replace", "unlink", "mkdir", "close"]


def put_version(store: SnapshotStore, name: str, version: int) -> None:
    facts = FACTS.model_copy(update={"sql": str(version)})
    put(store, name, sessions(rows_in(version), first=version), facts, force=True)


def refresh_version(store: SnapshotStore, name: str, version: int, same_rows_as: int) -> None:
    facts = FACTS.model_copy(update={"sql": str(version)})
    refresh(store, name, sessions(rows_in(same_rows_as), first=same_rows_as), facts)


def rows_in(version: int) -> int:
    return 100 + version % 997


def version_of(store: SnapshotStore, name: str, rows_from: int | None = None) -> int:
    """The version that is there, all of whose rows are right: those of version `rows_from`, where it is another."""
    with store.reading(ANA, name) as (snapshot, path):
        version = int(snapshot.sql)
        rows = rows_of(path)
        rows_from = version if rows_from is None else rows_from
        expected = sessions(rows_in(rows_from), first=rows_from)
        assert rows == [tuple(row.values()) for row in expected.to_pylist()]
        assert snapshot.rows == len(rows)
        return version


def write_until_killed(root: Path, acknowledged: Path, ready: Connection, first_version: int) -> None:
    """Replace `kept` for ever, and write down each version once it is done; meanwhile, make and drop `fleeting`.

    Begins by telling how long a write takes here and now, in seconds.
    """
    store = new_store(root)
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT)
    version = first_version
    took_s = [_timed(lambda: put_version(store, "fleeting", first_version)) for _ in range(2)]
    store.drop(ANA, "fleeting")
    ready.send(took_s[-1])
    while True:
        put_version(store, "kept", version)
        os.pwrite(descriptor, struct.pack("<q", version), 0)
        version += 1
        put_version(store, "fleeting", version)
        store.drop(ANA, "fleeting")


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def act_and_die(root: Path, action: str, dies_at: int, after: bool) -> None:
    """Do one thing; be killed at the n-th call to the operating system, just before it or just after it."""
    store = new_store(root)
    calls = 0

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == dies_at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            mine = calls
            try:
                return real(*args, **options)
            finally:
                if mine == dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in SYSTEM_CALLS:
        setattr(os, name, deadly(getattr(os, name)))
    if action == "write":
        put_version(store, "s", 2)
    elif action == "same":
        refresh_version(store, "s", 2, same_rows_as=1)
    elif action == "drop":
        store.drop(ANA, "s")
    else:
        store.sweep()


def race(root: Path, seed: int, turns: int, results: Connection) -> None:
    """Create, replace, refresh, drop, read and list five names at random; report how often each thing happened."""
    store, chance, seen = new_store(root, lock_wait_s=0.05), random.Random(seed), Counter[str]()
    for turn in range(turns):
        name = f"s{chance.randrange(5)}"
        action = chance.choice([_create, _replace, _refresh, _drop, _read, _read, _list])
        try:
            action(store, name, 2 * turn + seed % 2)
            seen[action.__name__] += 1
        except AgnesError as error:
            seen[error.kind] += 1
    put_version(store, f"own{seed}", seed)
    results.send(seen)


def _create(store: SnapshotStore, name: str, version: int) -> None:
    put(store, name, sessions(rows_in(version), first=version), FACTS.model_copy(update={"sql": str(version)}))


def _replace(store: SnapshotStore, name: str, version: int) -> None:
    put_version(store, name, version)


def _refresh(store: SnapshotStore, name: str, version: int) -> None:
    refresh_version(store, name, version, version)


def _drop(store: SnapshotStore, name: str, _: int) -> None:
    store.drop(ANA, name)


def _read(store: SnapshotStore, name: str, _: int) -> None:
    version_of(store, name)


def _list(store: SnapshotStore, _: str, __: int) -> None:
    damaged = [snapshot for snapshot in store.list(ANA) if snapshot.damaged]
    assert damaged == []
