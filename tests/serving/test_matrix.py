"""The same behaviour on every transport, in both eras of the protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import mcp.types as t
import pytest
from mcp import Client
from serving.served import MATRIX, Era, Served, Transport, body_of, connect, serve, token_of, user, write_instance
from support.instances import bigquery_at, remote_table
from support.waiting import until

from agnes_mcp.stand_in import StandIn

ANA = token_of("ana")
#: Above what a small scan of `remote` bills, below what a whole one does.
CONFIRM_ABOVE_BYTES = 100_000


@pytest.fixture(scope="module")
def bq() -> Iterator[StandIn]:
    rows = [{"id": i, "pad": "x" * 300} for i in range(1000)]
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table("my_dataset", "remote", schema="id INT64, pad STRING", rows=rows)
        yield stand_in


@pytest.fixture(scope="module")
def config(bq: StandIn, tmp_path_factory: pytest.TempPathFactory, tables: list[dict[str, Any]]) -> Path:
    bigquery = bigquery_at(bq)
    remote = remote_table("remote")
    return write_instance(
        tmp_path_factory.mktemp("matrix") / "instance.yaml",
        tables=[*tables, remote],
        data_source={"bigquery": bigquery},
        api={"scan": {"confirm_above_bytes": CONFIRM_ABOVE_BYTES}},
        access={"users": [user("ana", "*")]},
    )


@pytest.fixture(scope="module")
def served(config: Path) -> Iterator[Served]:
    with serve(config) as running:
        yield running


@pytest.fixture
def server(transport: Transport, served: Served, config: Path) -> Served | Path:
    return config if transport == "stdio" else served


async def _everything(client: Client) -> dict[str, Any]:
    """What a client can see and do here, without what differs between two calls."""
    tools = (await client.list_tools()).tools
    resources = (await client.list_resources()).resources
    templates = (await client.list_resource_templates()).resource_templates
    prompts = (await client.list_prompts()).prompts
    schema = body_of(await client.call_tool("schema", {"table_id": "orders"}))
    scan = body_of(await client.call_tool("scan", {"table_id": "orders", "aggregates": [{"function": "count"}]}))
    query = body_of(await client.call_tool("query", {"sql": "SELECT count(*) AS n FROM people"}))
    refused = body_of(await client.call_tool("scan", {"table_id": "orders", "where": "1 = (SELECT 1)"}))
    guide = (await client.read_resource("agnes://guide")).contents[0]
    completed = await client.complete(
        t.PromptReference(type="ref/prompt", name="explore_table"), {"name": "table_id", "value": "p"}
    )
    return {
        "instructions": client.instructions,
        "tools": [tool.model_dump(mode="json") for tool in tools],
        "resources": [str(resource.uri) for resource in resources],
        "templates": [template.uri_template for template in templates],
        "prompts": [prompt.model_dump(mode="json") for prompt in prompts],
        "schema": schema,
        "rows": scan["rows"],
        "query": query["rows"],
        "refused": (refused["error"], refused["message"], refused["hint"]),
        "guide": getattr(guide, "text", None),
        "completed": completed.completion.values,
    }


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What the first of the matrix saw."""
    return {}


@pytest.mark.parametrize(("transport", "era"), MATRIX)
async def test_every_transport_shows_and_does_the_same(
    transport: Transport, era: Era, server: Served | Path, seen: dict[str, Any]
) -> None:
    async with connect(server, transport, era, ANA) as client:
        everything = json.loads(json.dumps(await _everything(client)))
    assert {"catalog", "estimate", "scan", "fetch", "query", "usage"} <= {tool["name"] for tool in everything["tools"]}
    assert everything["rows"] == [[1000]]
    assert everything["query"] == [[50]]
    assert everything["completed"] == ["parts", "people", "prices"]
    assert everything == seen.setdefault("everything", everything)


@pytest.mark.parametrize(("transport", "era"), MATRIX)
async def test_a_long_call_reports_progress_and_can_be_cancelled(
    transport: Transport, era: Era, server: Served | Path, bq: StandIn
) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    name = f"big_{transport}_{era}"
    async with connect(server, transport, era, ANA) as client:
        fetched = await client.call_tool("fetch", {"table_id": "big", "name": name}, progress_callback=note)
        assert body_of(fetched)["snapshot"]["rows"] == 2_000_000
        assert told
        assert told == sorted(told), "progress never goes back"
        await client.call_tool("snapshot_drop", {"name": name})
        before = body_of(await client.call_tool("usage", {}))["quota"]
        bq.job_latency_s = 3600
        cancelled = len(bq.requests.named("jobs.cancel"))
        try:
            await _cancel_a_scan(client, bq)
        finally:
            bq.job_latency_s = 0
        assert len(bq.requests.named("jobs.cancel")) == cancelled + 1
        after = body_of(await client.call_tool("usage", {}))["quota"]
        assert after["daily_bytes_used"] == before["daily_bytes_used"]
        assert after["daily_bytes_reserved"] == 0


async def _cancel_a_scan(client: Client, bq: StandIn) -> None:
    """Start a scan that takes an hour, wait until its job runs, cancel it, and see the slot free again."""
    small = {"table_id": "remote", "select": ["id"], "aggregates": None, "limit": 10}
    sent = len(bq.query_jobs())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "scan", small)
            await _await_running(client, 1)
            await until(lambda: len(bq.query_jobs()) > sent)  # it holds its slot before it sends one
            group.cancel_scope.cancel()
    with anyio.fail_after(60):
        await _await_running(client, 0)


async def _await_running(client: Client, count: int) -> None:
    while body_of(await client.call_tool("usage", {}))["quota"]["running_scans"] != count:
        await anyio.sleep(0.02)


@pytest.mark.parametrize(("transport", "era"), MATRIX)
async def test_a_person_is_asked_before_much_is_billed(transport: Transport, era: Era, server: Served | Path) -> None:
    asked: list[str] = []
    answers = iter(
        [
            t.ElicitResult(action="decline"),
            t.ElicitResult(action="cancel"),
            t.ElicitResult(action="accept", content={"approve": False}),
            t.ElicitResult(action="accept", content={"approve": True}),
        ]
    )

    async def answer(context: Any, parameters: Any) -> t.ElicitResult:
        asked.append(parameters.message)
        return next(answers)

    costly = {"table_id": "remote", "select": ["pad"], "limit": 2}
    cheap = {"table_id": "remote", "select": ["id"], "limit": 2}
    async with connect(server, transport, era, ANA, elicitation_callback=answer) as client:
        assert not (await client.call_tool("scan", cheap)).is_error
        assert asked == []
        kinds = [body_of(await client.call_tool("scan", costly))["error"] for _ in range(3)]
        assert kinds == ["approval_declined", "approval_cancelled", "approval_declined"]
        assert body_of(await client.call_tool("scan", costly))["row_count"] == 2
    assert len(asked) == 4
    assert len(set(asked)) == 1
    assert "remote" in asked[0]
    assert "302,000 bytes" in asked[0]
    assert "USD" in asked[0]


@pytest.mark.parametrize(("transport", "era"), [m for m in MATRIX if m[0] != "stdio"])
async def test_grants_are_the_same_on_every_transport(
    transport: Transport, era: Era, instance: Path, tables: list[dict[str, Any]], granted: Served
) -> None:
    async with connect(granted, transport, era, token_of("bob")) as client:
        listed = [table["id"] for table in body_of(await client.call_tool("catalog", {}))["tables"]]
        assert listed == ["people"]
        uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
        assert "agnes://tables/people/schema" in uris
        assert "agnes://tables/orders/schema" not in uris
        there = body_of(await client.call_tool("schema", {"table_id": "orders"}))
        nowhere = body_of(await client.call_tool("schema", {"table_id": "nowhere"}))
        assert there["message"].replace("orders", "nowhere") == nowhere["message"]
        assert there["error"] == nowhere["error"] == "table_not_found"
    async with connect(granted, transport, era, token_of("eve")) as client:
        assert body_of(await client.call_tool("catalog", {}))["tables"] == []


@pytest.fixture(scope="module")
def granted(instance: Path) -> Iterator[Served]:
    with serve(instance) as running:
        yield running
