"""One caller attacks, over HTTP, with everything at once; another one's small calls are answered meanwhile."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving.served import (
    ACCEPT,
    INITIALIZE,
    Served,
    bearer,
    body_of,
    connect,
    rpc,
    serve,
    token_of,
    user,
    write_instance,
)
from support.counts import count, tell
from support.instances import table, write
from support.waiting import until

from agnes_mcp.access.grants import digest_token

pytestmark = [pytest.mark.soak, pytest.mark.slow]

Attempt = tuple[str, dict[str, Any]]
#: Without end, in a process of its own; of which one caller has as many as there may be at once, and many more wait.
ENDLESS_QUERY: Attempt = ("query", {"sql": "SELECT max(a.i * b.i) FROM big AS a, big AS b, big AS c"})
#: Cannot be interrupted inside a vector.
PATTERN: Attempt = ("scan", {"table_id": "big", "where": f"note ILIKE '{'%a' * 12}Z'", "limit": 1})
#: Three kilobytes that a validator has to read.
LONG_WHERE = " OR ".join(f"note LIKE '%{number:03}%'" for number in range(140))
ESTIMATE: Attempt = ("estimate", {"table_id": "small", "where": LONG_WHERE.replace("note", "name")})
HUGE_CELL: Attempt = ("query", {"sql": "SELECT list(note) AS notes FROM big"})
REFUSED: Attempt = ("scan", {"table_id": "small", "where": "id = 1 OR 1 = (SELECT count(*) FROM big)"})
ATTACKS = {
    "endless queries": (ENDLESS_QUERY, 12),
    "patterns that cannot be interrupted": (PATTERN, 8),
    "estimates of long predicates": (ESTIMATE, 60),
    "cells of megabytes": (HUGE_CELL, 4),
    "subqueries in predicates": (REFUSED, 20),
}
HONEST: tuple[Attempt, ...] = (
    ("query", {"sql": "SELECT 1 AS one"}),
    ("scan", {"table_id": "small", "where": "id = 7"}),
    ("scan", {"table_id": "small", "where": "name ILIKE '%n%a%7%'", "limit": 1}),
    ("schema", {"table_id": "small"}),
    ("catalog", {}),
    ("estimate", {"table_id": "small"}),
    ("sample", {"table_id": "small", "n": 1}),
    ("usage", {}),
)
HALF_HEADS = 100
HELD = (
    "agnes_busy_threads", "agnes_stuck_threads", "agnes_busy_processes", "agnes_waiting_calls", "agnes_running_scans",
)  # fmt: skip
SCRAPER = "agnes_test_token_of_the_scraper"
LONG = "x" * 900_000
#: What costs the caller nothing but to send it, again and again: the method, and what is asked with it.
FLOODS: dict[str, Attempt] = {
    "prompts": ("prompts/get", {"name": "answer_question", "arguments": {"question": "how many " * 400}}),
    "prompts that there are not": ("prompts/get", {"name": LONG, "arguments": {}}),
    "completions": (
        "completion/complete",
        {
            "ref": {"type": "ref/resource", "uri": "agnes://tables/{table_id}/schema"},
            "argument": {"name": "table_id", "value": "s"},
        },
    ),
    "resources": ("resources/read", {"uri": "agnes://tables/small/schema"}),
    "resources that there are not": ("resources/read", {"uri": f"agnes://tables/{LONG}/schema"}),
    "lists of resources": ("resources/list", {}),
    "lists of tools": ("tools/list", {}),
    "long texts": ("tools/call", {"name": "scan", "arguments": {"table_id": "small", "where": LONG}}),
    "long lists": ("tools/call", {"name": "scan", "arguments": {"table_id": "small", "select": [1] * 200_000}}),
    "many keys": (
        "initialize",
        {**INITIALIZE["params"], "capabilities": {"experimental": {str(n): {} for n in range(50_000)}}},
    ),
    "sessions": ("initialize", INITIALIZE["params"]),
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    big = "SELECT i, repeat('a', 300) AS note FROM range(300000) AS r(i)"
    small = "SELECT i AS id, 'name ' || i AS name FROM range(1000) AS r(i)"
    tables = [table("big", write(tmp_path, "big.parquet", big)), table("small", write(tmp_path, "s.parquet", small))]
    users = [user("mallory", "*"), user("ana", "*")]
    server = {"max_calls_per_minute_per_user": None, "metrics_token_sha256": digest_token(SCRAPER)}
    # Longer than the test may take: what is answered meanwhile was not waiting for any of the attacks to end.
    api = {"scan": {"request_timeout_seconds": 3600, "max_concurrent_per_user": 20}}
    engine = {"query_timeout_seconds": 3600, "query_workers": 2}
    config = write_instance(
        tmp_path / "instance.yaml", tables=tables, access={"users": users}, server=server, api=api, engine=engine
    )
    with serve(config) as served:
        yield served


class Attack:
    """What the attacker has sent; `answered` counts what came back."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered: list[str] = []

    async def send(self, served: Served, tool: str, arguments: dict[str, Any]) -> None:
        with suppress(Exception):  # the attacker's own connection may end in any way
            async with connect(served, "http", "auto", token_of("mallory")) as client:
                self.sent += 1
                self.answered.append(str(body_of(await client.call_tool(tool, arguments)).get("error", "")))


def half_head(served: Served) -> socket.socket:
    host, _, port = served.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)))
    opened.sendall(b"POST /mcp HTTP/1.1\r\nHost: " + host.encode() + b"\r\nX-Never: ends")
    return opened


class Flood:
    """One caller who sends without end; `answered` counts by kind, `odd` is what is no answer."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.answered = Counter[str]()
        self.odd: list[str] = []

    async def send(self, kind: str, method: str, params: dict[str, Any]) -> None:
        async with httpx2.AsyncClient(headers={**bearer(token_of("mallory")), **ACCEPT}, timeout=None) as http:
            opened = await http.post(f"{self.served.url}/mcp", json=INITIALIZE)
            headers = {"mcp-session-id": opened.headers["mcp-session-id"]} if method != "initialize" else {}
            content = json.dumps(rpc(method, params)).encode()
            while True:
                json_headers = {**headers, "content-type": "application/json"}
                answer = await http.post(f"{self.served.url}/mcp", content=content, headers=json_headers)
                told_its_share = answer.status_code == 503 and "you hold your share" in answer.text
                expected = answer.status_code in (200, 413) or told_its_share
                if not expected or "internal_error" in answer.text:
                    self.odd.append(f"{kind}: {answer.status_code} {answer.text[:200]}")
                self.answered[kind] += 1

    async def cancel(self) -> None:
        """Calls that are taken back once they are under way, or before."""
        async with connect(self.served, "http", "auto", token_of("mallory")) as client:
            while True:
                with anyio.move_on_after(0.05):
                    await client.call_tool(*ENDLESS_QUERY)
                self.answered["calls that are cancelled"] += 1

    async def listen(self) -> None:
        """Streams of events that stay, and others that come and go."""
        async with connect(self.served, "http", "auto", token_of("mallory")) as client, AsyncExitStack() as kept:
            for _ in range(20):
                await kept.enter_async_context(client.listen(resources_list_changed=True))
            while True:
                async with client.listen(resources_list_changed=True):
                    self.answered["streams of events"] += 1


def held_by(served: Served) -> dict[str, float]:
    """What the server's own figures say is held or waited for."""
    text = served.get("/metrics", SCRAPER).text
    found = (
        "agnes_busy_threads",
        "agnes_stuck_threads",
        "agnes_waiting_calls",
        "agnes_running_scans",
        "agnes_busy_processes",
    )
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {f"{one.name}{one.labels}": one.value for one in samples if one.name in found and one.value}


@pytest.mark.timeout(600)
async def test_honest_calls_are_answered_beside_a_flood_of_whatever_costs_nothing(served: Served) -> None:
    flood, wrong, asked = Flood(served), list[str](), 0
    async with anyio.create_task_group() as group:
        for kind, (method, params) in FLOODS.items():
            for _ in range(count(1, 4)):
                group.start_soon(flood.send, kind, method, params)
        group.start_soon(flood.cancel)
        group.start_soon(flood.listen)
        with anyio.fail_after(300):
            while len(flood.answered) < len(FLOODS) + 2:
                await anyio.sleep(0.05)
            async with connect(served, "http", "auto", token_of("ana")) as client:
                for _ in range(count(1, 10)):
                    for tool, arguments in (call for call in HONEST if call[0] in ("query", "scan", "catalog")):
                        body = body_of(await client.call_tool(tool, arguments))
                        asked += 1
                        wrong += [f"{tool}: {body['error']}: {body['message']}"] if "error" in body else []
                async with client.listen(resources_list_changed=True):  # none of the flood's streams is hers
                    pass
        group.cancel_scope.cancel()
    assert wrong == flood.odd == []
    tell(
        "honest calls beside a flood",
        tried=asked,
        through=asked - len(wrong),
        note=f"{flood.answered.total()} requests",
    )
    await until(lambda: held_by(served) == {})


@pytest.mark.timeout(600)
async def test_honest_calls_are_answered_beside_an_attacker(served: Served) -> None:
    attack, wrong, asked = Attack(), list[str](), 0
    heads = [half_head(served) for _ in range(HALF_HEADS)]
    async with anyio.create_task_group() as group:
        for call, times in ATTACKS.values():
            for _ in range(count(max(2, times // 2), times)):
                group.start_soon(attack.send, served, *call)
        async with connect(served, "http", "auto", token_of("ana")) as client:
            with anyio.fail_after(300):
                while attack.sent < 12:
                    await anyio.sleep(0.05)
                for _ in range(count(2, 20)):
                    for tool, arguments in HONEST:
                        body = body_of(await client.call_tool(tool, arguments))
                        asked += 1
                        if "error" in body:
                            wrong.append(f"{tool}: {body['error']}: {body['message']}")
            quota = body_of(await client.call_tool("usage", {}))["quota"]
        ready = served.get("/readyz").json()
        group.cancel_scope.cancel()
    for head in heads:
        head.close()
    assert wrong == []
    assert (quota["running_scans"], quota["daily_bytes_reserved"]) == (0, 0)
    assert ready["status"] in ("ok", "degraded")
    assert "internal_error" not in attack.answered
    tell("honest calls beside an attacker", tried=asked, through=asked - len(wrong), note=f"{attack.sent} attacks")
    answer = served.request("POST", "/mcp", headers=bearer("wrong"), json={})
    assert answer.status_code == 401
