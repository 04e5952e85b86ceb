"""Calls per minute: a bucket for each principal."""

from __future__ import annotations

from contextlib import suppress

import pytest

from agnes_mcp.access.rate import CallRate
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal

ANA, BOB = Principal("ana"), Principal("bob")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rate: CallRate, principal: Principal, tries: int) -> int:
    """How many of so many calls at once are let through."""
    passed = 0
    for _ in range(tries):
        with suppress(AgnesError):
            rate.take(principal)
            passed += 1
    return passed


def test_a_minutes_calls_may_come_at_once_and_come_back_evenly() -> None:
    clock = Clock()
    rate = CallRate(60, clock)
    assert taken(rate, ANA, 100) == 60
    clock.now += 0.5
    assert taken(rate, ANA, 10) == 0
    clock.now += 9.5
    assert taken(rate, ANA, 100) == 10
    clock.now += 3600
    assert taken(rate, ANA, 100) == 60


def test_one_user_does_not_use_up_anothers() -> None:
    rate = CallRate(2, Clock())
    assert taken(rate, ANA, 5) == 2
    assert taken(rate, BOB, 5) == 2


@pytest.mark.parametrize(("per_minute", "wait_s"), [(1, 60), (2, 30), (60, 1), (600, 1), (0, None)])
def test_a_refusal_says_how_long_to_wait(per_minute: int, wait_s: int | None) -> None:
    rate = CallRate(per_minute, Clock())
    assert taken(rate, ANA, per_minute) == per_minute
    with pytest.raises(AgnesError) as refused:
        rate.take(ANA)
    assert refused.value.details["retry_after_seconds"] == wait_s
    assert refused.value.kind == "rate_limited"
    assert refused.value.hint


def test_waiting_that_long_is_enough() -> None:
    clock = Clock()
    rate = CallRate(7, clock)
    assert taken(rate, ANA, 8) == 7
    with pytest.raises(AgnesError) as refused:
        rate.take(ANA)
    clock.now += refused.value.details["retry_after_seconds"]
    assert taken(rate, ANA, 1) == 1


def test_nobody_is_limited_without_a_limit_and_the_os_user_never() -> None:
    assert taken(CallRate(None), ANA, 1000) == 1000
    assert taken(CallRate(0), Principal("root", local=True), 1000) == 1000
