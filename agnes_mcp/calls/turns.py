"""Who may begin, where more want to than can: turns shared fairly between owners.

A free turn goes to the owner who holds least, and among equals to the one whose last was longest ago; of an owner's own
requests to that of the call that began first, since what has begun is to end before more is begun. What nobody else
wants may be borrowed. What was borrowed cannot be taken back while it is used, so whoever is kept from an equal share
by borrowed turns does not wait for them: there may be as many turns beyond the capacity as others have borrowed, and
those are the first to go when turns end.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agnes_mcp.calls.call import Call


@dataclass(eq=False)
class Ticket:
    """One request for a turn, of a call that began at `since`; `wake` is run once, when it is granted."""

    owner: str
    wake: Callable[[], None]
    since: float
    granted: bool = False


@dataclass(eq=False)
class _Line:
    """What one owner holds and waits for; `since` its last turn began, ended, or it came: the order among equals."""

    since: int
    held: int = 0
    waiting: deque[Ticket] = field(default_factory=deque)


class Turns:
    """`capacity` turns, at least 1. Not thread-safe, and never blocks."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lines: dict[str, _Line] = {}  # of owners who hold or wait
        self._moment = 0
        self.held = 0
        #: How many requests have no turn yet.
        self.waiting = 0

    def ask(self, owner: str, wake: Callable[[], None] = lambda: None, since: float = math.inf) -> Ticket:
        """A request, granted at once where it can be. Whoever asks gives it back with `leave`, granted or not.

        `since`: when its call began; among requests that do not say so, or equals, the first to ask is first.
        """
        ticket = Ticket(owner, wake, since)
        if owner not in self._lines:
            self._lines[owner] = _Line(self._next_moment())
        waiting = self._lines[owner].waiting
        waiting.insert(bisect_right(waiting, since, key=attrgetter("since")), ticket)
        self.waiting += 1
        self._grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """End a turn, or stop waiting for one; the next in line begin."""
        line = self._lines[ticket.owner]
        if ticket.granted:
            line.held -= 1
            self.held -= 1
            line.since = self._next_moment()
        else:
            line.waiting.remove(ticket)
            self.waiting -= 1
        if not line.held and not line.waiting:
            del self._lines[ticket.owner]
        self._grant()

    def _grant(self) -> None:
        while self.waiting and (line := self._next()) is not None:
            ticket = line.waiting.popleft()
            self.waiting -= 1
            line.held += 1
            self.held += 1
            line.since = self._next_moment()
            ticket.granted = True
            ticket.wake()

    def _next(self) -> _Line | None:
        """Whose turn it is; None: nobody may begin now."""
        wanting = [line for line in self._lines.values() if line.waiting]
        if self.held >= self._capacity:
            share = max(1, self._capacity // len(self._lines))
            borrowed = sum(max(0, line.held - share) for line in self._lines.values())
            if self.held - self._capacity >= borrowed:
                return None
            wanting = [line for line in wanting if line.held < share]
        return min(wanting, key=lambda line: (line.held, line.since), default=None)

    def _next_moment(self) -> int:
        self._moment += 1
        return self._moment


class Interpreting:
    """The one turn at work that keeps the interpreter busy: reading what an agent wrote, and writing statements.

    Of two threads that do so, neither is done sooner than one after the other; but the event loop, which has to have
    the interpreter back after each of its own calls to the system, would wait for every one of them each time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turns = Turns(1)

    @property
    def waiting(self) -> int:
        """How many threads stand in line."""
        with self._changed:
            return self._turns.waiting

    @contextmanager
    def turn(self, call: Call) -> Iterator[None]:
        """Inside, nobody else is. For worker threads. Raises what ended the call while it waited."""
        with self._changed:
            ticket = self._turns.ask(call.principal.name, since=call.started_at)
        try:
            if not ticket.granted:
                self._wait(ticket, call)
            yield
        finally:
            with self._changed:
                self._turns.leave(ticket)
                self._changed.notify_all()

    def _wait(self, ticket: Ticket, call: Call) -> None:
        with call.interruptible(self._wake), self._changed:
            while not ticket.granted:
                call.check()
                self._changed.wait(call.remaining_s)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
