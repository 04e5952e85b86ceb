"""Waiting for a slot: in order of arrival, with nothing reserved, and only for as long as somebody wants it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anyio
import pytest
from support.books import OpenBooks

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.audit import Audit
from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.frame import Calls
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import Principal, Progress
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.books import Books, Reservation

ANA, BEN = Principal("ana"), Principal("ben")


def accounts(tmp_path: Path, books: Books, queue_s: float = 60, slots: int = 1) -> Accounts:
    scan = {"queue_seconds": queue_s, "max_concurrent_per_user": slots, "max_daily_bytes_per_user": 1_000}
    settings = Settings.model_validate({"data_dir": str(tmp_path), "api": {"scan": scan}})
    return Accounts(Calls(Audit(tmp_path / "audit"), 2), Access([]), books, settings.api.scan, settings.quota, None)


async def in_line(own: Accounts, count: int, principal: Principal = ANA) -> None:
    with anyio.fail_after(30):
        while (own._lines[principal.name].length if principal.name in own._lines else 0) != count:
            await anyio.sleep(0.002)


def free(own: Accounts, reservation: Reservation, bytes_billed: int = 0) -> None:
    reservation.settle(bytes_billed)
    own.tell_of_slot(Principal(reservation.principal))


async def test_calls_take_slots_in_the_order_in_which_they_came(tmp_path: Path, books: Books) -> None:
    own, served = accounts(tmp_path, books), []
    held = await own.reserve(Call("scan", ANA), 0)

    async def ask(number: int) -> None:
        call = Call("scan", ANA)
        reservation = await own.reserve(call, 10)
        served.append(number)
        assert call.waited_s == call.waits["slot"] > 0
        free(own, reservation, 10)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(ask, number)
            await in_line(own, number + 1)
        left = await own.left(ANA)
        assert (left.daily_bytes_reserved, left.running_scans) == (0, 1)
        free(own, await own.reserve(Call("scan", BEN), 0))  # another's line is another one
        free(own, held)
    assert served == [0, 1, 2, 3]
    assert own._lines == {}


async def test_a_slot_that_another_process_gives_back_is_found(tmp_path: Path, open_books: OpenBooks) -> None:
    here, there = open_books(), open_books()
    if here.store == "process":
        return
    held = await accounts(tmp_path, there).reserve(Call("scan", ANA), 0)
    own = accounts(tmp_path, here)
    async with anyio.create_task_group() as group:
        group.start_soon(own.reserve, Call("scan", ANA), 0)
        await in_line(own, 1)
        held.settle(0)
    assert (await own.left(ANA)).running_scans == 1


async def test_who_has_waited_long_enough_is_told_so(tmp_path: Path, books: Books) -> None:
    own = accounts(tmp_path, books, queue_s=0.05)
    await own.reserve(Call("scan", ANA), 0)
    with pytest.raises(QuotaError) as refused:
        await own.reserve(Call("scan", ANA), 0)
    assert refused.value.message == (
        "1 scans of yours are running; 1 may run at once. It waited 0.05 seconds for one to end."
    )
    assert refused.value.details | {"waited_seconds": 0} == {
        "kind": "concurrent_scans", "current": 1, "limit": 1, "retry_after_seconds": 0, "waited_seconds": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("queue_s", "slots"), [(0, 1), (60, 0)], ids=["no waiting", "no slots at all"])
async def test_where_waiting_is_off_or_useless_it_is_refused_at_once(
    tmp_path: Path, books: Books, queue_s: float, slots: int
) -> None:
    own = accounts(tmp_path, books, queue_s, slots)
    if slots:
        await own.reserve(Call("scan", ANA), 0)
    call = Call("scan", ANA)
    with pytest.raises(QuotaError) as refused:
        await own.reserve(call, 0)
    assert (call.waits, "waited_seconds" in refused.value.details) == ({}, False)


async def test_bytes_are_not_waited_for(tmp_path: Path, books: Books) -> None:
    own = accounts(tmp_path, books)
    held = await own.reserve(Call("scan", ANA), 900)
    refused: list[str] = []

    async def ask() -> None:
        with pytest.raises(QuotaError) as error:
            await own.reserve(Call("scan", ANA), 900)
        refused.append(error.value.details["kind"])

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await in_line(own, 1)
        free(own, held, 900)
    assert refused == ["daily_bytes"]


@pytest.mark.parametrize("how", ["stopped", "deadline", "task"])
async def test_waiting_ends_with_the_call_and_leaves_the_line(tmp_path: Path, books: Books, how: str) -> None:
    own = accounts(tmp_path, books)
    held = await own.reserve(Call("scan", ANA), 0)
    call, kinds = Call("scan", ANA, 0.05 if how == "deadline" else None), []

    async def ask() -> None:
        try:
            await own.reserve(call, 0)
        except AgnesError as error:
            kinds.append(error.kind)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        if how != "deadline":
            await in_line(own, 1)
        if how == "stopped":
            await anyio.to_thread.run_sync(call.stop, cancelled())
        elif how == "task":
            group.cancel_scope.cancel()
    assert kinds == {"stopped": ["cancelled"], "deadline": ["timeout"], "task": []}[how]
    assert own._lines == {}
    free(own, held)
    assert (await own.reserve(Call("scan", ANA), 0)).settled is False


async def test_that_it_waits_is_shown_as_progress(tmp_path: Path, books: Books) -> None:
    own = accounts(tmp_path, books)
    held, said = await own.reserve(Call("scan", ANA), 0), list[Progress]()
    async with anyio.create_task_group() as group:
        group.start_soon(own.reserve, Call("scan", ANA, on_progress=said.append), 0)
        await in_line(own, 1)
        free(own, held)
    assert [progress.message for progress in said] == ["waiting for a slot, number 1 in line"]


async def test_a_call_that_nobody_agreed_to_does_not_stand_in_line(tmp_path: Path, books: Books) -> None:
    own = accounts(tmp_path, books)
    await own.reserve(Call("scan", ANA), 0)

    def agreed(unasked_bytes: int) -> bool:
        raise AgnesError("approval_outdated", "Nobody has approved it.", "Ask.")

    call = Call("scan", ANA)
    with pytest.raises(AgnesError) as refused:
        await own.reserve(call, 10, agreed)
    assert (refused.value.kind, call.waits) == ("approval_outdated", {})


async def test_its_number_in_line_is_told_whenever_the_line_moves(tmp_path: Path, books: Books) -> None:
    own, told = accounts(tmp_path, books), list[str]()
    held = await own.reserve(Call("scan", ANA), 0)
    first, second = Call("scan", ANA), Call("scan", ANA, on_progress=lambda progress: told.append(progress.message))

    async def ask(call: Call) -> None:
        with contextlib.suppress(AgnesError):
            free(own, await own.reserve(call, 0))

    async with anyio.create_task_group() as group:
        group.start_soon(ask, first)
        await in_line(own, 1)
        group.start_soon(ask, second)
        await in_line(own, 2)
        first.stop(cancelled())
        await in_line(own, 1)
        free(own, held)
    assert told == [f"waiting for a slot, number {number} in line" for number in (2, 1)]
