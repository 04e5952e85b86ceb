"""What was spent unasked counts together within a window; the sum decides whether a person is asked."""

from __future__ import annotations

import pytest

from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.models import Price
from agnes_mcp.spending.prices import asks
from agnes_mcp.spending.unasked import Window

MIB = 2**20


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_window_moves_on_and_each_caller_has_its_own() -> None:
    clock = Clock()
    window = Window(60, clock)
    window.add("anna", 10)
    clock.now = 30
    second = window.add("anna", 5)
    window.add("ben", 1)
    assert (window.spent_bytes("anna"), window.spent_bytes("ben"), window.spent_bytes("eva")) == (15, 1, 0)
    second.spent_bytes = 7  # the bill is known
    assert window.spent_bytes("anna") == 17
    clock.now = 60
    assert window.spent_bytes("anna") == 7
    clock.now = 90
    assert window.spent_bytes("anna") == 0


def test_a_yes_sets_it_to_zero_also_for_what_still_runs() -> None:
    window = Window(60)
    running = window.add("anna", 10)
    window.clear("anna")
    running.spent_bytes = 99
    assert window.spent_bytes("anna") == 0


def test_a_window_of_nothing_remembers_nothing() -> None:
    window = Window(0)
    window.add("anna", 10)
    assert window.spent_bytes("anna") == 0


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
