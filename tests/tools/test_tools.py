"""The tools as a client meets them, in both protocol eras: what they promise, what they refuse, what they answer."""

from __future__ import annotations

import json
from typing import Any

import anyio.to_thread
import jsonschema  # type: ignore[import-untyped]
import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.types import ImageContent, ResourceLink, TextContent
from support.instances import ERAS, body_of, connected
from support.record_tools import made_of_modules

from agnes_mcp.answers.fitting import compact
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import KINDS, AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server
from agnes_mcp.serving.strict_tools import TOOL_MODULES

pytestmark = [pytest.mark.usefixtures("guarded_loop"), pytest.mark.parametrize("mode", ERAS)]

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("catalog", {}),
    ("catalog", {"search": "country", "source_type": "local", "limit": 2, "refresh": True}),
    ("catalog", {"search": None, "cursor": None, "source_type": None}),
    ("schema", {"table_id": "orders"}),
    ("describe", {"table_id": "orders", "n": 2, "profile": True}),
    ("sample", {"table_id": "events", "n": 3, "select": ["note"]}),
    ("estimate", {"table_id": "orders", "where": "country = 'CZ'"}),
    ("scan", {"table_id": "orders", "select": ["order_id", "visit"], "where": None, "limit": 3}),
    ("scan", {"table_id": "orders", "group_by": ["country"], "aggregates": [{"function": "count"}]}),
    ("scan", {"table_id": "orders", "group_by": "country", "aggregates": {"function": "COUNT", "column": "*"}}),
    ("scan", {"table_id": "orders", "select": "*", "order_by": "amount DESC NULLS LAST", "keep": "every_order"}),
    ("fetch", {"table_id": "orders", "select": ["order_id"], "name": "kept"}),
    ("fetch", {"table_id": "orders", "estimate_only": True}),
    ("query", {"sql": 'SELECT \'"rows":[]\' AS """rows"":[]", i, i * 1e300 AS huge FROM range(300) AS r(i)'}),
    ("query", {"sql": "SELECT count(*) AS n FROM kept JOIN orders USING (order_id)"}),
    ("chart", {"mark": "bar", "x": "country", "y": "sum(amount)", "sql": "SELECT country, amount FROM orders"}),
    ("chart", {"mark": "line", "x": "day", "y": None, "table_id": "orders", "where": "order_id < 500"}),
    ("chart", {"mark": "histogram", "x": "order_id", "snapshot": "kept"}),
    ("snapshot_list", {}),
    ("snapshot_refresh", {"name": "kept"}),
    ("snapshot_prune", {"older_than": "1d", "dry_run": True}),
    ("snapshot_drop", {"name": "kept"}),
    ("snapshot_drop", {"name": "every_order"}),
    ("disk_info", {}),
    ("usage", {}),
]


async def test_every_answer_fits_its_schema_and_says_the_same_twice(settings: Settings, mode: Any) -> None:
    """Structured content, text and output schema agree."""
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {tool for tool, _ in GOOD} == set(tools)
        for tool, arguments in GOOD:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, (tool, result.content)
            block, *others = result.content  # clients show the first text only
            assert isinstance(block, TextContent)
            assert all(isinstance(other, ResourceLink | ImageContent) for other in others)
            assert json.loads(block.text) == result.structured_content
            assert block.text == compact(result.structured_content)
            assert len(block.text) <= settings.api.max_result_chars
            schema = tools[tool].output_schema
            assert schema is not None
            jsonschema.validate(result.structured_content, schema)


async def test_null_says_what_leaving_out_says(settings: Settings, mode: Any) -> None:
    """Many clients send every argument that a schema lists; one that has to be given is missing where it is null."""
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:
        for tool in (await client.list_tools()).tools:
            listed = dict.fromkeys(tool.input_schema.get("properties", {}))
            given = {
                name: value
                for name, value in dict(GOOD)[tool.name].items()
                if name in tool.input_schema.get("required", [])
            }
            bare = body_of(await client.call_tool(tool.name, given))
            full = body_of(await client.call_tool(tool.name, listed | given))
            assert bare.get("error") == full.get("error"), (tool.name, full)
        missing = await client.call_tool("schema", {"table_id": None})
        assert body_of(missing)["error"] == "invalid_argument"


async def test_tools_are_described_and_annotated(gateway: Gateway, mode: Any) -> None:
    writers = {"fetch", "snapshot_refresh"}
    droppers = {"snapshot_drop", "snapshot_prune"}
    async with connected(gateway, mode) as client:
        for tool in (await client.list_tools()).tools:
            hints = tool.annotations
            assert hints is not None
            assert tool.title
            assert tool.description
            assert tool.description.startswith("Call ")
            assert len(tool.description) <= 500
            assert None not in (
                hints.read_only_hint,
                hints.destructive_hint,
                hints.idempotent_hint,
                hints.open_world_hint,
            )
            assert hints.destructive_hint == (tool.name in droppers)
            assert hints.read_only_hint == (tool.name not in writers | droppers)
            listed = compact([tool.input_schema, tool.output_schema])
            assert not any(word in listed for word in ('"additionalProperties"', '"$ref"', '"$defs"', '"title":"'))
            assert tool.output_schema is not None
            for name, argument in tool.input_schema.get("properties", {}).items():
                assert "description" in argument or name in ("force", "estimate_only"), (tool.name, name)


async def test_what_is_listed_is_what_the_modules_make(settings: Settings, mode: Any) -> None:
    """A change here is a change of the contract, and of what agents read: look at the difference, then record it with
    `python -m support.record_tools` from `tests/`."""
    async with Gateway(settings) as gateway, connected(gateway, mode) as client:
        listed = (await client.list_tools()).tools
    made = await made_of_modules(settings)
    assert [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed] == made
    assert [tool["name"] for tool in made] == [name for names in TOOL_MODULES.values() for name in names]


async def test_a_call_loads_its_own_tool_and_no_other(gateway: Gateway, mode: Any) -> None:
    server = await anyio.to_thread.run_sync(build_server, gateway)
    async with Client(server, mode=mode) as client:
        assert not (await client.call_tool("usage", {})).is_error
        assert body_of(await client.call_tool("no_such_tool", {}))["error"] == "unknown_tool"
        assert not (await client.call_tool("disk_info", {})).is_error
    beside = TOOL_MODULES["snapshots"]
    assert sorted(tool.name for tool in await MCPServer.list_tools(server)) == sorted(["usage", *beside])


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("scan", {"table_id": "orders", "wher": "x"}, "unknown_argument", "Did you mean where?"),
    ("scan", {"table_id": "orders", "columns": ["a"]}, "unknown_argument", ""),
    ("usage", {"verbose": True}, "unknown_argument", "no arguments"),
    ("scan", {}, "invalid_argument", "table_id"),
    ("scan", {"table_id": 5}, "invalid_argument", "table_id"),
    ("scan", {"table_id": "x" * 300}, "invalid_argument", "table_id"),
    ("scan", {"table_id": "orders", "limit": 0}, "invalid_argument", "limit"),
    ("scan", {"table_id": "orders", "limit": 10_000_001}, "limit_too_large", "10000000"),
    ("scan", {"table_id": "orders", "select": {"order_id": 1}}, "invalid_argument", "select"),
    ("scan", {"table_id": "orders", "select": []}, "invalid_argument", "select is empty"),
    ("scan", {"table_id": "orders", "where": "x" * 20_000}, "invalid_argument", "where"),
    ("scan", {"table_id": "orders", "where": "nope = 1"}, "unknown_column", "nope"),
    ("scan", {"table_id": "orders", "select": ["amuont"]}, "unknown_column", "Did you mean amount"),
    ("scan", {"table_id": "orders", "aggregates": [{"function": "median"}]}, "invalid_argument", "median"),
    ("scan", {"table_id": "orders", "aggregates": [{"function": "count", "colum": "x"}]}, "invalid_argument", "colum"),
    ("scan", {"table_id": "orders", "select": [1] * 3_100}, "invalid_argument", "at most 2,000"),
    ("scan", {"table_id": "orders", "select": "[" + "1," * 200_000 + "1]"}, "invalid_argument", "at most 2,000"),
    ("scan", {"table_id": "orders", "aggregates": [{}] * 3_100}, "invalid_argument", "at most 2,000"),
    ("sample", {"table_id": "orders", "n": 101}, "invalid_argument", "n: "),
    ("describe", {"table_id": "orders", "n": 0}, "invalid_argument", "n: "),
    ("catalog", {"limit": 501}, "invalid_argument", "limit"),
    ("catalog", {"cursor": "made up"}, "invalid_cursor", "without cursor"),
    ("catalog", {"source_type": "mysql"}, "invalid_argument", "source_type"),
    ("schema", {"table_id": "order"}, "table_not_found", "Did you mean orders?"),
    ("schema", {"table_id": "../orders"}, "table_not_found", ""),
    ("schema", {"table_id": "orders\n"}, "table_not_found", ""),
    ("schema", {"table_id": 'x"; DROP TABLE orders --'}, "table_not_found", ""),
    ("query", {"sql": "COPY orders TO '/tmp/x'"}, "query_refused", ""),
    ("snapshot_drop", {"name": "../x"}, "snapshot_not_found", ""),
    ("snapshot_drop", {"name": "nothing"}, "snapshot_not_found", ""),
    ("snapshot_prune", {}, "invalid_argument", ""),
    ("scann", {"table_id": "orders"}, "unknown_tool", "Did you mean scan?"),
    ("read_file", {"path": "/etc/passwd"}, "unknown_tool", ""),
]  # fmt: skip


async def test_every_refusal_teaches(gateway: Gateway, mode: Any) -> None:
    """The whole error in the text, which is all that a model is shown of an error."""
    async with connected(gateway, mode) as client:
        for tool, arguments, kind, said in REFUSED:
            result = await client.call_tool(tool, arguments)
            assert result.is_error, (tool, arguments)
            (block,) = result.content
            assert isinstance(block, TextContent)
            body = json.loads(block.text)
            assert body == result.structured_content
            assert set(body) == {"error", "message", "hint", "request_id", "details"}
            assert body["error"] == kind, (tool, arguments, body)
            assert body["error"] in KINDS
            assert body["hint"]
            assert said in block.text, (tool, arguments, body)
            assert len(block.text) < 4_000


async def test_no_refusal_repeats_the_values_that_were_given(gateway: Gateway, mode: Any) -> None:
    async with connected(gateway, mode) as client:
        for arguments in ({"table_id": ["canary-value"]}, {"table_id": "orders", "limit": "canary-value"}):
            result = await client.call_tool("scan", arguments)
            assert result.is_error
            assert "canary-value" not in json.dumps(result.structured_content)
            assert "pydantic" not in json.dumps(result.structured_content)


async def test_a_crash_says_nothing_of_the_machine(
    gateway: Gateway, mode: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Foreseen failures speak; crashes are logged and silent."""

    async def crash(*args: object) -> None:
        raise RuntimeError("secret /etc/path")

    monkeypatch.setattr(gateway.catalog, "columns", crash)
    async with connected(gateway, mode) as client:
        result = await client.call_tool("schema", {"table_id": "orders"})
    assert result.is_error
    assert body_of(result)["error"] == "internal_error"
    assert "secret" not in json.dumps(result.structured_content)
    assert "secret /etc/path" in caplog.text


async def test_free_text_is_never_read_as_json(gateway: Gateway, mode: Any) -> None:
    """The SDK parses string arguments as JSON unless they are declared as plain text."""
    async with connected(gateway, mode) as client:
        for where in ("null", "[1]", '{"x": 1}', "1", "true"):
            result = await client.call_tool("scan", {"table_id": "orders", "where": where, "limit": 1})
            body = body_of(result)
            assert body.get("error") != "invalid_argument", (where, body)
        result = await client.call_tool("estimate", {"table_id": "orders", "where": "true", "limit": 1})
        assert "WHERE" in body_of(result)["sql"]


async def test_instructions_and_name_reach_the_client(gateway: Gateway, mode: Any) -> None:
    async with connected(gateway, mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "agnes"
        assert client.instructions
        assert "estimate" in client.instructions
        assert len(client.instructions) <= 4096


async def test_an_error_of_ours_is_never_a_protocol_error(gateway: Gateway, mode: Any) -> None:
    async with connected(gateway, mode, raise_exceptions=True) as client:
        assert (await client.call_tool("schema", {"table_id": "nothing"})).is_error
    assert AgnesError("cancelled", "x", "y").exit_code == KINDS["cancelled"]
