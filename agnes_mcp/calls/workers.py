"""The one door from the event loop to blocking work.

Work runs in threads under a limiter. Cancelling the awaiting task, or passing the call's deadline, stops the call and
repeats its interrupts until the thread has returned: an interrupt that arrives before DuckDB has started is lost.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from agnes_mcp.calls.call import Call, cancelled, timed_out

T = TypeVar("T")
INTERRUPT_EVERY_S = 0.01


class Workers:
    """At most `count` pieces of blocking work at a time; the rest wait their turn, and can be cancelled meanwhile."""

    def __init__(self, count: int) -> None:
        self._turns = anyio.CapacityLimiter(count)
        self._threads = anyio.CapacityLimiter(math.inf)

    @property
    def busy(self) -> int:
        return self._turns.borrowed_tokens

    async def run(self, call: Call, work: Callable[[], T]) -> T:
        """The result of `work`, run in a thread. Raises what it raises, or `timeout`."""
        await self._take_turn(call)
        try:
            return await self._run_in_thread(call, work)
        finally:
            self._turns.release_on_behalf_of(call)

    async def _take_turn(self, call: Call) -> None:
        """Wait for a turn; stopping the call ends the wait as well."""
        loop = asyncio.get_running_loop()
        with (
            anyio.CancelScope() as waiting,
            call.interruptible(lambda: _post(loop, waiting.cancel)),
        ):
            with anyio.move_on_after(call.remaining_s):
                await self._turns.acquire_on_behalf_of(call)
                return
            call.stop(timed_out(call.timeout_s or 0.0))
        call.check()

    async def _run_in_thread(self, call: Call, work: Callable[[], T]) -> T:
        ended = anyio.Event()
        outcome: list[T] = []
        failure: list[BaseException] = []

        async def attend() -> None:
            with anyio.CancelScope(shield=True):
                try:
                    outcome.append(await anyio.to_thread.run_sync(work, limiter=self._threads))
                except BaseException as error:  # noqa: BLE001 - carried over to the awaiting task, whatever it is
                    failure.append(error)
                ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(attend)
            await self._await_or_stop(call, ended)
        if failure:
            raise failure[0]
        return outcome[0]

    async def _await_or_stop(self, call: Call, ended: anyio.Event) -> None:
        try:
            with anyio.move_on_after(call.remaining_s):
                await ended.wait()
                return
            call.stop(timed_out(call.timeout_s or 0.0))
            await _interrupt_until(call, ended)
        except anyio.get_cancelled_exc_class():
            call.stop(cancelled())
            with anyio.CancelScope(shield=True):
                await _interrupt_until(call, ended)
            raise


def _post(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(action)


async def _interrupt_until(call: Call, ended: anyio.Event) -> None:
    while not ended.is_set():
        call.interrupt()
        with anyio.move_on_after(INTERRUPT_EVERY_S):
            await ended.wait()
