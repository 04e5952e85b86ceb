"""Calls of one principal that wait for a slot, in order of arrival. Whoever waits has reserved nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import QuotaError
from agnes_mcp.spending.books import Reservation

#: How often the first in line asks the books again: a slot may be given back by another process, which tells nobody.
ASK_EVERY_S = 0.25
#: What waiting for a slot is counted as.
SLOT = "slot"

Attempt = Callable[[], Awaitable[Reservation]]


class Line:
    """Used on the event loop alone."""

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()

    @property
    def length(self) -> int:
        return len(self._places)

    def wake(self) -> None:
        """The first looks whether there is a slot now."""
        if self._places:
            self._places[0].called.set()

    async def wait(self, call: Call, attempt: Attempt, within_s: float) -> Reservation:
        """What `attempt` gives once there is a slot. Only the first in line attempts.

        Raises what `attempt` raises beside a lack of slots, that once `within_s` are over, and what ended the call.
        """
        place, loop = _Place(call), asyncio.get_running_loop()
        self._places.append(place)
        try:
            with call.interruptible(lambda: _post(loop, place)), call.waiting_for(SLOT):
                place.tell(self.length)
                return await self._until_served(place, call, attempt, within_s)
        finally:
            left = self._places.index(place)
            del self._places[left]
            for number, behind in enumerate(list(self._places)[left:], start=left + 1):
                behind.tell(number)
            self.wake()

    async def _until_served(self, place: _Place, call: Call, attempt: Attempt, within_s: float) -> Reservation:
        deadline = anyio.current_time() + within_s
        while True:
            call.check()
            last_look = anyio.current_time() >= deadline
            if self._places[0] is place or last_look:
                try:
                    return await attempt()
                except QuotaError as error:
                    if last_look or not wants_slot(error):
                        raise _having_waited(error, within_s) from None
            await place.be_called(min(ASK_EVERY_S, deadline - anyio.current_time(), call.remaining_s or within_s))


class _Place:
    """One call in line."""

    def __init__(self, call: Call) -> None:
        self.called = anyio.Event()
        self._call = call

    def tell(self, number: int) -> None:
        """As progress: its number in line now."""
        self._call.report(0.0, None, f"waiting for a slot, number {number} in line")

    async def be_called(self, within_s: float) -> None:
        with anyio.move_on_after(max(0.0, within_s)):
            await self.called.wait()
        if self.called.is_set():
            self.called = anyio.Event()


def wants_slot(error: QuotaError) -> bool:
    """Whether it is a slot that is missing, and not bytes, of which waiting gives none."""
    return bool(error.details["kind"] == "concurrent_scans")


def _having_waited(error: QuotaError, waited_s: float) -> QuotaError:
    if not wants_slot(error):
        return error
    waited = {**error.details, "waited_seconds": waited_s}
    return QuotaError(error.kind, f"{error.message} It waited {waited_s:g} seconds for one to end.", error.hint, waited)


def _post(loop: asyncio.AbstractEventLoop, place: _Place) -> None:
    with suppress(RuntimeError):  # the loop has closed, and nobody waits
        loop.call_soon_threadsafe(lambda: place.called.set())
