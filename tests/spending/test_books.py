"""Slots and bytes: never overshot, always given back, charged to the day they were taken. In every store alike."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import anyio
import pytest
from support.books import NOON, Clock, OpenBooks

from agnes_mcp.errors import QuotaError
from agnes_mcp.models import JobReference
from agnes_mcp.spending.books import Books, Budget, Limits

LIMITS = Limits(max_concurrent=5, max_daily_bytes=1_000)
JOB = JobReference(project="my-project", location="US", job_id="job_1")


def used(books: Books, principal: str = "ana", limits: Limits = LIMITS) -> tuple[int, int, int]:
    left = books.left(principal, limits)
    return left.running_scans, left.daily_bytes_reserved, left.daily_bytes_used


def refusal(books: Books, wanted: int, limits: Limits = LIMITS, principal: str = "ana") -> dict[str, Any]:
    with pytest.raises(QuotaError) as caught:
        books.reserve(principal, wanted, limits)
    assert caught.value.kind == "quota_exceeded"
    assert caught.value.hint
    return caught.value.details


def test_settling_replaces_the_reservation_with_the_bill(books: Books) -> None:
    reservation = books.reserve("ana", 400, LIMITS)
    assert used(books) == (1, 400, 0)
    reservation.intend(JOB)
    assert used(books) == (1, 400, 0)
    reservation.settle(150)
    reservation.settle(999)  # only the first call counts
    reservation.release()
    assert used(books) == (0, 0, 150)
    assert books.unsettled() == []


def test_the_sixth_scan_at_once_is_refused(books: Books) -> None:
    held = [books.reserve("ana", 0, LIMITS) for _ in range(5)]
    assert refusal(books, 0) == {"kind": "concurrent_scans", "current": 5, "limit": 5, "retry_after_seconds": 0}
    books.reserve("ben", 0, LIMITS).release()
    held[0].release()
    books.reserve("ana", 0, LIMITS)


def test_a_budget_holds_what_is_reserved_as_well_as_what_is_billed(clocked: Books, clock: Clock) -> None:
    """The refusal names what there is and when it renews."""
    clock.now = NOON.replace(hour=23, minute=59, second=30)
    clocked.reserve("ana", 300, LIMITS).settle(600)
    clocked.reserve("ana", 300, LIMITS)
    expected = {"kind": "daily_bytes", "current": 900, "limit": 1_000, "retry_after_seconds": 30, "wanted": 101}
    assert refusal(clocked, 101) == expected
    clocked.reserve("ana", 100, LIMITS)
    assert refusal(clocked, 1)["current"] == 1_000
    clocked.reserve("ana", 0, LIMITS)
    clocked.reserve("ben", 1_000, LIMITS)


def test_zero_means_none(books: Books) -> None:
    assert refusal(books, 0, Limits(0, 1_000))["limit"] == 0
    assert refusal(books, 1, Limits(5, 0))["limit"] == 0
    books.reserve("ana", 0, Limits(1, 0)).release()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_leaving_the_context_gives_everything_back(books: Books, error: type[BaseException]) -> None:
    with pytest.raises(error), books.reserve("ana", 500, LIMITS):
        raise error
    assert used(books) == (0, 0, 0)


def test_cancelling_gives_everything_back(books: Books) -> None:
    async def cancelled() -> None:
        with anyio.CancelScope() as scope, books.reserve("ana", 500, LIMITS):
            scope.cancel()
            await anyio.sleep_forever()

    anyio.run(cancelled)
    assert used(books) == (0, 0, 0)


def test_a_scan_over_midnight_is_charged_to_the_day_it_began(clocked: Books, clock: Clock) -> None:
    """The slot is kept, the bytes are yesterday's."""
    clock.now = NOON.replace(hour=23, minute=59, second=59)
    reservation = clocked.reserve("ana", 900, LIMITS)
    reservation.intend(JOB)
    clock.now += timedelta(seconds=2)
    assert used(clocked) == (1, 0, 0)
    clocked.reserve("ana", 1_000, LIMITS).release()
    reservation.settle(800)
    assert used(clocked) == (0, 0, 0)
    clock.now -= timedelta(seconds=2)
    assert used(clocked) == (0, 0, 800)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=-25), timedelta(hours=25), timedelta(days=3)])
def test_a_clock_that_jumps_and_returns_gives_no_second_budget(clocked: Books, clock: Clock, jump: timedelta) -> None:
    clock.now = NOON.replace(hour=0, minute=30)
    clocked.reserve("ana", 700, LIMITS).settle(700)
    running = clocked.reserve("ana", 300, LIMITS)
    clock.now += jump
    clocked.reserve("ana", 10, LIMITS).settle(10)
    clock.now -= jump
    assert used(clocked) == (1, 300, 700)
    assert refusal(clocked, 1)["current"] == 1_000
    running.settle(250)
    assert used(clocked) == (0, 0, 950)


def test_days_long_past_are_forgotten_and_what_runs_is_not(clocked: Books, clock: Clock) -> None:
    clocked.reserve("ana", 700, LIMITS).settle(700)
    running = clocked.reserve("ana", 300, LIMITS)
    clock.now += timedelta(days=40)
    clocked.reserve("ana", 10, LIMITS).settle(10)
    clock.now -= timedelta(days=40)
    assert used(clocked) == (1, 300, 0)
    running.settle(20)
    assert used(clocked) == (0, 0, 20)


def test_a_bill_that_nobody_can_tell_is_the_reservation_and_marked(books: Books) -> None:
    """Missing statistics are never zero."""
    reservation = books.reserve("ana", 400, LIMITS, "request-1")
    reservation.intend(JOB)
    reservation.settle(None)
    left = books.left("ana", LIMITS)
    assert (left.running_scans, left.daily_bytes_reserved, left.daily_bytes_used) == (0, 0, 400)
    assert left.daily_bytes_assumed == 400
    assert refusal(books, 601)["current"] == 400
    reservation.release()  # which says nothing of the bill
    assert books.left("ana", LIMITS).daily_bytes_used == 400
    [unsettled] = books.unsettled()
    assert (unsettled.principal, unsettled.request_id, unsettled.reserved_bytes) == ("ana", "request-1", 400)
    assert unsettled.job == JOB
    assert books.correct(unsettled, 123)
    assert not books.correct(unsettled, 5)  # once
    assert used(books) == (0, 0, 123)
    assert books.left("ana", LIMITS).daily_bytes_assumed == 0
    assert books.unsettled() == []


def test_a_figure_that_comes_late_takes_the_place_of_the_reservation(books: Books) -> None:
    """The thread of a call that was given up learns it at last."""
    reservation = books.reserve("ana", 400, LIMITS)
    reservation.intend(JOB)
    reservation.settle(None)
    reservation.settle(150)
    reservation.settle(999)
    assert used(books) == (0, 0, 150)
    assert books.unsettled() == []


def test_what_was_billed_before_these_books_began_counts_once(open_books: OpenBooks) -> None:
    """Where the store outlives the process it is the only book; a database of replicas never had another."""
    books = open_books()
    books.restore(lambda: {"user:ana": 950, "user:ben": -5, "project:my-project": 950})
    books.restore(lambda: pytest.fail("read again"))
    limits = Limits(5, 1_000, (Budget("project", "my-project", 1_000),))
    if books.store == "postgresql":
        assert used(books) == (0, 0, 0)
        return
    assert refusal(books, 51, limits)["current"] == 950
    assert used(books, "ben") == (0, 0, 0)
    assert refusal(books, 51, limits, "ben")["kind"] == "project_daily_bytes"
    if books.store == "file":
        again = open_books()
        again.restore(lambda: {"user:ana": 50})
        assert used(again) == (0, 0, 950)


def test_groups_and_projects_have_budgets_beside_the_caller_s(books: Books) -> None:
    group, project = Budget("group", "marketing", 600), Budget("project", "my-project", 900)
    ana, ben = Limits(5, 500, (group, project)), Limits(5, 10_000, (group, project))
    cyd = Limits(5, 10_000, (project,))
    books.reserve("ana", 400, ana).settle(300)
    running = books.reserve("ben", 200, ben)
    refused = refusal(books, 101, ben, "ben")
    until_midnight = books.left("ben", ben).seconds_to_reset  # a little later than the refusal, on a clock that runs
    assert until_midnight <= refused.pop("retry_after_seconds") <= until_midnight + 60
    assert refused == {"kind": "group_daily_bytes", "current": 500, "limit": 600, "wanted": 101}
    assert refusal(books, 201, ana)["kind"] == "daily_bytes"
    assert refusal(books, 401, cyd, "cyd")["kind"] == "project_daily_bytes"
    running.settle(100)
    books.reserve("cyd", 500, cyd).settle(500)
    left = books.left("ana", ana)
    assert (left.daily_bytes_used, left.daily_bytes_left) == (300, 0)
    assert [(b.kind, b.name, b.bytes_limit, b.bytes_left) for b in left.shared] == [
        ("group", "marketing", 600, 200),
        ("project", "my-project", 900, 0),
    ]


def test_a_shared_budget_without_a_limit_is_counted_all_the_same(books: Books) -> None:
    """So that a limit set at noon knows the morning."""
    books.reserve("ana", 400, Limits(5, 1_000, (Budget("project", "my-project"),))).settle(400)
    assert books.left("ana", Limits(5, 1_000, (Budget("project", "my-project"),))).shared == []
    limited = Limits(5, 1_000, (Budget("project", "my-project", 500),))
    assert refusal(books, 101, limited, "ben")["current"] == 400


def test_most_of_a_budget_taken_is_said(books: Books) -> None:
    limits = Limits(5, 1_000, (Budget("group", "marketing", 2_000),), warn_at_percent=80)
    books.reserve("ana", 799, limits).settle(799)
    assert books.left("ana", limits).warning is None
    running = books.reserve("ana", 1, limits)
    assert books.left("ana", limits).warning == "80% of your bytes for today are taken: 200 of 1,000 are left."
    running.settle(0)
    assert books.left("ana", limits).warning is None
    books.reserve("ben", 1_000, limits).settle(1_000)
    warning = books.left("ana", limits).warning
    assert warning == "89% of the group marketing's bytes for today are taken: 201 of 2,000 are left."
    assert books.left("ana", Limits(5, 0)).warning is None


@pytest.mark.parametrize("name", ["", "ana'; DROP TABLE agnes_spent; --", "\udcff\x00 %s :day", "名前", "x" * 256])
def test_any_name_is_a_name(books: Books, name: str) -> None:
    books.reserve(name, 400, LIMITS).settle(300)
    books.reserve(name, 100, LIMITS)
    assert used(books, name) == (1, 100, 300)
    assert used(books, name + "x") == (0, 0, 0)


def test_many_threads_race_for_the_last_bytes(books: Books) -> None:
    """Real threads, a barrier; never more than the cap, never more than the slots."""
    limits = Limits(max_concurrent=7, max_daily_bytes=1_000)
    barrier, lock = threading.Barrier(20), threading.Lock()
    running, most_running, granted = 0, 0, 0

    def race() -> None:
        nonlocal running, most_running, granted
        barrier.wait(timeout=60)
        for _ in range(10):
            try:
                reservation = books.reserve("ana", 30, limits)
            except QuotaError:
                continue
            with lock:
                running += 1
                most_running = max(most_running, running)
                granted += 30
            with lock:
                running -= 1
            reservation.settle(30)

    threads = [threading.Thread(target=race) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted == 990
    assert 1 <= most_running <= 7
    assert used(books, limits=limits) == (0, 0, 990)
