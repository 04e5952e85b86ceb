"""The one door from the event loop to blocking work.

Work runs in threads, in turns that principals share fairly. Cancelling the awaiting task, passing the call's deadline,
or stopping the call repeats its interrupts until the thread has returned: an interrupt that arrives before DuckDB has
started is lost. A thread that does not return is given up: its caller is answered, its turn goes to the next, and it is
counted until it comes back.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

from agnes_mcp.calls.call import THREAD, Call, cancelled, timed_out
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

    def __init__(self, count: int, waited_as: str = THREAD) -> None:
        self._turns = Turns(count)
        self._waited_as = waited_as
        self._threads = anyio.CapacityLimiter(math.inf)  # turns bound them; whose thread was given up needs one more
        self._stuck = _Counted()
        self.give_up_after_s = GIVE_UP_AFTER_S

    @property
    def busy(self) -> int:
        return self._turns.held

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for their turn."""
        return self._turns.waiting

    @property
    def stuck(self) -> int:
        """How many threads were given up and have not returned."""
        return self._stuck.count

    async def run(self, call: Call, work: Callable[[], T], within_s: float | None = None) -> T:
        """The result of `work`, run in a thread. Raises what it raises, or what ended the call.

        `within_s` bounds the wait for a turn: then `timeout`, and nothing was run.
        """
        woken, loop = anyio.Event(), asyncio.get_running_loop()
        ticket = self._turns.ask(call.principal.name, woken.set)
        try:
            with call.interruptible(lambda: _post(loop, woken.set)), call.waiting_for(self._waited_as):
                if not ticket.granted:
                    call.report(0.0, None, f"waiting for a free {self._waited_as}, {self.waiting} in line")
                await _until(woken, call.remaining_s, within_s)
            call.check()  # first: who was stopped while waiting is told that, not that all were busy
            if not ticket.granted:
                raise all_busy(self._waited_as)
            return await self._run_in_thread(call, work)
        finally:
            self._turns.leave(ticket)  # granted or not, and also where the turn came with the cancellation

    async def _run_in_thread(self, call: Call, work: Callable[[], T]) -> T:
        piece, loop = _Piece(work, self._stuck), asyncio.get_running_loop()
        with call.interruptible(lambda: _post(loop, piece.woken.set)):
            async with anyio.create_task_group() as group:
                group.start_soon(piece.attend, self._threads)
                await self._await_or_stop(call, piece)
        if piece.failure is not None:
            raise piece.failure
        if not piece.outcome:
            call.check()  # given up: what stopped the call is the answer
        return piece.outcome[0]

    async def _await_or_stop(self, call: Call, piece: _Piece[T]) -> None:
        try:
            with anyio.move_on_after(call.remaining_s):
                await piece.woken.wait()
            if not piece.ended.is_set():
                call.stop(timed_out(call.timeout_s or 0.0, call.tool))
                await self._end(call, piece)
        except anyio.get_cancelled_exc_class():
            call.stop(cancelled())
            with anyio.CancelScope(shield=True):
                await self._end(call, piece)
            raise

    async def _end(self, call: Call, piece: _Piece[T]) -> None:
        """Interrupt the thread until it has returned, or is given up."""
        stopped_at = anyio.current_time()
        while not piece.ended.is_set():
            if anyio.current_time() - stopped_at >= self.give_up_after_s:
                piece.give_up()
                return
            call.interrupt()
            with anyio.move_on_after(INTERRUPT_EVERY_S):
                await piece.ended.wait()


class _Counted:
    """A number that threads and the loop change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def change(self, by: int) -> None:
        with self._lock:
            self.count += by


class _Piece(Generic[T]):
    """One piece of work in its thread. `woken` is set when it has ended, and when the call is stopped."""

    def __init__(self, work: Callable[[], T], stuck: _Counted) -> None:
        self.ended, self.woken = anyio.Event(), anyio.Event()
        self.outcome: list[T] = []
        self.failure: BaseException | None = None
        self._work, self._stuck = work, stuck
        self._attending = anyio.CancelScope(shield=True)
        self._lock = threading.Lock()
        self._returned = self._given_up = False

    async def attend(self, threads: anyio.CapacityLimiter) -> None:
        with self._attending:
            try:
                result = await anyio.to_thread.run_sync(self._run, limiter=threads, abandon_on_cancel=True)
                self.outcome.append(result)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - carried over to the awaiting task, whatever it is
                self.failure = error
        self.ended.set()
        self.woken.set()

    def give_up(self) -> None:
        """Wait for the thread no longer."""
        with self._lock:  # a thread that returns just now is not counted, as nobody would count it down
            if self._returned:
                return
            self._given_up = True
            self._stuck.change(+1)
        self._attending.cancel()

    def _run(self) -> T:
        try:
            return self._work()
        finally:
            with self._lock:
                self._returned = True
                if self._given_up:
                    self._stuck.change(-1)


async def _until(woken: anyio.Event, *limits_s: float | None) -> None:
    with anyio.move_on_after(min(limit_s for limit_s in (*limits_s, math.inf) if limit_s is not None)):
        await woken.wait()


def all_busy(what: str) -> AgnesError:
    return AgnesError(
        "timeout",
        f"Every {what} was busy until the deadline.",
        "Call again in a moment; nothing was run.",
    )


def _post(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has closed, and nobody waits
        loop.call_soon_threadsafe(action)
