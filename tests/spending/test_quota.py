"""Slots and bytes: never overshot, always given back, charged to the day they were taken."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import anyio
import anyio.to_thread
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from support.counts import count, tell

from agnes_mcp.errors import QuotaError
from agnes_mcp.spending.quota import Limits, Quota, Reservation

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
LIMITS = Limits(max_concurrent=5, max_daily_bytes=1_000)


class Clock:
    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def used(quota: Quota, principal: str = "ana", limits: Limits = LIMITS) -> tuple[int, int, int]:
    left = quota.left(principal, limits)
    return left.running_scans, left.daily_bytes_reserved, left.daily_bytes_used


def refusal(quota: Quota, wanted: int, limits: Limits = LIMITS) -> dict[str, object]:
    with pytest.raises(QuotaError) as caught:
        quota.reserve("ana", wanted, limits)
    assert caught.value.kind == "quota_exceeded"
    assert caught.value.hint
    return caught.value.details


def test_settling_replaces_the_reservation_with_the_bill() -> None:
    quota = Quota(Clock())
    reservation = quota.reserve("ana", 400, LIMITS)
    assert used(quota) == (1, 400, 0)
    reservation.settle(150)
    reservation.settle(999)  # only the first call counts
    reservation.release()
    assert used(quota) == (0, 0, 150)


def test_the_sixth_scan_at_once_is_refused() -> None:
    quota = Quota(Clock())
    held = [quota.reserve("ana", 0, LIMITS) for _ in range(5)]
    assert refusal(quota, 0) == {"kind": "concurrent_scans", "current": 5, "limit": 5, "retry_after_seconds": 0}
    quota.reserve("ben", 0, LIMITS).release()
    held[0].release()
    quota.reserve("ana", 0, LIMITS)


def test_a_budget_holds_what_is_reserved_as_well_as_what_is_billed() -> None:
    """The refusal names what there is and when it renews."""
    quota = Quota(Clock(NOON.replace(hour=23, minute=59, second=30)))
    quota.reserve("ana", 300, LIMITS).settle(600)
    quota.reserve("ana", 300, LIMITS)
    expected = {"kind": "daily_bytes", "current": 900, "limit": 1_000, "retry_after_seconds": 30, "wanted": 101}
    assert refusal(quota, 101) == expected
    quota.reserve("ana", 100, LIMITS)
    quota.reserve("ana", 0, LIMITS)  # free work needs no bytes


def test_a_bill_above_the_reservation_is_charged_whole() -> None:
    """Recording never raises after a paid scan."""
    quota = Quota(Clock())
    quota.reserve("ana", 1_000, LIMITS).settle(5_000)
    assert used(quota) == (0, 0, 5_000)
    assert quota.left("ana", LIMITS).daily_bytes_left == 0
    assert refusal(quota, 1)["current"] == 5_000


def test_zero_is_none_not_the_default() -> None:
    quota = Quota(Clock())
    assert refusal(quota, 0, Limits(0, 1_000))["limit"] == 0
    assert refusal(quota, 1, Limits(5, 0))["limit"] == 0
    quota.reserve("ana", 0, Limits(1, 0)).release()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, anyio.get_cancelled_exc_class])
def test_leaving_the_context_gives_everything_back(error: type[BaseException]) -> None:
    quota = Quota(Clock())
    with pytest.raises(BaseException), quota.reserve("ana", 500, LIMITS):  # noqa: B017, PT011 - whatever was raised
        raise error
    assert used(quota) == (0, 0, 0)


def test_a_scan_over_midnight_is_charged_to_the_day_it_began() -> None:
    """The slot is kept, the bytes are yesterday's."""
    clock = Clock(NOON.replace(hour=23, minute=59, second=59))
    quota = Quota(clock)
    reservation = quota.reserve("ana", 900, LIMITS)
    clock.now += timedelta(seconds=2)
    assert used(quota) == (1, 0, 0)
    quota.reserve("ana", 1_000, LIMITS).release()
    reservation.settle(800)
    assert used(quota) == (0, 0, 0)
    clock.now -= timedelta(seconds=2)
    assert used(quota) == (0, 0, 800)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=-25), timedelta(hours=25), timedelta(days=3)])
def test_a_clock_that_jumps_and_returns_gives_no_second_budget(jump: timedelta) -> None:
    clock = Clock(NOON.replace(hour=0, minute=30))
    quota = Quota(clock)
    quota.reserve("ana", 700, LIMITS).settle(700)
    running = quota.reserve("ana", 300, LIMITS)
    clock.now += jump
    quota.reserve("ana", 10, LIMITS).settle(10)
    clock.now -= jump
    assert used(quota) == (1, 300, 700)
    assert refusal(quota, 1)["current"] == 1_000
    running.settle(250)
    assert used(quota) == (0, 0, 950)


def test_what_was_billed_before_a_restart_counts() -> None:
    quota = Quota(Clock())
    quota.restore({"ana": 950, "ben": -5})
    assert refusal(quota, 51)["current"] == 950
    assert used(quota, "ben") == (0, 0, 0)


async def test_two_hundred_tasks_race_for_the_last_bytes() -> None:
    """Real threads, a barrier; never more than the cap, never more than the slots."""
    quota, limits = Quota(), Limits(max_concurrent=7, max_daily_bytes=1_000)
    barrier, lock = threading.Barrier(200), threading.Lock()
    running, most_running, granted = 0, 0, 0

    def race() -> None:
        nonlocal running, most_running, granted
        barrier.wait(timeout=60)
        for _ in range(20):
            try:
                reservation = quota.reserve("ana", 30, limits)
            except QuotaError:
                continue
            with lock:
                running += 1
                most_running = max(most_running, running)
                granted += 30
            with lock:
                running -= 1
            reservation.settle(30)

    async with anyio.create_task_group() as group:
        for _ in range(200):
            limiter = anyio.CapacityLimiter(1)
            group.start_soon(lambda own=limiter: anyio.to_thread.run_sync(race, limiter=own))  # type: ignore[misc]
    assert granted == 990
    assert 1 <= most_running <= 7
    assert used(quota, limits=limits) == (0, 0, 990)


class QuotaMachine(RuleBasedStateMachine):
    """The quota beside a ledger that adds up what happened."""

    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.quota = Quota(self.clock)
        self.running: dict[str, int] = defaultdict(int)
        self.used: dict[tuple[str, object], int] = defaultdict(int)
        self.reserved: dict[tuple[str, object], int] = defaultdict(int)

    @rule(target=reservations, who=st.sampled_from(["ana", "ben"]), wanted=st.integers(0, 700))
    def reserve(self, who: str, wanted: int) -> Reservation | None:
        key = (who, self.clock.now.date())
        fits = wanted == 0 or self.used[key] + self.reserved[key] + wanted <= LIMITS.max_daily_bytes
        try:
            reservation = self.quota.reserve(who, wanted, LIMITS)
        except QuotaError:
            assert not fits or self.running[who] >= LIMITS.max_concurrent
            return None
        assert fits
        assert self.running[who] < LIMITS.max_concurrent
        self.running[who] += 1
        self.reserved[key] += wanted
        return reservation

    @rule(reservation=consumes(reservations), billed=st.integers(0, 900), how=st.sampled_from(["settle", "release"]))
    def end(self, reservation: Reservation | None, billed: int, how: str) -> None:
        if reservation is None:
            return
        key = (reservation.principal, reservation.day)
        reservation.settle(billed) if how == "settle" else reservation.release()
        reservation.settle(billed)
        self.running[reservation.principal] -= 1
        self.reserved[key] -= reservation.reserved_bytes
        self.used[key] += billed if how == "settle" else 0

    @rule(hours=st.sampled_from([-25, -1, 1, 13, 25]))
    def move_clock(self, hours: int) -> None:
        moved = self.clock.now + timedelta(hours=hours)
        if abs(moved - NOON) < timedelta(days=3):
            self.clock.now = moved

    @invariant()
    def agrees(self) -> None:
        for who in ("ana", "ben"):
            key = (who, self.clock.now.date())
            assert used(self.quota, who) == (self.running[who], self.reserved[key], self.used[key])


@pytest.mark.soak
def test_any_order_of_turns_agrees_with_a_simple_model() -> None:
    turns = count(60, 5_000)
    steady = hypothesis_settings(
        max_examples=turns, stateful_step_count=30, deadline=None, derandomize=True, database=None
    )
    run_state_machine_as_test(QuotaMachine, settings=steady)
    tell("orders of turns on a quota", tried=turns, through=turns)
