"""What can be read, prompted and completed, and who is told of changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp.types as t
import pytest
from mcp import Client, MCPError
from serving.served import ERAS, Era, body_of, user
from support.instances import settings_of

from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal
from agnes_mcp.serving import announcements
from agnes_mcp.serving.prompts import INSTRUCTIONS
from agnes_mcp.serving.server import build_server

pytestmark = [pytest.mark.parametrize("era", ERAS)]
SCHEMA = t.ResourceTemplateReference(type="ref/resource", uri="agnes://tables/{table_id}/schema")
SNAPSHOT = t.ResourceTemplateReference(type="ref/resource", uri="agnes://snapshots/{name}")
REDUCE = t.PromptReference(type="ref/prompt", name="reduce_cost")


class Instance:
    """One gateway, and a client for each user; `acting` is who the next request comes from."""

    def __init__(self, gateway: Gateway) -> None:
        self.acting = "ana"
        self.server = build_server(gateway, lambda: Principal(self.acting))


@pytest.fixture
async def instance(tmp_path: Path, tables: list[dict[str, Any]]) -> AsyncIterator[Instance]:
    users = [user("ana", ["orders", "events", "people"]), user("bob", ["people"])]
    settings = settings_of(tmp_path / "data", tables, access={"users": users})
    async with Gateway(settings) as gateway:
        yield Instance(gateway)


@pytest.fixture
def client(instance: Instance, era: Era) -> Callable[..., Any]:
    @asynccontextmanager
    async def connect(**options: Any) -> AsyncIterator[Client]:
        async with Client(instance.server, mode=era, **options) as connected:
            yield connected

    return connect


async def read(client: Client, uri: str) -> str:
    content = (await client.read_resource(uri)).contents[0]
    assert isinstance(content, t.TextResourceContents)
    return content.text


async def uris(client: Client) -> list[str]:
    return [str(resource.uri) for resource in (await client.list_resources()).resources]


async def test_resources_say_what_the_tools_say(client: Any, era: Era) -> None:
    async with client() as c:
        catalog = json.loads(await read(c, "agnes://catalog"))
        assert [entry["id"] for entry in catalog["tables"]] == ["events", "orders", "people"]
        schema = json.loads(await read(c, "agnes://tables/orders/schema"))
        assert schema == body_of(await c.call_tool("schema", {"table_id": "orders"}))
        sample = json.loads(await read(c, "agnes://tables/orders/sample"))
        assert sample["row_count"] == 5
        assert json.loads(await read(c, "agnes://usage"))["principal"] == "ana"
        assert "estimate" in await read(c, "agnes://guide")


async def test_each_user_lists_and_reads_its_own(client: Any, instance: Instance, era: Era) -> None:
    async with client() as c:
        await c.call_tool("fetch", {"table_id": "orders", "name": "anas_orders"})
        assert "agnes://snapshots/anas_orders" in await uris(c)
        held = json.loads(await read(c, "agnes://snapshots/anas_orders"))
        assert (held["name"], held["rows"]) == ("anas_orders", 1000)
        instance.acting = "bob"
        seen = await uris(c)
        assert "agnes://snapshots/anas_orders" not in seen
        assert [uri for uri in seen if uri.startswith("agnes://tables/")] == ["agnes://tables/people/schema"]
        for uri in ("agnes://snapshots/anas_orders", "agnes://tables/orders/schema", "agnes://tables/orders/sample"):
            with pytest.raises(MCPError) as refused:
                await c.read_resource(uri)
            assert refused.value.error.code == t.INVALID_PARAMS
            assert refused.value.error.data["uri"] == uri


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("agnes://tables/nowhere/schema", "table_not_found"),
        ("agnes://tables/ORDERS/schema", "table_not_found"),
        ("agnes://snapshots/nothing", "snapshot_not_found"),
        ("agnes://tables/orders", "resource_not_found"),
        ("agnes://tables/../../etc/passwd/schema", "resource_not_found"),
        ("agnes://tables/..%2F..%2Fetc%2Fpasswd/schema", "resource_not_found"),
        ("agnes://tables/%2Fetc%2Fpasswd/sample", "resource_not_found"),
        ("agnes://snapshots/..%2fbob%2fhis", "resource_not_found"),
        ("agnes://snapshots/a%00b", "resource_not_found"),
        ("file:///etc/passwd", "resource_not_found"),
        ("skill://agnes-data-querying/../../pyproject.toml", "resource_not_found"),
        ("http://169.254.169.254/", "resource_not_found"),
        ("", "resource_not_found"),
        ("agnes://tables/" + "x" * 500_000, "resource_not_found"),
    ],
)
async def test_what_is_not_there_says_what_to_do(client: Any, era: Era, uri: str, kind: str) -> None:
    async with client() as c:
        with pytest.raises(MCPError) as refused:
            await c.read_resource(uri)
    error = refused.value.error
    assert error.code == t.INVALID_PARAMS
    assert error.data["error"] == kind
    assert error.data["hint"] in error.message
    assert "/root" not in str(error.data)
    assert len(str(error.data)) < 5_000


async def test_a_long_list_comes_in_pages(tmp_path: Path, tables: list[dict[str, Any]], era: Era) -> None:
    path = next(entry["path"] for entry in tables if entry["id"] == "orders")
    many = [{"id": f"t{n:03}", "source_type": "local", "path": path} for n in range(250)]
    async with Gateway(settings_of(tmp_path / "data", many)) as gateway, Client(build_server(gateway), mode=era) as c:
        found: list[str] = []
        cursor: str | None = None
        pages = 0
        while pages == 0 or cursor:
            page = await c.list_resources(cursor=cursor)
            assert len(page.resources) <= 100
            found += [str(resource.uri) for resource in page.resources]
            cursor, pages = page.next_cursor, pages + 1
        assert pages == 3
        assert len(found) == len(set(found))
        assert sum(uri.startswith("agnes://tables/") for uri in found) == 250
        with pytest.raises(MCPError) as refused:
            await c.list_resources(cursor="bm90IGEgY3Vyc29y")
        assert refused.value.error.code == t.INVALID_PARAMS
        assert refused.value.error.data["error"] == "invalid_cursor"


@pytest.mark.parametrize(
    ("ref", "argument", "known", "expected"),
    [
        (SCHEMA, ("table_id", ""), {}, ["events", "orders", "people"]),
        (SCHEMA, ("table_id", "OR"), {}, ["orders"]),
        (SCHEMA, ("table_id", "big"), {}, []),
        (SNAPSHOT, ("name", "kept"), {}, ["kept_orders"]),
        (REDUCE, ("columns", "c"), {"table_id": "orders"}, ["country"]),
        (REDUCE, ("columns", "day, visit."), {"table_id": "orders"}, ["day, visit.channel", "day, visit.clicks"]),
        (REDUCE, ("columns", "c"), {"table_id": "big"}, []),
        (REDUCE, ("columns", "c"), {}, []),
        (REDUCE, ("where", "c"), {"table_id": "orders"}, []),
    ],
    ids=str,
)  # fmt: skip
async def test_completions_know_what_the_caller_may_see(
    client: Any, era: Era, ref: Any, argument: tuple[str, str], known: dict[str, str], expected: list[str]
) -> None:
    async with client() as c:
        await c.call_tool("fetch", {"table_id": "orders", "name": "kept_orders", "limit": 3, "force": True})
        given = {"name": argument[0], "value": argument[1]}
        completion = (await c.complete(ref, given, context_arguments=known)).completion
    assert completion.values == expected
    assert completion.total == len(expected)


async def test_prompts_are_text_and_take_what_hosts_pass(client: Any, era: Era) -> None:
    async with client() as c:
        listed = (await c.list_prompts()).prompts
        assert {prompt.name for prompt in listed} == {"explore_table", "answer_question", "reduce_cost"}
        for prompt in listed:
            assert prompt.description
            assert prompt.title
            assert all(argument.description for argument in prompt.arguments or [])
            assert sum(bool(argument.required) for argument in prompt.arguments or []) == 1
        explore = await c.get_prompt("explore_table", {"table_id": "orders", "goal": "find refunds"})
        answer = await c.get_prompt("answer_question", {"question": "How many {orders}?"})
        reduce = await c.get_prompt("reduce_cost", {"table_id": "orders", "columns": "day", "where": "day > 1"})
    for prompted, said in ((explore, "find refunds"), (answer, "How many {orders}?"), (reduce, "day > 1")):
        (message,) = prompted.messages
        assert isinstance(message.content, t.TextContent)
        assert said in message.content.text


async def test_a_word_is_never_looked_up_as_a_table(client: Any, era: Era) -> None:
    """What Claude Code passes of `/explore_table how many sessions per country`, and of a question."""
    async with client() as c:
        for name, arguments in (
            ("explore_table", {"table_id": "how", "goal": "many"}),
            ("reduce_cost", {"table_id": "how", "columns": "many", "where": "sessions"}),
        ):
            (message,) = (await c.get_prompt(name, arguments)).messages
            assert f"The person typed: {' '.join(arguments.values())}" in message.content.text
            assert "is no table of the catalog" in message.content.text
        (one,) = (await c.get_prompt("answer_question", {"question": "How"})).messages
        (whole,) = (await c.get_prompt("answer_question", {"question": "How many sessions?"})).messages
    assert "ask what they want to know" in one.content.text
    assert whole.content.text.startswith("Answer this question with the tables of this server: How many sessions?")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("explore_table", {}, "explore_table needs table_id."),
        ("explore_table", {"table_id": ""}, "explore_table needs table_id."),
        ("explore_table", {"table_id": "orders", "tabel": "x"}, "explore_table has no argument 'tabel'. Did you mean"),
        ("explore_table", {"table_id": "x" * 300}, "table_id: String should have at most 256 characters."),
        ("answer_question", {"question": "x" * 5_000}, "question: String should have at most"),
        ("explore", {}, "There is no prompt 'explore'. There are answer_question, explore_table, reduce_cost."),
    ],
)
async def test_a_wrong_prompt_is_named(client: Any, era: Era, name: str, arguments: dict[str, str], said: str) -> None:
    async with client() as c:
        with pytest.raises(MCPError) as refused:
            await c.get_prompt(name, arguments)
    assert refused.value.error.code == t.INVALID_PARAMS
    assert refused.value.error.message.startswith(said)
    assert refused.value.error.data["hint"]


async def test_the_instructions_teach_the_order_of_work(client: Any, era: Era) -> None:
    async with client() as c:
        told = c.instructions or ""
    assert told == INSTRUCTIONS
    assert len(told) <= 2_000
    places = [
        told.index(f"\n{n}. {tool}") for n, tool in enumerate(("catalog", "schema", "estimate", "scan", "query"), 1)
    ]
    assert places == sorted(places)
    assert told.index("fetch:") < told.index("5. query")


async def test_changes_are_told_to_their_own_user(client: Any, instance: Instance, era: Era) -> None:
    if era == "legacy":
        await _told_in_the_session(client)
        return
    told: dict[str, list[str]] = {"ana": [], "bob": []}
    ready = {"ana": anyio.Event(), "bob": anyio.Event()}

    async def listen(c: Client, name: str) -> None:
        instance.acting = name
        watched = ["agnes://snapshots/kept"]
        async with c.listen(resources_list_changed=True, resource_subscriptions=watched) as events:
            ready[name].set()
            async for event in events:
                told[name].append(type(event).__name__)

    async with client() as ana, client() as bob, anyio.create_task_group() as group:
        for name, c in (("ana", ana), ("bob", bob)):
            group.start_soon(listen, c, name)
            with anyio.fail_after(60):
                await ready[name].wait()
        instance.acting = "ana"
        await ana.call_tool("fetch", {"table_id": "orders", "name": "kept"})
        await ana.call_tool("snapshot_refresh", {"name": "kept"})
        await ana.call_tool("snapshot_drop", {"name": "kept"})
        with anyio.fail_after(60):
            while told["ana"].count("ResourcesListChanged") < 2 or "ResourceUpdated" not in told["ana"]:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert told["bob"] == []


async def test_streams_of_one_user_are_not_those_of_another(
    client: Any, instance: Instance, era: Era, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were counted together, and one user could have every one. What is closed may be opened again."""
    if era == "legacy":
        return
    monkeypatch.setattr(announcements, "MOST_STREAMS", 2)

    async def opens() -> bool:
        try:
            async with ana.listen(resources_list_changed=True):
                return True
        except MCPError as refused:
            return "2 streams" not in refused.error.message

    async with client() as ana, client() as bob, ana.listen(resources_list_changed=True):
        async with ana.listen(resources_list_changed=True):
            assert not await opens()
            instance.acting = "bob"
            async with bob.listen(resources_list_changed=True):
                instance.acting = "ana"
                assert not await opens()
        with anyio.fail_after(60):  # the server is told that it was closed
            while not await opens():
                await anyio.sleep(0.01)


async def _told_in_the_session(client: Any) -> None:
    told: list[str] = []

    async def note(message: Any) -> None:
        told.append(getattr(message, "method", type(message).__name__))

    async with client(message_handler=note) as c:
        assert c.server_capabilities.resources.list_changed
        await c.call_tool("fetch", {"table_id": "orders", "name": "kept"})
        with anyio.fail_after(60):
            while "notifications/resources/list_changed" not in told:
                await anyio.sleep(0.01)
        told.clear()
        await c.call_tool("scan", {"table_id": "orders", "limit": 3})
        await c.call_tool("snapshot_drop", {"name": "nothing"})
        await c.call_tool("snapshot_prune", {"older_than": "0m", "dry_run": True})
        assert "notifications/resources/list_changed" not in told
