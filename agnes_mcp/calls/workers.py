"""The one door from the event loop to blocking work.

Work runs in threads, in turns that principals share fairly. Cancelling the awaiting task, passing the call's deadline,
or stopping the call repeats its interrupts until the thread has returned: an interrupt that arrives before DuckDB has
started is lost. A thread that does not return is given up: its caller is answered, its turn goes to the next, and it is
counted until it comes back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TypeVar

import anyio

from agnes_mcp.calls.call import THREAD, Call, Piece, Threads, cancelled, post, timed_out
from agnes_mcp.calls.turns import Turns
from agnes_mcp.errors import AgnesError

T = TypeVar("T")
#: An interrupt is lost where DuckDB has not begun, or is between two statements; one costs a microsecond.
INTERRUPT_EVERY_S = 0.01
#: How long a stopped thread may take to return: a job of BigQuery's is cancelled and settled meanwhile.
GIVE_UP_AFTER_S = 3.0


class Workers:
    """`count` pieces of blocking work at a time (see `turns`); the rest wait, and can be cancelled meanwhile.

    `waited_as` is the name under which a call's waiting is counted.
    """

    def __init__(self, count: int, waited_as: str = THREAD, threads: Threads | None = None) -> None:
        self._turns = Turns(count)
        self._waited_as = waited_as
        self._threads = threads or Threads()  # turns bound them; whose thread was given up needs one more
        #: How many threads were given up and have not returned.
        self.stuck = 0
        self.give_up_after_s = GIVE_UP_AFTER_S

    @property
    def busy(self) -> int:
        return self._turns.held

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for their turn."""
        return self._turns.waiting

    async def run(self, call: Call, work: Callable[[], T], within_s: float | None = None) -> T:
        """The result of `work`, run in a thread. Raises what it raises, or what ended the call.

        `within_s` bounds the wait for a turn: then `timeout`, and nothing was run.
        """
        woken = asyncio.Event()
        ticket = self._turns.ask(call.principal.name, woken.set, call.started_at)
        try:
            if ticket.granted:
                call.waits.setdefault(self._waited_as, 0.0)  # no wait is counted as one, of nothing
            else:
                await self._stand_in_line(call, woken, within_s)
            call.check()  # first: who was stopped while waiting is told that, not that all were busy
            if not ticket.granted:
                raise all_busy(self._waited_as)
            return await self._run_in_thread(call, work)
        finally:
            self._turns.leave(ticket)  # granted or not, and also where the turn came with the cancellation

    async def _stand_in_line(self, call: Call, woken: asyncio.Event, within_s: float | None) -> None:
        """Until it is its turn, the call has ended, or the time is over."""
        loop = asyncio.get_running_loop()
        limits_s = [limit_s for limit_s in (call.remaining_s, within_s, math.inf) if limit_s is not None]
        with call.interruptible(lambda: post(loop, woken.set)), call.waiting_for(self._waited_as):
            call.report(0.0, None, f"waiting for a free {self._waited_as}, {self.waiting} in line")
            with anyio.move_on_after(min(limits_s)):
                await woken.wait()

    async def _run_in_thread(self, call: Call, work: Callable[[], T]) -> T:
        piece, left_s = Piece(work), call.remaining_s
        with call.interruptible(lambda: post(piece.loop, piece.woken.set)):
            alarm = None if left_s is None else piece.loop.call_later(left_s, piece.woken.set)
            self._threads.begin(piece)
            try:
                await self._await_or_stop(call, piece)
            finally:
                if alarm is not None:
                    alarm.cancel()
        if not piece.ended.is_set():
            call.check()  # given up: what stopped the call is the answer
        return piece.outcome

    async def _await_or_stop(self, call: Call, piece: Piece[T]) -> None:
        try:
            await piece.woken.wait()
            if not piece.ended.is_set():
                call.stop(timed_out(call.timeout_s or 0.0, call.tool))
                await self._end(call, piece)
        except asyncio.CancelledError:
            call.stop(cancelled())
            with anyio.CancelScope(shield=True):
                await self._end(call, piece)
            raise

    async def _end(self, call: Call, piece: Piece[T]) -> None:
        """Interrupt the thread until it has returned, or is given up."""
        stopped_at = anyio.current_time()
        while not piece.ended.is_set():
            if anyio.current_time() - stopped_at >= self.give_up_after_s:
                self.stuck += 1
                piece.at_end = self._came_back
                return
            call.interrupt()
            with anyio.move_on_after(INTERRUPT_EVERY_S):
                await piece.ended.wait()

    def _came_back(self) -> None:
        self.stuck -= 1


def all_busy(what: str) -> AgnesError:
    return AgnesError(
        "timeout",
        f"Every {what} was busy until the deadline.",
        "Call again in a moment; nothing was run.",
    )
