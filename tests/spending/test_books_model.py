"""Random lives of two processes that share their books, beside a ledger that adds up what happened."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from support.books import NOON, Clock, abandon
from support.counts import count, tell

from agnes_mcp.errors import QuotaError
from agnes_mcp.models import JobReference
from agnes_mcp.spending.books import Budget, Limits, Reservation
from agnes_mcp.spending.stores.sqlite import FileBooks

GROUP = Budget("group", "all", 1_500)
LIMITS = Limits(max_concurrent=4, max_daily_bytes=1_000, shared=(GROUP,))
PEOPLE = ("ana", "ben")


@dataclass(eq=False)
class Held:
    """A reservation, and what the model knows of it."""

    reservation: Reservation
    process: int
    state: str = "held"  # held, intended, assumed, ended
    bill: int = 0


class TwoProcesses(RuleBasedStateMachine):
    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = Path(tempfile.mkdtemp())
        self.processes = [FileBooks(self.folder, self.clock) for _ in range(2)]
        self.held: list[Held] = []
        self.billed: Counter[tuple[str, str]] = Counter()  # scope, day

    def teardown(self) -> None:
        for books in self.processes:
            books.close()
        shutil.rmtree(self.folder)

    def taken(self, scope: str, states: tuple[str, ...], day: str) -> int:
        return sum(
            one.reservation.reserved_bytes
            for one in self.held
            if one.state in states
            and one.reservation.day == day
            and scope in ("group:all", f"user:{one.reservation.principal}")
        )

    def running(self, who: str) -> int:
        return sum(one.reservation.principal == who and one.state in ("held", "intended") for one in self.held)

    @property
    def today(self) -> str:
        return self.clock.now.date().isoformat()

    def charge(self, held: Held, amount: int) -> None:
        held.state = "ended"
        for scope in ("group:all", f"user:{held.reservation.principal}"):
            self.billed[scope, held.reservation.day] += amount

    @rule(target=reservations, who=st.sampled_from(PEOPLE), process=st.integers(0, 1), wanted=st.integers(0, 600))
    def reserve(self, who: str, process: int, wanted: int) -> Held | None:
        everything = ("held", "intended", "assumed")
        fits = wanted == 0 or all(
            self.billed[scope, self.today] + self.taken(scope, everything, self.today) + wanted <= limit
            for scope, limit in ((f"user:{who}", 1_000), ("group:all", 1_500))
        )
        slot = self.running(who) < LIMITS.max_concurrent
        try:
            reservation = self.processes[process].reserve(who, wanted, LIMITS)
        except QuotaError:
            assert not (fits and slot)
            return None
        assert fits
        assert slot
        self.held.append(Held(reservation, process))
        return self.held[-1]

    @rule(held=reservations, billed=st.integers(0, 600))
    def intend(self, held: Held | None, billed: int) -> None:
        if held is not None and held.state == "held":
            held.reservation.intend(JobReference(project="my-project", job_id=held.reservation.lease))
            held.state, held.bill = "intended", min(billed, held.reservation.reserved_bytes)

    @rule(held=consumes(reservations), how=st.sampled_from(["settle", "release", "unknown"]))
    def end(self, held: Held | None, how: str) -> None:
        if held is None or held.state in ("assumed", "ended") or held.reservation.settled:
            return
        if how == "unknown":
            held.reservation.settle(None)
            held.state = "assumed"
        else:
            billed = held.bill if how == "settle" else 0
            held.reservation.settle(billed)
            held.reservation.settle(billed + 1)
            self.charge(held, billed)

    @rule(process=st.integers(0, 1))
    def die(self, process: int) -> None:
        """And be started again."""
        abandon(self.processes[process])
        self.processes[process] = FileBooks(self.folder, self.clock)
        for held in self.held:
            if held.process == process and held.state in ("held", "intended"):
                held.state = "assumed" if held.state == "intended" else "ended"

    @rule(process=st.integers(0, 1))
    def learn(self, process: int) -> None:
        by_lease = {held.reservation.lease: held for held in self.held if held.state == "assumed"}
        unsettled = self.processes[process].unsettled()
        assert {one.lease for one in unsettled} == set(by_lease)
        for one in unsettled:
            held = by_lease[one.lease]
            assert self.processes[1 - process].correct(one, held.bill)
            assert not self.processes[process].correct(one, held.bill)
            self.charge(held, held.bill)

    @rule(hours=st.sampled_from([-25, -1, 1, 13, 25]))
    def move_clock(self, hours: int) -> None:
        moved = self.clock.now + timedelta(hours=hours)
        if abs(moved - NOON) < timedelta(days=3):
            self.clock.now = moved

    @invariant()
    def agrees(self) -> None:
        for books in self.processes:
            for who in PEOPLE:
                left, scope = books.left(who, LIMITS), f"user:{who}"
                assumed = self.taken(scope, ("assumed",), self.today)
                assert left.running_scans == self.running(who)
                assert left.daily_bytes_reserved == self.taken(scope, ("held", "intended"), self.today)
                assert left.daily_bytes_assumed == assumed
                assert left.daily_bytes_used == self.billed[scope, self.today] + assumed


@pytest.mark.soak
def test_two_processes_agree_with_the_ledger() -> None:
    lives = count(30, 2_000)
    steady = hypothesis_settings(max_examples=lives, stateful_step_count=25)
    run_state_machine_as_test(TwoProcesses, settings=steady)
    tell("random lives of two processes that share their books", tried=lives, through=lives)
