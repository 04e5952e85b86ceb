"""One caller attacks, over HTTP, with everything at once; another one's small calls are answered meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from serving.served import Served, bearer, body_of, connect, serve, token_of, user, write_instance
from support.counts import count, tell
from support.instances import table, write

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


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    big = "SELECT i, repeat('a', 300) AS note FROM range(300000) AS r(i)"
    small = "SELECT i AS id, 'name ' || i AS name FROM range(1000) AS r(i)"
    tables = [table("big", write(tmp_path, "big.parquet", big)), table("small", write(tmp_path, "s.parquet", small))]
    users = [user("mallory", "*"), user("ana", "*")]
    server = {"max_calls_per_minute_per_user": None}
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
