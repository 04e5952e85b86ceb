"""What a person is asked about small bills that add up, through a real client; and calls that wait for their slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import mcp.types as t
import pytest
from mcp import Client
from support.instances import ERAS, body_of

from agnes_mcp.access.grants import os_user
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server
from agnes_mcp.stand_in import StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
LOW = {"confirm_above_bytes": 25 * MIB}  # two statements of BigQuery's least bill, and not three


def rows(number: int) -> dict[str, Any]:
    """Another statement for each number: what BigQuery's cache answers is billed nothing."""
    return {"table_id": "orders", "select": ["id"], "where": f"id >= -{number + 1}"}


class Person:
    """Answers one question after another."""

    def __init__(self, *actions: str) -> None:
        self._actions = list(actions)
        self.asked: list[str] = []

    async def answer(self, context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params.message)
        action: Any = self._actions.pop(0)
        return t.ElicitResult(action=action, content={"approve": True} if action == "accept" else None)


async def kind_of(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    return str(body_of(await client.call_tool(tool, arguments)).get("error", "rows"))


@pytest.mark.parametrize("era", ERAS)
async def test_a_no_refuses_this_call_alone_and_a_yes_begins_anew(
    bq: StandIn, open_gateway: OpenGateway, era: Any
) -> None:
    person = Person("decline", "decline", "accept")
    async with (
        open_gateway(scan=LOW) as gateway,
        Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client,
    ):
        kinds = [await kind_of(client, "scan", rows(number)) for number in range(7)]
    assert kinds == ["rows", "rows", "approval_declined", "approval_declined", "rows", "rows", "rows"]
    assert len(person.asked) == 3
    for question in person.asked:  # a no has neither added to the sum nor taken from it
        assert "20,971,520 bytes were spent lately without asking: with this 31,457,280 bytes in sum." in question
    assert len(bq.query_jobs()) == 5


async def test_servers_and_shells_on_one_data_directory_share_the_window(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    person = Person("accept")
    async with open_gateway(scan=LOW) as one, open_gateway(scan=LOW) as other:
        for gateway, number in ((one, 0), (other, 1)):
            async with Client(build_server(gateway)) as client:  # which nobody can be asked through
                assert await kind_of(client, "scan", rows(number)) == "rows"
        async with Client(build_server(one), elicitation_callback=person.answer) as client:
            assert body_of(await client.call_tool("estimate", rows(2)))["verdict"] == "needs_approval"
            assert await kind_of(client, "scan", rows(2)) == "rows"
            assert body_of(await client.call_tool("estimate", rows(3)))["verdict"] == "ok"
        async with Client(build_server(other), elicitation_callback=person.answer) as client:
            assert await kind_of(client, "scan", rows(3)) == "rows"
    assert len(person.asked) == 1


async def test_who_cannot_be_asked_has_the_hard_caps(bq: StandIn, open_gateway: OpenGateway) -> None:
    scan = {**LOW, "max_daily_bytes_per_user": 45 * MIB}
    async with open_gateway(scan=scan) as gateway, Client(build_server(gateway)) as client:
        kinds = [await kind_of(client, "scan", rows(number)) for number in range(5)]
    assert kinds == ["rows"] * 4 + ["quota_exceeded"]


async def test_sample_and_profile_of_a_view_are_asked_about_as_one_sum(bq: StandIn, open_gateway: OpenGateway) -> None:
    person = Person("decline", "accept")
    async with (
        open_gateway(scan={"confirm_above_bytes": 15 * MIB}) as gateway,
        Client(build_server(gateway), elicitation_callback=person.answer) as client,
    ):
        view = {"table_id": "sessions_v", "profile": True}
        kinds = [await kind_of(client, "describe", view) for _ in range(2)]
        assert await kind_of(client, "scan", rows(0)) == "rows"
    assert kinds == ["approval_declined", "rows"]
    assert [question.count("Run it? Statement ") for question in person.asked] == [1, 1]
    assert all("; SELECT" in question for question in person.asked)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["scan", "fetch"])
async def test_a_statement_over_several_tables_is_asked_about(
    bq: StandIn, open_gateway: OpenGateway, era: Any, tool: str
) -> None:
    sql = "SELECT s.padding, o.id FROM sessions AS s JOIN orders AS o ON o.id = s.amount"
    arguments = {"sql": sql} | ({"name": "joined"} if tool == "fetch" else {})
    person = Person("decline", "cancel", "accept")
    async with (
        open_gateway(scan={"confirm_above_bytes": MIB}) as gateway,
        Client(build_server(gateway), mode=era, elicitation_callback=person.answer) as client,
    ):
        estimate = body_of(await client.call_tool("estimate", {"sql": sql}))
        kinds = [await kind_of(client, tool, arguments) for _ in range(3)]
        assert len(bq.query_jobs()) == 1
    assert kinds == ["approval_declined", "approval_cancelled", "rows"]
    for question in person.asked:
        assert question.startswith(f"Reading orders, sessions will scan {estimate['estimated_scan_bytes']:,} bytes")


@pytest.mark.parametrize("queue_s", [0, 60])
async def test_parallel_calls_wait_for_slots_where_they_may(
    bq: StandIn, open_gateway: OpenGateway, queue_s: float
) -> None:
    """Agents call in parallel."""
    bq.job_latency_s = 0.1
    scan = {"max_concurrent_per_user": 2, "queue_seconds": queue_s}
    told: list[dict[str, Any]] = []
    async with open_gateway(scan=scan) as gateway, Client(build_server(gateway)) as client:
        async with anyio.create_task_group() as group:

            async def ask(number: int) -> None:
                told.append(body_of(await client.call_tool("scan", rows(number))))

            for number in range(6):
                group.start_soon(ask, number)
        quota = (await gateway.usage.today(os_user())).quota
    refused = [body for body in told if "error" in body]
    assert (quota.running_scans, quota.daily_bytes_reserved) == (0, 0)
    assert len(bq.query_jobs()) == len(told) - len(refused)
    if queue_s:
        assert refused == []
    else:
        assert {(body["error"], body["message"]) for body in refused} == {
            ("quota_exceeded", "2 scans of yours are running; 2 may run at once.")
        }


@pytest.mark.parametrize("era", ERAS)
async def test_a_slot_is_waited_for_after_the_word(bq: StandIn, open_gateway: OpenGateway, era: Any) -> None:
    """While the person thinks nothing is held, and the call that runs goes on; then the call waits, and says so."""
    bq.job_latency_s = 0.3
    scan = {"max_concurrent_per_user": 1, "confirm_above_bytes": MIB, "queue_seconds": 60}
    me, held = os_user(), list[int]()
    said: list[str] = []
    async with open_gateway(scan=scan) as gateway:

        async def answer(context: Any, params: Any) -> t.ElicitResult:
            held.append((await gateway.accounts.left(me)).daily_bytes_reserved)
            return t.ElicitResult(action="accept", content={"approve": True})

        async def told(progress: float, total: float | None, message: str | None) -> None:
            said.append(message or "")

        async with Client(build_server(gateway), mode=era, elicitation_callback=answer) as client:
            slot = gateway.books.reserve(me.name, 0, gateway.accounts.limits(me))
            costly = {"table_id": "sessions", "select": ["padding"], "where": "amount > 0", "limit": 1}
            async with anyio.create_task_group() as group:

                async def scan_it() -> None:
                    result = await client.call_tool("scan", costly, progress_callback=told)
                    assert not result.is_error

                group.start_soon(scan_it)
                with anyio.fail_after(60):
                    while not any("waiting for a slot" in message for message in said):
                        await anyio.sleep(0.01)
                slot.release()
    assert held == [0]
