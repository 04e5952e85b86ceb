"""The Inspector, as a client that is not ours: it lists and calls every tool on every transport."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.served import (
    AGNES_MCP,
    TRANSPORTS,
    Served,
    Transport,
    environment,
    serve,
    token_of,
    user,
    write_instance,
)
from support.counts import count, tell
from support.instances import tables_of, write_files
from support.node import command_of

pytestmark = [pytest.mark.slow, pytest.mark.needs("mcp-inspector"), pytest.mark.timeout(900)]
CALL_WITHIN_S = 90
EXIT_TOOL_ERROR = 5
#: Every tool, in an order in which each finds what it needs, with its arguments.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("catalog", {}),
    ("schema", {"table_id": "orders"}),
    ("describe", {"table_id": "orders", "n": 2, "profile": True}),
    ("sample", {"table_id": "orders", "n": 2, "select": ["order_id", "country"]}),
    ("estimate", {"table_id": "orders", "where": "order_id < 10"}),
    ("scan", {"table_id": "orders", "group_by": ["country"], "aggregates": [{"function": "count"}]}),
    ("fetch", {"table_id": "orders", "select": ["order_id"], "where": "order_id < 10", "name": "ten"}),
    ("query", {"sql": "SELECT count(*) AS n FROM ten"}),
    ("chart", {"sql": "SELECT country, count(*) AS n FROM orders GROUP BY 1", "mark": "bar", "x": "country", "y": "n"}),
    ("snapshot_list", {}),
    ("snapshot_refresh", {"name": "ten"}),
    ("snapshot_drop", {"name": "ten"}),
    ("snapshot_prune", {"older_than": "1d", "dry_run": True}),
    ("disk_info", {}),
    ("usage", {}),
]
ERAS = {"stdio": "legacy", "http": "modern", "sse": "legacy"}


@pytest.fixture(scope="module")
def inspector() -> list[str]:
    return [*command_of("mcp-inspector"), "--cli", "-q", "--format", "json", "--stored-auth-only"]


@pytest.fixture(scope="module")
def config(inspector: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    tables = tables_of(write_files(folder / "files"))
    return write_instance(folder / "instance.yaml", tables=tables, access={"users": [user("ana", "*")]})


@pytest.fixture(scope="module")
def served(config: Path) -> Iterator[Served]:
    with serve(config) as running:
        yield running


@pytest.fixture
def target(transport: Transport, config: Path, served: Served) -> list[str]:
    """The Inspector's words for a server on that transport."""
    if transport == "stdio":
        return ["-e", f"AGNES_CONFIG={config}", "--", AGNES_MCP, "serve"]
    path = {"http": "/mcp", "sse": "/sse"}[transport]
    bearer = f"Authorization: Bearer {token_of('ana')}"
    return [served.url + path, "--transport", transport, "--header", bearer, "--protocol-era", ERAS[transport]]


def inspect(inspector: list[str], target: list[str], *options: str, code: int = 0) -> dict[str, Any]:
    own, command_line = (target[: target.index("--")], target[target.index("--") :]) if "--" in target else (target, [])
    command = [*inspector, *own, *options, *command_line]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CALL_WITHIN_S, env=environment())
    assert ended.returncode == code, ended.stdout[-3000:] + ended.stderr[-3000:]
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_lists_every_tool_and_finds_nothing_to_complain_about(
    inspector: list[str], target: list[str], transport: Transport
) -> None:
    listed = inspect(inspector, target, "--method", "tools/list", "--strict")
    assert {tool["name"] for tool in tools_in(listed)} == {name for name, _ in CALLS}


def tools_in(listed: dict[str, Any]) -> list[dict[str, Any]]:
    found = listed.get("tools", listed.get("result", {}).get("tools") if "result" in listed else None)
    assert isinstance(found, list), listed
    return found


#: A new process of Node for every call, and over stdio a server as well: in the suite these stand for all.
FEW: dict[Transport, tuple[str, ...]] = {
    "stdio": ("fetch", "snapshot_drop"), "http": ("scan", "chart"), "sse": ("scan",),
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_calls_every_tool(inspector: list[str], target: list[str], transport: Transport) -> None:
    few = FEW[transport]
    calls = CALLS if count(len(few), len(CALLS)) == len(CALLS) else [call for call in CALLS if call[0] in few]
    assert calls
    for tool, arguments in calls:
        options = ["--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        answer = inspect(inspector, target, *options)
        assert "structuredContent" in json.dumps(answer), tool
    tell(f"tools called by the Inspector, {transport}", tried=len(calls), through=len(calls))


def test_it_is_told_of_an_error_and_of_a_missing_token(inspector: list[str], served: Served) -> None:
    there = [f"{served.url}/mcp", "--header", f"Authorization: Bearer {token_of('ana')}"]
    wrong = ["--method", "tools/call", "--tool-name", "schema", "--tool-args-json", '{"table_id": "nowhere"}']
    assert "table_not_found" in json.dumps(inspect(inspector, there, *wrong, code=EXIT_TOOL_ERROR))
    command = [*inspector, f"{served.url}/mcp", "--method", "tools/list"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=CALL_WITHIN_S, env=environment())
    assert refused.returncode != 0
