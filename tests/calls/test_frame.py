"""The frame of a call: restored once before, one line after, and nobody pretends a call to get a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agnes_mcp.calls.audit import Audit, AuditLine
from agnes_mcp.calls.frame import NOBODY, Calls
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Principal

ANA = Principal("ana")


def lines(folder: Path) -> list[AuditLine]:
    path = folder / "audit.jsonl"
    return [AuditLine.model_validate_json(line) for line in path.read_text().splitlines()] if path.exists() else []


def calls_in(folder: Path, restore: Callable[[], None] = lambda: None) -> Calls:
    return Calls(Audit(folder), 2, restore=restore)


async def test_what_an_earlier_process_left_is_restored_once_before_the_first_call(tmp_path: Path) -> None:
    restored: list[str] = []

    def restore() -> None:
        restored.append(threading.current_thread().name)

    calls = calls_in(tmp_path, restore)
    seen: list[int] = []

    async def ask() -> None:
        async with calls.open("usage", ANA):
            seen.append(len(restored))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert seen == [1] * 5
    assert restored[0] != threading.main_thread().name


async def test_a_call_carries_who_asks_what_was_agreed_and_its_line(tmp_path: Path) -> None:
    calls, agreed = calls_in(tmp_path), Consent({"digest": 5})
    async with calls.open("scan", ANA, table_id="t" * 100, consent=agreed) as call:
        call.line.limit = 7
        assert (call.principal, call.consent) == (ANA, agreed)
    [line] = lines(tmp_path)
    assert (line.tool, line.principal, line.table_id, line.limit) == ("scan", "ana", "t" * 64, 7)
    assert (line.request_id, line.status, line.error_kind) == (call.request_id, "ok", None)


async def test_a_part_of_another_call_is_only_written_down_when_it_fails(tmp_path: Path) -> None:
    calls = calls_in(tmp_path)
    async with calls.open("scan", ANA, noted=False):
        pass
    assert lines(tmp_path) == []
    with pytest.raises(AgnesError):
        async with calls.open("scan", ANA, noted=False):
            raise AgnesError("over_scan_cap", "Too much.", "Ask for less.")
    assert [line.error_kind for line in lines(tmp_path)] == ["over_scan_cap"]


async def test_who_watches_failures_is_told_of_them_alone_and_before_the_others(tmp_path: Path) -> None:
    calls = calls_in(tmp_path)
    told: list[tuple[str, str | None]] = []
    calls.observers.append(lambda call: told.append(("all", call.line.error_kind)))
    calls.failure_observers.append(lambda line: told.append(("failures", line.error_kind)))
    async with calls.open("schema", ANA):
        pass
    await calls.refuse("schema", ANA, AgnesError("schema_changed", "It has changed.", "Call again."), "orders")
    assert told == [("all", None), ("failures", "schema_changed"), ("all", "schema_changed")]


async def test_work_of_nobody_s_is_not_audited_and_ends_with_the_process(tmp_path: Path) -> None:
    calls = calls_in(tmp_path)
    call = calls.background("catalog", timeout_s=60)
    assert call.principal is NOBODY
    started, gone_on = threading.Event(), threading.Event()

    def work() -> None:
        with call.interruptible(gone_on.set):
            started.set()
            assert gone_on.wait(30)
            call.check()

    async def close() -> None:
        await anyio.to_thread.run_sync(started.wait)
        calls.close()

    kinds: list[str] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            try:
                await calls.run(call, work)
            except AgnesError as error:
                kinds.append(error.kind)
    assert kinds == ["cancelled"]
    assert lines(tmp_path) == []
