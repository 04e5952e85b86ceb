"""Conditions that nothing can interrupt, through every tool that takes one: each call is answered by its deadline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
from serving.served import body_of, connect, serve, token_of, user, write_instance
from support.counts import tell
from support.instances import table, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.race]  # others have the same three seconds
CONDITIONS = {
    "a pattern of many parts": f"note ILIKE '{'%a' * 12}Z'",
    # Each takes its time for a text, and none is true: together they outlast the deadline on any machine.
    "regular expressions": " OR ".join(f"regexp_matches(note, '(a+)+(a+)+(a+)+$b{n}')" for n in range(10)),
}


def calls(where: str) -> list[tuple[str, dict[str, Any]]]:
    """Every tool that evaluates a condition, or reads a view that somebody stored."""
    sql = f"SELECT i, count(*) AS n FROM big WHERE {where} GROUP BY i"
    return [
        ("scan", {"table_id": "big", "where": where, "limit": 1}),
        ("fetch", {"table_id": "big", "where": where}),
        ("query", {"sql": sql}),
        ("chart", {"sql": sql, "mark": "bar", "x": "i", "y": "n"}),
        ("snapshot_refresh", {"name": "kept", "where": where}),
        ("sample", {"table_id": "endless"}),
        ("describe", {"table_id": "endless"}),
        ("describe", {"table_id": "endless", "profile": True}),
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    big = write(tmp_path, "big.parquet", "SELECT i, repeat('a', 3000) AS note FROM range(200000) AS r(i)")
    with duckdb.connect(str(tmp_path / "endless.duckdb")) as connection:
        connection.execute("CREATE VIEW endless AS SELECT max(hash(i)) AS h FROM range(1000000000000) AS r(i)")
    return write_instance(
        tmp_path / "instance.yaml",
        tables=[table("big", big), table("endless", tmp_path / "endless.duckdb")],
        access={"users": [user("mallory", "*"), user("ana", "*")]},
        api={"scan": {"request_timeout_seconds": 3, "max_concurrent_per_user": 20}},
        engine={"query_timeout_seconds": 3, "query_workers": 2},
    )


async def test_every_tool_answers_by_its_deadline_and_others_are_served(config: Path) -> None:
    tried, through = 0, list[str]()
    with serve(config) as served:
        async with (
            connect(served, "http", "auto", token_of("mallory")) as mallory,
            connect(served, "http", "auto", token_of("ana")) as ana,
        ):
            kept = {"table_id": "big", "select": ["i", "note"], "limit": 500, "name": "kept"}
            assert not (await mallory.call_tool("fetch", kept)).is_error

            async def attack(tool: str, arguments: dict[str, Any]) -> None:
                answer = body_of(await mallory.call_tool(tool, arguments))
                if answer.get("error") != "timeout":
                    through.append(f"{tool}: {answer}"[:300])

            for where in CONDITIONS.values():
                async with anyio.create_task_group() as group:
                    for tool, arguments in calls(where):
                        group.start_soon(attack, tool, arguments)
                        tried += 1
                for tool, arguments in [("schema", {"table_id": "big"}), ("query", {"sql": "SELECT 1 AS one"})]:
                    assert not (await ana.call_tool(tool, arguments)).is_error
            usage = body_of(await mallory.call_tool("usage", {}))["quota"]
        ready = served.get("/readyz").json()
    assert through == []
    assert usage["running_scans"] == 0
    assert ready == {"status": "ok", "degraded": []}, "no thread is left behind"
    tell("conditions that nothing interrupts, by tool", tried=tried, through=len(through))
