"""Turns: shared fairly between owners, never idle while somebody waits, and given back."""

from __future__ import annotations

import math
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import wait_until

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.turns import Interpreting, Ticket, Turns
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal

OWNERS = "abcde"
#: An owner asks; or the nth of all that have a turn, or wait for one, leaves.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(OWNERS)),
        st.tuples(st.sampled_from(["end", "stop waiting"]), st.integers(0, 40)),
    ),
    max_size=120,
)


class Watched:
    """Turns, and what they should know, kept apart."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.turns = capacity, Turns(capacity)
        self.open: list[Ticket] = []
        self.granted: list[Ticket] = []  # in order

    def ask(self, owner: str, since: float = math.inf) -> Ticket:
        later: list[Ticket] = []
        ticket = self.turns.ask(owner, lambda: self.granted.extend(later), since)
        if ticket.granted:  # before it had a name
            self.granted.append(ticket)
        later.append(ticket)
        self.open.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        self.open.remove(ticket)
        self.turns.leave(ticket)

    def held(self) -> Counter[str]:
        return Counter(ticket.owner for ticket in self.open if ticket.granted)

    def waiting(self) -> Counter[str]:
        return Counter(ticket.owner for ticket in self.open if not ticket.granted)

    @property
    def share(self) -> int:
        return max(1, self.capacity // len({ticket.owner for ticket in self.open}))


@given(st.integers(1, 6), STEPS)
def test_whatever_happens_turns_are_fair(capacity: int, steps: list[tuple[str, str | int]]) -> None:
    watched = Watched(capacity)
    for step, what in steps:
        if isinstance(what, str):
            watched.ask(what)
        elif of := [ticket for ticket in watched.open if ticket.granted == (step == "end")]:
            watched.leave(of[what % len(of)])
        check(watched)
    for ticket in list(watched.open):
        watched.leave(ticket)
    assert (watched.turns.held, watched.turns.waiting) == (0, 0)
    assert len(set(map(id, watched.granted))) == len(watched.granted)


def check(watched: Watched) -> None:
    held, waiting = watched.held(), watched.waiting()
    assert (watched.turns.held, watched.turns.waiting) == (held.total(), waiting.total())
    assert held.total() <= max(watched.capacity, 2 * watched.capacity - 1)
    if not waiting:
        return
    assert held.total() >= watched.capacity, "somebody waits for a turn that nobody has"
    borrowed = sum(max(0, count - watched.share) for count in held.values())
    kept_out = [owner for owner in waiting if held[owner] < watched.share]
    if kept_out:
        assert held.total() - watched.capacity >= borrowed, f"{kept_out} wait for what others borrowed"


@given(st.integers(1, 6), st.permutations(OWNERS * 4))
def test_an_owners_requests_keep_their_order(capacity: int, owners: list[str]) -> None:
    watched = Watched(capacity)
    asked = [watched.ask(owner) for owner in owners]
    while watched.open:
        watched.leave(next(ticket for ticket in watched.open if ticket.granted))
    for owner in OWNERS:
        mine = [ticket for ticket in asked if ticket.owner == owner]
        assert [ticket for ticket in watched.granted if ticket.owner == owner] == mine


@given(st.integers(1, 6), st.lists(st.integers(0, 5), max_size=12))
def test_of_an_owners_calls_that_wait_the_one_that_began_first_is_first(capacity: int, began: list[int]) -> None:
    """What has begun is to end before more is begun; of calls that began at once, the first to ask is first."""
    watched = Watched(capacity)
    held = [watched.ask("a") for _ in range(capacity)]
    waiting = [watched.ask("a", since) for since in began]
    assert watched.granted == held
    while watched.open:
        watched.leave(next(ticket for ticket in watched.open if ticket.granted))
    assert watched.granted[capacity:] == sorted(waiting, key=lambda ticket: ticket.since)


@given(st.permutations("a" * 9 + "b" * 3 + "c" * 3))
def test_one_turn_goes_round_between_those_who_wait(owners: list[str]) -> None:
    watched = Watched(1)
    for owner in owners:
        watched.ask(owner)
    order = ""
    while watched.open:
        [running] = [ticket for ticket in watched.open if ticket.granted]
        order += running.owner
        watched.leave(running)
    for served in range(1, 9):  # nobody is served twice while another waits
        counts = Counter(order[: served + 1])
        assert max(counts.values()) - min(counts[owner] for owner in "abc") <= 1, order
    assert order[9:] == "a" * 6


def test_what_nobody_else_wants_may_be_borrowed() -> None:
    turns = Turns(4)
    tickets = [turns.ask("a") for _ in range(6)]
    assert [ticket.granted for ticket in tickets] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(("capacity", "at_once"), [(2, 1), (3, 1), (4, 2), (8, 4)])
def test_a_newcomer_does_not_wait_for_what_was_borrowed(capacity: int, at_once: int) -> None:
    turns = Turns(capacity)
    greedy = [turns.ask("a") for _ in range(3 * capacity)]
    late = [turns.ask("b") for _ in range(3 * capacity)]
    assert [ticket.granted for ticket in late] == [True] * at_once + [False] * (3 * capacity - at_once)
    turns.leave(greedy[0])  # what was lent beyond the number is not lent on
    assert turns.held == capacity + at_once - 1
    assert sum(ticket.granted for ticket in greedy) == capacity


def test_a_single_turn_is_waited_for() -> None:
    turns = Turns(1)
    first, second = turns.ask("a"), turns.ask("b")
    assert (first.granted, second.granted) == (True, False)
    turns.leave(first)
    assert second.granted


def _taking(interpreting: Interpreting, call: Call, order: list[str], hold: threading.Event | None = None) -> None:
    with interpreting.turn(call):
        order.append(call.principal.name)
        if hold is not None:
            hold.wait(30)


def test_the_interpreter_is_kept_busy_by_one_at_a_time_and_owners_alternate() -> None:
    interpreting, order, hold = Interpreting(), list[str](), threading.Event()
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(_taking, interpreting, Call("scan", Principal("mallory")), order, hold)]
        wait_until(lambda: order == ["mallory"])
        for number, name in enumerate(["mallory", "mallory", "mallory", "ana"], start=1):
            asked.append(threads.submit(_taking, interpreting, Call("scan", Principal(name)), order))
            wait_until(lambda: interpreting.waiting == number)  # noqa: B023 - done before the next
        assert order == ["mallory"]
        hold.set()
        for one in asked:
            one.result(30)
    assert order[:2] == ["mallory", "ana"]
    assert order[2:] == ["mallory"] * 3


def test_who_is_stopped_leaves_the_line_for_the_interpreter() -> None:
    interpreting, order, hold = Interpreting(), list[str](), threading.Event()
    stopped = Call("scan", Principal("ana"))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(_taking, interpreting, Call("scan", Principal("mallory")), order, hold)
        wait_until(lambda: order == ["mallory"])
        waits = threads.submit(_taking, interpreting, stopped, order)
        wait_until(lambda: interpreting.waiting == 1)
        stopped.stop(cancelled())
        with pytest.raises(AgnesError, match="cancelled"):
            waits.result(30)
        assert interpreting.waiting == 0
        hold.set()
        first.result(30)
    _taking(interpreting, Call("scan", Principal("ana")), order)
    assert order == ["mallory", "ana"]
