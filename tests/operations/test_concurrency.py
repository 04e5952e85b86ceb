"""Many calls at once: each gets its own answer, none waits for a slow one, and a stopped one leaves nothing behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
from support.instances import ERAS, ME, body_of, connected, settings_of, table, tables_of
from support.waiting import PATIENCE_S, until

from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, ScanRequest
from agnes_mcp.sql import statement

pytestmark = pytest.mark.usefixtures("guarded_loop")

#: Rows without end, as a view in a DuckDB file; to aggregate them takes no memory and never ends.
ENDLESS = "CREATE VIEW endless AS SELECT hash(i) AS h, i AS n FROM range(1000000000000) AS r(i)"
SLOW_REQUEST = ScanRequest(table_id="endless", aggregates=[Aggregate(function="max", column="h")])


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("endless") / "endless.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute(ENDLESS)
    return database


@pytest.fixture
def settings(tmp_path: Path, files: dict[str, Path], endless: Path) -> Settings:
    return settings_of(tmp_path / "state", [*tables_of(files), table("endless", endless)])


def lines_of(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (settings.data_dir / "audit" / "audit.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ERAS)
async def test_forty_eight_calls_at_once_each_get_their_own_answer(settings: Settings, mode: Any) -> None:
    """23 to 26 of 48 answers were another caller's where one connection object was shared."""
    answers: dict[int, Any] = {}
    settings.api.scan.max_concurrent_per_user = 48
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:

        async def ask(number: int) -> None:
            low = number * 20
            arguments = {
                "table_id": "orders", "select": ["order_id"], "order_by": ["order_id"],
                "where": f"order_id >= {low} AND order_id < {low + 20}",
            }  # fmt: skip
            answers[number] = body_of(await client.call_tool("scan", arguments))["rows"]

        async with anyio.create_task_group() as group:
            for number in range(48):
                group.start_soon(ask, number)
    assert answers == {n: [[n * 20 + i] for i in range(20)] for n in range(48)}


@pytest.mark.parametrize("mode", ERAS)
async def test_a_slow_call_never_delays_a_fast_one(settings: Settings, mode: Any) -> None:
    """Order of completion, not a clock."""
    order: list[str] = []
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:

        async def ask(tool: str, arguments: dict[str, Any]) -> None:
            assert not (await client.call_tool(tool, arguments)).is_error
            order.append(tool)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "describe", {"table_id": "endless", "profile": True})
            await until_running(gateway, 1)
            with anyio.fail_after(60):
                for tool in ("catalog", "schema", "scan", "usage"):
                    await ask(tool, {"table_id": "orders"} if tool in ("schema", "scan") else {})
            assert await running(gateway) == 1
            group.cancel_scope.cancel()
    assert order == ["catalog", "schema", "scan", "usage"]


async def running(gateway: Gateway) -> int:
    return (await gateway.accounts.left(ME)).running_scans


async def until_running(gateway: Gateway, count: int) -> None:
    with anyio.fail_after(60):
        while await running(gateway) != count:
            await anyio.sleep(0.005)


Slow = Callable[[Gateway], Coroutine[Any, Any, Any]]
SLOW_CALLS: dict[str, Slow] = {
    "scan": lambda gateway: gateway.scans.scan(ME, SLOW_REQUEST),
    "fetch": lambda gateway: gateway.fetches.fetch(ME, SLOW_REQUEST, name="kept"),
    "describe": lambda gateway: gateway.descriptions.describe(ME, "endless", profile=True),
}


@pytest.mark.parametrize("slow", SLOW_CALLS.values(), ids=SLOW_CALLS.keys())
async def test_cancelling_frees_the_slot_and_stops_the_work(settings: Settings, slow: Slow) -> None:
    """Repeated, so that a slot which leaked would be missed."""
    settings.api.scan.max_concurrent_per_user = 1
    async with Gateway(settings) as gateway:
        await gateway.catalog.columns(ME, "endless")
        for _ in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(slow, gateway)
                await until_running(gateway, 1)
                group.cancel_scope.cancel()
            assert await running(gateway) == 0
            assert gateway.calls.busy == 0
        assert (await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))).row_count == 1
        assert (await gateway.snapshots.entries(ME)).total == 0
    assert [line["status"] for line in lines_of(settings)].count("cancelled") == 3


@pytest.mark.parametrize("slow", SLOW_CALLS.values(), ids=SLOW_CALLS.keys())
async def test_a_deadline_ends_the_call_and_frees_the_slot(settings: Settings, slow: Slow) -> None:
    settings.api.scan.request_timeout_seconds = 0.15
    async with Gateway(settings) as gateway:
        with pytest.raises(AgnesError) as caught:
            await slow(gateway)
        assert caught.value.kind == "timeout"
        # where it was told: while it ran, or while the process that it needs was still being started
        assert any(said in caught.value.message for said in ("0.15 seconds", "until the deadline"))
        assert (await running(gateway), gateway.calls.busy) == (0, 0)
    assert (lines_of(settings)[-1]["status"], lines_of(settings)[-1]["error_kind"]) == ("error", "timeout")


async def test_success_and_failure_free_the_slot(settings: Settings) -> None:
    settings.api.scan.max_concurrent_per_user = 1
    async with Gateway(settings) as gateway:
        for _ in range(3):
            await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))
            with pytest.raises(AgnesError):
                await gateway.scans.scan(ME, ScanRequest(table_id="orders", where="CAST(country AS BIGINT) > 0"))
        assert await running(gateway) == 0


async def test_no_slots_is_none(settings: Settings) -> None:
    settings.api.scan.max_concurrent_per_user = 0
    async with Gateway(settings) as gateway:
        with pytest.raises(AgnesError) as caught:
            await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))
        assert caught.value.kind == "quota_exceeded"
        assert caught.value.details["kind"] == "concurrent_scans"
        assert (await gateway.catalog.columns(ME, "orders")).rows == 1000  # what is free to look at stays so


@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_gives_up_stops_the_work(settings: Settings, mode: Any) -> None:
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:
        arguments = SLOW_REQUEST.model_dump(exclude_defaults=True)
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "scan", arguments)
            await until_running(gateway, 1)
            group.cancel_scope.cancel()
        await until_running(gateway, 0)
        await until(lambda: gateway.calls.busy == 0)
        assert not (await client.call_tool("catalog", {})).is_error
    assert [line["status"] for line in lines_of(settings) if line["tool"] == "scan"] == ["cancelled"]


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_of_a_long_call_only_goes_forward(settings: Settings, mode: Any) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with Gateway(settings) as gateway, connected(gateway, mode) as client:
        await client.call_tool("describe", {"table_id": "orders", "profile": True}, progress_callback=note)
    assert told
    assert told == sorted(set(told))


async def test_more_calls_than_workers_wait_their_turn_and_may_leave(settings: Settings) -> None:
    settings.engine.workers = 1
    async with Gateway(settings) as gateway:
        held = threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(gateway.calls.run, gateway.calls.background("holds the thread"), held.wait)
            await until(lambda: gateway.calls.busy == 1)
            with anyio.move_on_after(0.05) as impatient:
                await gateway.catalog.columns(ME, "orders")
            assert impatient.cancelled_caught
            held.set()
        assert (await gateway.catalog.columns(ME, "orders")).rows == 1000


async def test_stopping_every_call_ends_those_that_wait_as_well(settings: Settings) -> None:
    settings.engine.workers = 1
    kinds: list[str] = []

    async def ask(gateway: Gateway) -> None:
        try:
            await gateway.scans.scan(ME, SLOW_REQUEST)
        except AgnesError as error:
            kinds.append(error.kind)

    async with Gateway(settings) as gateway:
        await gateway.catalog.columns(ME, "endless")
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask, gateway)
            await until_running(gateway, 3)
            await gateway.calls.stop_all(10)
            assert len(lines_of(settings)) == 4
    assert kinds == ["cancelled"] * 3


async def test_conditions_that_cannot_be_interrupted_keep_nobody_from_a_thread(gateway: Gateway) -> None:
    """As many of them as there are threads, and more: the next caller is answered while they run."""
    gateway.settings.api.scan.request_timeout_seconds, gateway.settings.api.scan.max_concurrent_per_user = 300, 20
    endless = f"concat('{'a' * 3000}', note) ILIKE '{'%a' * 12}Z'"
    kinds: list[str] = []

    async def scan() -> None:
        with pytest.raises(AgnesError) as caught:
            await gateway.scans.scan(ME, ScanRequest(table_id="events", where=endless))
        kinds.append(caught.value.kind)

    async with anyio.create_task_group() as group:
        for _ in range(gateway.settings.engine.workers + 2):
            group.start_soon(scan)
        while not gateway.processes.state()["processes"]:
            await anyio.sleep(0.01)
        assert (await gateway.catalog.columns(ME, "people")).columns
        await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))
        assert kinds == []
        await gateway.calls.stop_all(PATIENCE_S)
    assert set(kinds) == {"cancelled"}


async def test_statements_are_built_one_at_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that both keep the interpreter busy are no sooner done, and keep the event loop from it."""
    built, together = statement.build_statement, threading.Barrier(2)
    met: list[bool] = []

    def build(*arguments: Any, **options: Any) -> Any:
        try:
            together.wait(1)
        except threading.BrokenBarrierError:
            met.append(False)
        else:
            met.append(True)
        return built(*arguments, **options)

    monkeypatch.setattr(statement, "build_statement", build)
    async with Gateway(settings) as gateway, anyio.create_task_group() as group:
        for number in range(4):
            request = ScanRequest(table_id="orders", where=f"order_id = {number}")
            group.start_soon(gateway.scans.estimate, ME, request)
    assert met == [False] * 4
