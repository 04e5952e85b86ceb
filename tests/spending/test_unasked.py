"""What was spent unasked counts together within a window, of all who share the books; the sum decides who is asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from support.books import Clock, OpenBooks, abandon

from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import Price
from agnes_mcp.spending.books import Books, Limits
from agnes_mcp.spending.prices import asks
from agnes_mcp.spending.stores.sqlite import FileBooks

MIB = 2**20
LIMITS = Limits(max_concurrent=5, max_daily_bytes=1_000, unasked_window_s=60)


class RefusedError(AgnesError):
    pass


def yes(unasked_bytes: int) -> bool:
    return True


def refuse(unasked_bytes: int) -> bool:
    raise RefusedError("approval_outdated", f"{unasked_bytes} bytes", "Ask.")


def test_a_bill_takes_the_place_of_its_reservation(books: Books) -> None:
    seen: list[int] = []

    def agreed(unasked_bytes: int) -> bool:
        seen.append(unasked_bytes)
        return False

    for reserved, billed in ((100, 30), (200, 0), (50, None), (0, 0)):
        reservation = books.reserve("ana", reserved, LIMITS, agreed=agreed)
        reservation.intend()
        seen.append(books.unasked("ana", LIMITS))
        reservation.settle(billed)
    assert seen == [0, 100, 30, 230, 30, 80, 0, 80]  # who reserves nothing is asked nothing
    assert (books.unasked("ana", LIMITS), books.unasked("ben", LIMITS)) == (80, 0)
    [unsettled] = books.unsettled()
    books.correct(unsettled, 7)
    assert books.unasked("ana", LIMITS) == 37


def test_a_yes_sets_it_to_zero_also_for_what_still_runs(books: Books) -> None:
    running = books.reserve("ana", 10, LIMITS)
    other = books.reserve("ben", 10, LIMITS)
    books.reserve("ana", 500, LIMITS, agreed=yes).settle(500)
    running.settle(9)
    other.settle(10)
    assert (books.unasked("ana", LIMITS), books.unasked("ben", LIMITS)) == (0, 10)


def test_a_no_leaves_it_as_it_is_and_takes_nothing(books: Books) -> None:
    books.reserve("ana", 10, LIMITS).settle(10)
    with pytest.raises(RefusedError, match="10 bytes"):
        books.reserve("ana", 500, LIMITS, agreed=refuse)
    left = books.left("ana", LIMITS)
    assert (books.unasked("ana", LIMITS), left.running_scans, left.daily_bytes_reserved) == (10, 0, 0)


def test_a_yes_to_what_does_not_fit_sets_nothing_to_zero(books: Books) -> None:
    books.reserve("ana", 10, LIMITS).settle(10)
    with pytest.raises(QuotaError):
        books.reserve("ana", 5_000, LIMITS, agreed=yes)
    assert books.unasked("ana", LIMITS) == 10


def test_all_who_share_the_books_share_the_window(open_books: OpenBooks) -> None:
    server, shell = open_books(), open_books()
    if server.store == "process":
        return
    server.reserve("ana", 10, LIMITS).settle(10)
    shell.reserve("ana", 20, LIMITS).settle(15)
    assert server.unasked("ana", LIMITS) == shell.unasked("ana", LIMITS) == 25
    shell.reserve("ana", 1, LIMITS, agreed=yes).settle(1)
    assert server.unasked("ana", LIMITS) == 0


def test_the_window_moves_on(clocked: Books, clock: Clock) -> None:
    clocked.reserve("ana", 10, LIMITS).settle(10)
    clock.now += timedelta(seconds=30)
    clocked.reserve("ana", 5, LIMITS).settle(5)
    clock.now += timedelta(seconds=30)
    assert clocked.unasked("ana", LIMITS) == 5
    clock.now += timedelta(seconds=30)
    assert clocked.unasked("ana", LIMITS) == 0


def test_a_window_of_nothing_remembers_nothing(books: Books) -> None:
    alone = Limits(max_concurrent=5, max_daily_bytes=1_000)
    books.reserve("ana", 10, alone).settle(10)
    assert (books.unasked("ana", alone), books.unasked("ana", LIMITS)) == (0, 0)


def test_of_a_process_that_died_only_what_it_may_have_sent_counts(tmp_path: Path) -> None:
    dying, left = FileBooks(tmp_path), FileBooks(tmp_path)
    dying.reserve("ana", 100, LIMITS)
    dying.reserve("ana", 7, LIMITS).intend()
    abandon(dying)
    assert [one.reserved_bytes for one in left.unsettled()] == [7]
    assert left.unasked("ana", LIMITS) == 7
    left.close()


@pytest.mark.parametrize(
    ("prices", "unasked", "asked"),
    [
        ([(12 * MIB, 13 * MIB)], 0, False),
        ([(12 * MIB, 13 * MIB)], 2 * MIB, False),
        ([(12 * MIB, 13 * MIB)], 2 * MIB + 1, True),
        ([(16 * MIB, 16 * MIB)], 0, True),
        ([(0, 0)], 99 * MIB, False),  # free, whatever was spent before
        ([(None, None)], 99 * MIB, False),  # never runs
        ([(None, 16 * MIB)], 0, True),  # unpriced, under a cap
        ([(1, 10 * MIB), (1, 10 * MIB)], 0, True),  # two statements of one call are one sum
    ],
)
def test_who_is_asked(prices: list[tuple[int | None, int | None]], unasked: int, asked: bool) -> None:
    priced = [Price(scan_bytes=scan, reserved_bytes=reserved, path="query_job") for scan, reserved in prices]
    assert asks(priced, ScanSettings(confirm_above_bytes=15 * MIB), unasked) is asked
