"""One cell of 64 MB harms nobody: the loop runs on, and the cell is cut as any other."""

from __future__ import annotations

import time

import anyio
import pytest
from support.instances import ME

from agnes_mcp.gateway import Gateway

LARGE = {
    "a list of records": "SELECT list({'a': i, 'b': 'text ' || i}) AS cell FROM range(1500000) r(i)",
    "a histogram": "SELECT histogram(i) AS cell FROM range(500000) r(i)",
    "a text": "SELECT string_agg('text ' || i) AS cell FROM range(3000000) r(i)",
    "many at once": "SELECT list(i) AS cell FROM range(2000000) r(i) GROUP BY i % 20",
}


async def longest_pause(of: Gateway, sql: str) -> tuple[float, float]:
    """The longest that the loop was kept while that query was answered, and how long it took in all."""
    pauses: list[float] = []

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await anyio.sleep(0.005)
            pauses.append(time.monotonic() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        begun = time.monotonic()
        answer = await of.queries.query(ME, sql)
        elapsed = time.monotonic() - begun
        group.cancel_scope.cancel()
    assert answer.cut_cells == len(answer.rows) > 0
    assert "… [cut: " in answer.rows[0][0]
    return max(pauses), elapsed


@pytest.mark.parametrize("name", LARGE)
async def test_the_loop_runs_on_while_a_large_cell_is_answered(gateway: Gateway, name: str) -> None:
    """Shaped in the server, such a cell kept the loop for more than half of the call."""
    await gateway.queries.query(ME, "SELECT 1")  # the processes are there
    pause, elapsed = await longest_pause(gateway, LARGE[name])
    assert pause < 0.5 + elapsed / 4
