"""Blocking work in threads: stopped, interrupted, and given up where it does not return."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from support import waiting

from agnes_mcp.calls.audit import Audit
from agnes_mcp.calls.call import Call, Threads, cancelled, timed_out
from agnes_mcp.calls.frame import Calls
from agnes_mcp.calls.workers import Workers
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal

ANA = Principal("ana")


class Blocked:
    """Work that nothing interrupts."""

    def __init__(self) -> None:
        self.begun, self.released, self.returned = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        self.released.wait(60)
        self.returned.set()
        return "late"

    @asynccontextmanager
    async def released_at_end(self) -> AsyncIterator[Blocked]:
        try:
            yield self
        finally:
            self.released.set()


def workers(count: int = 1) -> Workers:
    made = Workers(count)
    made.give_up_after_s = 0.05
    return made


async def until(condition: threading.Event) -> None:
    with anyio.fail_after(60):
        while not condition.is_set():
            await anyio.sleep(0.005)


async def test_a_thread_that_does_not_return_keeps_nobody_waiting() -> None:
    """Its call's deadline passes once it has begun: before that, nothing would be run at all."""
    pool, call = workers(), Call("scan", ANA, 3600)
    async with Blocked().released_at_end() as blocked:
        async with anyio.create_task_group() as group:
            group.start_soon(passes, call, blocked.begun)
            with pytest.raises(AgnesError) as ended:
                await pool.run(call, blocked)
        assert ended.value.kind == "timeout"
        assert (pool.stuck, pool.busy) == (1, 0)
        assert await pool.run(Call("schema", ANA, 60), lambda: "served") == "served"
        blocked.released.set()
        await until(blocked.returned)
        with anyio.fail_after(60):
            while pool.stuck:
                await anyio.sleep(0.005)


async def passes(call: Call, begun: threading.Event) -> None:
    await until(begun)
    call.stop(timed_out(0.1, call.tool))


async def test_a_deadline_that_passes_while_a_thread_works_is_the_answer() -> None:
    """However late the thread begins: then the same is said before it does."""
    pool = workers()
    async with Blocked().released_at_end() as blocked:
        with pytest.raises(AgnesError) as ended:
            await pool.run(Call("scan", ANA, 0.2), blocked)
        assert (ended.value.kind, pool.busy) == ("timeout", 0)


async def test_a_cancelled_caller_leaves_a_thread_that_does_not_return() -> None:
    pool, call = workers(), Call("scan", ANA, 60)
    async with Blocked().released_at_end() as blocked:
        async with anyio.create_task_group() as group:
            group.start_soon(pool.run, call, blocked)
            await until(blocked.begun)
            group.cancel_scope.cancel()
        assert (pool.stuck, pool.busy, call.stopped) == (1, 0, True)


async def test_work_that_returns_in_time_is_not_given_up() -> None:
    pool, released = workers(), threading.Event()
    pool.give_up_after_s = 60

    def work() -> str:
        with call.interruptible(released.set):
            released.wait(60)
        call.check()
        return "late"

    call = Call("scan", ANA, 0.05)
    with pytest.raises(AgnesError) as ended:
        await pool.run(call, work)
    assert (ended.value.kind, pool.stuck) == ("timeout", 0)


async def test_what_work_raises_arrives_as_it_is() -> None:
    class Odd(BaseException):
        pass

    def work() -> None:
        raise Odd

    with pytest.raises(Odd):
        await workers().run(Call("scan", ANA), work)


WHO: ContextVar[str] = ContextVar("who", default="nobody")


async def test_a_thread_that_waits_takes_the_next_piece_and_ends_when_all_do() -> None:
    threads, turns = Threads(), asyncio.Semaphore()
    first = await threads.finish(threading.current_thread, turns)
    assert await threads.finish(threading.current_thread, turns) is first, "it waits before anybody hears of its end"
    token = WHO.set("ana")
    try:
        assert await threads.finish(WHO.get, turns) == "ana", "in the context of whoever asked"
    finally:
        WHO.reset(token)
    threads.close()
    assert await threads.finish(threading.current_thread, turns) is not first, "what comes late is done all the same"
    await waiting.until(lambda: not first.is_alive())


async def test_what_is_to_be_finished_is_waited_for_by_whoever_is_cancelled() -> None:
    threads, turns, found = Threads(), asyncio.Semaphore(), list[str]()

    async def ask() -> None:
        found.append(await threads.finish(blocked, turns))

    async with Blocked().released_at_end() as blocked, anyio.create_task_group() as group:
        group.start_soon(ask)
        await until(blocked.begun)
        group.cancel_scope.cancel()
        blocked.released.set()
    assert found == ["late"]
    threads.close()


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(Audit(tmp_path / "audit"), 2, 1)


async def test_stopping_all_gives_up_what_does_not_return_and_audits_it(calls: Calls, tmp_path: Path) -> None:
    async def ask() -> None:
        with pytest.raises(AgnesError):
            async with calls.open("scan", ANA) as call:
                await calls.run(call, blocked)

    async with Blocked().released_at_end() as blocked:
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(blocked.begun)
            await calls.stop_all(0.05)
        assert calls.stuck == 1
        assert '"status":"cancelled"' in (tmp_path / "audit" / "audit.jsonl").read_text()


async def test_a_call_that_waits_for_anything_else_ends_too(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.calls.frame.OVERDUE_AFTER_S", 0.01)
    with pytest.raises(AgnesError) as ended:
        async with calls.open("catalog", ANA, timeout_s=0.01):
            await anyio.sleep_forever()
    assert ended.value.kind == "timeout"
    assert '"error_kind":"timeout"' in (tmp_path / "audit" / "audit.jsonl").read_text()


async def test_one_principals_many_calls_keep_nobody_else_from_a_thread() -> None:
    pool, gate = workers(2), threading.Event()
    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(pool.run, Call("estimate", ANA, 60), lambda: gate.wait(60))
        while pool.waiting < 58:
            await anyio.lowlevel.checkpoint()
        ben = Call("scan", Principal("ben"), 60)
        with anyio.fail_after(30):
            assert await pool.run(ben, lambda: "served") == "served"
        assert (pool.busy, pool.waiting) == (2, 58)
        gate.set()
    assert (pool.busy, pool.waiting) == (0, 0)


async def test_waiting_is_counted_bounded_and_can_be_stopped() -> None:
    pool, gate = Workers(1, "process"), threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(pool.run, Call("query", ANA, 60), lambda: gate.wait(60))
        while not pool.busy:
            await anyio.lowlevel.checkpoint()
        bounded, late, stopped = (Call("query", ANA, limit_s) for limit_s in (60, 0.01, 60))
        ended = []
        for call, within_s in ((bounded, 0.01), (late, None)):
            with pytest.raises(AgnesError) as refused:
                await pool.run(call, lambda: "never", within_s)
            ended.append(refused.value.message)
        assert ended == ["Every process was busy until the deadline.", "The call was stopped after 0.01 seconds."]
        assert 0 < bounded.waits["process"] == bounded.waited_s < 60
        group.start_soon(stop, stopped)
        with pytest.raises(AgnesError) as cancelled_by:
            await pool.run(stopped, lambda: "never")
        assert cancelled_by.value.kind == "cancelled"
        assert pool.waiting == 0
        gate.set()


async def stop(call: Call) -> None:
    call.stop(cancelled())


async def test_a_waiting_call_that_is_cancelled_leaves_its_place() -> None:
    pool, gate = workers(1), threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(pool.run, Call("scan", ANA, 60), lambda: gate.wait(60))
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(pool.run, Call("scan", ANA, 60), lambda: None)
            while pool.waiting < 1:
                await anyio.lowlevel.checkpoint()
            waiting.cancel_scope.cancel()
        assert (pool.busy, pool.waiting) == (1, 0)
        gate.set()
