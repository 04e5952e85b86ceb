"""Processes that race for one budget, and processes that are killed while they spend: the books know it to the byte."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.counts import count, tell
from support.postgres import Postgres

from agnes_mcp.spending.books import Books, Budget, Limits
from agnes_mcp.spending.stores import open_books
from agnes_mcp.spending.stores.postgres import PostgresBooks

pytestmark = [
    pytest.mark.race,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX"),
]
SPENDER = Path(__file__).with_name("spender.py")
KILLS = count(3, 50)
EXPIRES_AFTER_S = 1.0


class Spender:
    def __init__(self, told: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SPENDER), json.dumps(told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def begin(self) -> None:
        assert self.stdout.readline() == "ready\n"
        self.stdin.write("go\n")
        self.stdin.flush()

    def counts(self) -> dict[str, int]:
        counted: dict[str, int] = json.loads(self.stdout.readline())
        return counted

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.leave()

    def leave(self) -> None:
        self.stdin.close()
        self.process.wait(timeout=60)
        self.stdout.close()


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What every spender of a test is told."""
    store = "file"
    if request.param == "postgresql":
        store = request.getfixturevalue("postgres").url(request.getfixturevalue("schema"))
    return {
        "store": store, "folder": str(tmp_path / "books"), "bill": str(tmp_path / "bill"), "principals": ["ana", "ben"],
        "slots": 1000, "tasks": 10, "rounds": 5, "bytes": 1_000, "limit": 40_000, "seed": 1, "shared": [],
        "expires_after_s": EXPIRES_AFTER_S if request.param == "postgresql" else None,
    }  # fmt: skip


@contextmanager
def opened(told: dict[str, Any]) -> Iterator[Books]:
    books = (
        PostgresBooks(told["store"], 0.2, told["expires_after_s"])
        if told["expires_after_s"]
        else open_books(told["store"], Path(told["folder"]))
    )
    try:
        yield books
    finally:
        books.close()


@contextmanager
def spenders(told: dict[str, Any], count: int, **changed: Any) -> Iterator[list[Spender]]:
    started = [Spender({**told, "seed": number + 1, **changed}) for number in range(count)]
    try:
        for spender in started:
            spender.begin()
        yield started
    finally:
        for spender in started:
            if spender.process.poll() is None:
                spender.kill()


def billed(told: dict[str, Any]) -> dict[str, int]:
    """What BigQuery says: job → bytes."""
    lines = Path(told["bill"]).read_text().splitlines()
    return {job: int(amount) for job, amount in (line.split() for line in lines)}


def standing(books: Books, told: dict[str, Any]) -> tuple[int, int, int, int]:
    """Over all principals: slots taken, bytes reserved, used, and of these assumed."""
    limits = Limits(told["slots"], told["limit"])
    left = [books.left(principal, limits) for principal in told["principals"]]
    return (
        sum(one.running_scans for one in left),
        sum(one.daily_bytes_reserved for one in left),
        sum(one.daily_bytes_used for one in left),
        sum(one.daily_bytes_assumed for one in left),
    )


def learn(books: Books, bill: dict[str, int]) -> None:
    """As recovery does: ask for the true figures."""
    for unsettled in books.unsettled():
        assert unsettled.job is not None
        assert books.correct(unsettled, bill.get(unsettled.job.job_id, 0))


def test_no_byte_over_and_none_lost(told: dict[str, Any]) -> None:
    """Four processes, 200 reservations of two principals who share a project's budget too."""
    told = {**told, "shared": [("project", "my-project", 70_000)]}
    limits = Limits(told["slots"], told["limit"], (Budget("project", "my-project", 70_000),))
    with opened(told) as books, spenders(told, 4) as started:
        counts = [spender.counts() for spender in started]
        for spender in started:
            spender.leave()
        assert sum(sum(one.values()) for one in counts) == 200
        assert sum(one.get("project_daily_bytes", 0) + one.get("daily_bytes", 0) for one in counts) > 0
        bill = billed(told)
        learn(books, bill)
        assert standing(books, told) == (0, 0, sum(bill.values()), 0)
        for principal in told["principals"]:
            assert books.left(principal, limits).daily_bytes_used <= told["limit"]
        assert sum(bill.values()) <= 70_000
        assert books.left("ana", limits).shared[0].bytes_left == 70_000 - sum(bill.values())


def test_slots_are_shared_by_processes(told: dict[str, Any]) -> None:
    told = {**told, "slots": 3, "principals": ["ana"], "limit": 10**9, "rounds": 10}
    with opened(told) as books, spenders(told, 8 if told["store"] == "file" else 4) as started:
        counts = [spender.counts() for spender in started]
        assert sum(one.get("concurrent_scans", 0) for one in counts) > 0
        for spender in started:
            spender.leave()
        learn(books, billed(told))
        assert standing(books, told)[:2] == (0, 0)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(KILLS))
def test_what_killed_processes_were_billed_is_known_to_the_byte(told: dict[str, Any], seed: int) -> None:
    """SIGKILL at any moment. Before the true figures are known the books never show less than was billed."""
    told = {**told, "limit": 10**9, "rounds": 10_000}
    chance = random.Random(seed)
    with opened(told) as books, spenders(told, 3) as started:
        while len(billed_so_far(told)) < chance.randint(5, 60):
            assert started[0].process.poll() is None
        for spender in started:
            spender.kill()
        bill = billed(told)
        _, reserved, used, _ = standing(books, told)
        assert reserved + used >= sum(bill.values())
        wait_until_gone(books, told)
        assert standing(books, told)[2] >= sum(bill.values())
        learn(books, bill)
        assert standing(books, told) == (0, 0, sum(bill.values()), 0)
    tell("processes killed while they spend", tried=len(started), through=bool(reserved) * len(started))


def billed_so_far(told: dict[str, Any]) -> list[str]:
    try:
        return Path(told["bill"]).read_text().splitlines()
    except FileNotFoundError:
        return []


def wait_until_gone(books: Books, told: dict[str, Any]) -> None:
    """Until nothing of the killed is held: at once where a lock says so, after a silence where a heartbeat does."""
    deadline = time.monotonic() + 60
    while standing(books, told)[:2] != (0, 0):
        assert told["expires_after_s"], "a lock is given back by the kernel before the process is reaped"
        assert time.monotonic() < deadline, "leases did not expire"
        time.sleep(0.05)


def test_a_neighbour_that_lives_is_never_billed(told: dict[str, Any]) -> None:
    """One of two is killed; what the other holds stays held, for longer than any lease lasts by itself."""
    told = {**told, "limit": 10**9, "tasks": 1, "rounds": 20}
    with opened(told) as neighbour, opened(told) as books:
        held = neighbour.reserve("ana", 500, Limits(10, 10**9))
        held.intend()
        with spenders(told, 1, rounds=10_000) as started:
            while not billed_so_far(told):
                assert started[0].process.poll() is None
            started[0].kill()
        bill = billed(told)
        deadline = time.monotonic() + 60
        while standing(books, told)[0] > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert books.left("ana", Limits(10, 10**9)).daily_bytes_reserved == 500
        learn(books, bill)
        assert standing(books, told) == (1, 500, sum(bill.values()), 0)
        held.settle(400)
        assert standing(books, told) == (0, 0, sum(bill.values()) + 400, 0)


@pytest.mark.needs("postgres")
def test_a_process_that_was_only_cut_off_settles_what_it_knows(postgres: Postgres, schema: str) -> None:
    """Taken for gone, its reservation counts as billed; the true figure replaces that; what was not sent may not be."""
    import psycopg

    limits, url = Limits(10, 10**9), postgres.url(schema)
    silent = PostgresBooks(url, beat_every_s=3600, expires_after_s=3600)
    others = PostgresBooks(url, expires_after_s=0.0)
    sent, unsent = silent.reserve("ana", 500, limits), silent.reserve("ana", 300, limits)
    sent.intend()
    assert others.left("ana", limits).daily_bytes_used == 500
    assert others.left("ana", limits).daily_bytes_reserved == 0
    with pytest.raises(Exception, match="has lapsed"):
        unsent.intend()
    unsent.release()
    sent.settle(120)
    assert others.left("ana", limits).daily_bytes_used == 120
    with psycopg.connect(url) as connection:
        for table in (b"agnes_leases", b"agnes_charges"):
            assert connection.execute(b"SELECT COUNT(*) FROM " + table).fetchone() == (0,)
    silent.close()
    others.close()
