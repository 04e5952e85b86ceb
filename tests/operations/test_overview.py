"""What runs is shown to its owner, who may end it; nobody else may."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio import from_thread, lowlevel
from anyio.abc import TaskStatus
from support.instances import ME
from support.waiting import PATIENCE_S

from agnes_mcp.calls.audit import Audit
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal

ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE hash(a.range + b.range) = 7"


async def test_a_running_call_is_cancelled_by_its_owner_alone(settings: Settings) -> None:
    ended: list[str] = []

    async def run(gateway: Gateway) -> None:
        with pytest.raises(AgnesError) as stopped:
            await gateway.queries.query(ME, ENDLESS)
        ended.append(stopped.value.kind)

    async with Gateway(settings) as gateway, anyio.create_task_group() as group:
        group.start_soon(run, gateway)
        with anyio.fail_after(PATIENCE_S):
            while not (running := (await gateway.overviews.seen_by(ME)).running):
                await anyio.sleep(0.01)
        (call,) = running
        assert (call.tool, call.principal) == ("query", ME)
        assert not gateway.overviews.cancel(Principal("other"), call.request_id)
        assert not gateway.overviews.cancel(ME, "0" * 16)
        assert (await gateway.overviews.seen_by(Principal("other"))).running == []
        assert gateway.overviews.cancel(ME, call.request_id)
    assert ended == ["cancelled"]


async def test_the_newest_calls_come_first(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        for sql in ("SELECT 1", "SELECT * FROM nothing_there"):
            try:
                await gateway.queries.query(ME, sql)
            except AgnesError as error:
                assert error.kind == "table_not_found"  # noqa: PT017 - the second one's
        overview = await gateway.overviews.seen_by(ME)
        stranger = await gateway.overviews.seen_by(Principal("other"))
    assert [line["error_kind"] for line in overview.recent] == ["table_not_found", None]
    assert overview.whole
    assert (stranger.whole, stranger.recent) == (False, [])
    assert list(overview.budgets) == ["me"]


@pytest.mark.parametrize("late", [True, False], ids=["after its lines were read", "before"])
async def test_a_call_that_ends_meanwhile_is_shown_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """As one that runs or as one that has ended: neither in both lists, nor in none."""
    recent, loop = Audit.recent, lowlevel.current_token()
    leave, left = anyio.Event(), anyio.Event()

    async def end() -> None:
        leave.set()
        await left.wait()

    def ending(audit: Audit, most: int, principal: str | None = None) -> list[dict[str, Any]]:
        found = recent(audit, most, principal)
        from_thread.run(end, token=loop)
        return found if late else recent(audit, most, principal)

    async def run(gateway: Gateway, *, task_status: TaskStatus[None]) -> None:
        async with gateway.calls.open("query", ME):
            task_status.started()
            await leave.wait()
        left.set()

    monkeypatch.setattr(Audit, "recent", ending)
    async with Gateway(settings) as gateway, anyio.create_task_group() as group:
        await group.start(run, gateway)
        overview = await gateway.overviews.seen_by(ME)
    assert (len(overview.running), len(overview.recent)) == ((1, 0) if late else (0, 1))
