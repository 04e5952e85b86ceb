"""Writers killed with SIGKILL: what is listed is whole, what is not whole is swept, what was acknowledged is there."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from snapshots.shelves import ANA, FACTS, files_below, new_call, new_store, put, sessions
from snapshots.writers import act_and_die, put_version, race, version_of, write_until_killed
from support.counts import count, tell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are of POSIX")

KILLS = count(6, 250)


def finished(children: ForkServerContext, target: Callable[..., None], *args: Any) -> int:
    """Run a child to its end; its exit code, negative where a signal ended it."""
    child = children.Process(target=target, args=args, daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.race  # few kills may all miss a write
@pytest.mark.parametrize("seed", range(4))
def test_kills_at_random_moments(tmp_path: Path, children: ForkServerContext, seed: int) -> None:
    root, acknowledged = tmp_path / "snapshots", tmp_path / "acknowledged"
    chance = random.Random(seed)
    put_version(new_store(root), "kept", 0)
    version, leftovers = 0, 0
    for _ in range(KILLS):
        kill_a_writer(children, root, acknowledged, version + 1, chance.uniform(0, 4))
        before = len(files_below(root))
        store = new_store(root)  # the restart
        store.sweep()
        listed = store.list(ANA)
        assert [snapshot.damaged for snapshot in listed] == [None] * len(listed)
        assert {"kept"} <= {snapshot.name for snapshot in listed} <= {"kept", "fleeting"}
        leftovers += before - len(files_below(root))
        assert len(files_below(root)) == 2 * len(listed)
        for snapshot in listed:
            version_of(store, snapshot.name)
        reached = version_of(store, "kept")
        assert reached in (last_acknowledged(acknowledged), last_acknowledged(acknowledged) + 1)
        version = reached
    assert version > KILLS / 5, "the writers were killed before they could write"
    assert leftovers > KILLS / 25, "hardly a kill hit a write"
    tell("snapshot writers killed at random moments", tried=KILLS, through=leftovers, note=f"seed {seed}")


def kill_a_writer(children: ForkServerContext, root: Path, acknowledged: Path, version: int, writes: float) -> None:
    """Let a writer work for as long as so many writes take, then kill it."""
    ready, theirs = children.Pipe(duplex=False)
    child = children.Process(target=write_until_killed, args=(root, acknowledged, theirs, version), daemon=True)
    child.start()
    theirs.close()
    write_s = ready.recv()
    acknowledged.write_bytes(struct.pack("<q", version - 1))
    time.sleep(writes * write_s)  # not to wait for something: this is the moment of the kill
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    ready.close()


def last_acknowledged(acknowledged: Path) -> int:
    (version,) = struct.unpack("<q", acknowledged.read_bytes())
    return int(version)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("action", "existing"), [("write", False), ("write", True), ("same", True), ("drop", True)])
def test_a_kill_at_each_call_to_the_operating_system(
    tmp_path: Path, children: ForkServerContext, action: str, existing: bool, after: bool
) -> None:
    """Every one of them, in turn: the old version, or the new one, and nothing beside it."""
    new = {"write": 2, "same": 2, "drop": None}[action]
    seen: Counter[int | None] = Counter()
    for dies_at in range(1, 500, count(5, 1)):  # in the suite every fifth
        root = tmp_path / str(dies_at)
        store = new_store(root)
        if existing:
            put_version(store, "s", 1)
        code = finished(children, act_and_die, root, action, dies_at, after)
        state = state_after_restart(root, same_rows=action == "same")
        assert state in (1 if existing else None, new)
        seen[state] += 1
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0
    assert state == new
    assert sum(seen.values()) > 5
    assert not existing or seen[1] > 0
    tell("snapshot writers killed at each call", tried=sum(seen.values()), through=seen[new])


def state_after_restart(root: Path, same_rows: bool) -> int | None:
    store = new_store(root)
    store.sweep()
    listed = store.list(ANA)
    assert len(files_below(root)) == 2 * len(listed)
    return version_of(store, "s", rows_from=1 if same_rows else None) if listed else None


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize(
    ("leftover_at", "left"),
    [
        (11, {".staging/s.parquet"}),
        (17, {".staging/s.parquet", ".staging/s.meta.json"}),
        (22, {"s.parquet", ".staging/s.meta.json"}),
        (27, {"s.parquet"}),
    ],
    ids=["rows", "trace", "renamed rows", "old rows"],
)
def test_a_sweep_killed_at_each_call_finishes_next_time(
    tmp_path: Path, children: ForkServerContext, leftover_at: int, left: set[str]
) -> None:
    """What a writer left behind when it died in each of the four states that a sweep meets."""
    littered = tmp_path / "littered"
    put_version(new_store(littered), "s", 1)
    before = files_below(littered)
    assert finished(children, act_and_die, littered, "write", leftover_at, False) == -signal.SIGKILL
    leftovers = [name.partition("/")[2] for name in files_below(littered) if name not in before]
    assert {re.sub(r"\.[0-9a-f]{16}\.", ".", name) for name in leftovers} == left
    for dies_at in range(1, 200, count(3, 1)):
        root = tmp_path / str(dies_at)
        shutil.copytree(littered, root)
        code = finished(children, act_and_die, root, "sweep", dies_at, False)
        assert state_after_restart(root, same_rows=False) in (1, 2)
        if code == 0:
            break
    assert code == 0
    assert dies_at > 3
    tell("sweeps killed at each call", tried=dies_at, through=dies_at)


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path, children: ForkServerContext) -> None:
    kill_a_writer(children, tmp_path / "s", tmp_path / "acknowledged", 1, 3)
    store = new_store(tmp_path / "s", lock_wait_s=0)
    put(store, "kept", sessions(1), force=True)
    put(store, "fleeting", sessions(1), force=True)


def test_a_sweep_leaves_a_live_writer_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path)

    def rows() -> Any:
        for batch in sessions(300_000).to_batches(max_chunksize=100_000):
            yield batch
            assert new_store(tmp_path).sweep() == 0

    with store.claim(ANA, "s", new_call()) as claimed:
        claimed.write(rows(), sessions(0).schema, FACTS)
    assert store.get(ANA, "s").rows == 300_000


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.race  # each has to win a share
def test_two_processes_on_five_names(tmp_path: Path, children: ForkServerContext) -> None:
    """Turn after turn: nobody reads a mixture, nothing is lost, and the loser of a race is told so."""
    turns = count(150, 20_000)
    pipes = [children.Pipe(duplex=False) for _ in range(2)]
    racers = [
        children.Process(target=race, args=(tmp_path, seed, turns, theirs), daemon=True)
        for seed, (_, theirs) in enumerate(pipes)
    ]
    for racer in racers:
        racer.start()
    for _, theirs in pipes:
        theirs.close()
    seen: Counter[str] = Counter()
    for mine, _ in pipes:
        assert mine.poll(count(100, 1_500)), "a racer hangs"
        seen += mine.recv()
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert set(seen) <= {"_create", "_replace", "_refresh", "_drop", "_read", "_list"} | {
        "snapshot_exists",
        "snapshot_busy",
        "snapshot_not_found",
    }
    assert min(seen[action] for action in ("_create", "_replace", "_refresh", "_drop", "_read", "_list")) > 5
    tell("turns of two processes on five snapshots", tried=2 * turns, through=seen["_create"] + seen["_replace"])
    store = new_store(tmp_path)
    store.sweep()
    listed = [snapshot.name for snapshot in store.list(ANA)]
    assert {"own0", "own1"} <= set(listed)
    assert len(files_below(tmp_path)) == 2 * len(listed)
    for name in listed:
        version_of(store, name)
