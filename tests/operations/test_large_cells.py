"""One cell of 64 MB harms nobody: the loop runs on, and the cell is cut as any other."""

from __future__ import annotations

import time
from typing import BinaryIO

import anyio
import pytest
from support.instances import ME

from agnes_mcp.calls.processes import frames
from agnes_mcp.gateway import Gateway
from agnes_mcp.sql.cells import MAX_CELL_WEIGHT

#: How many cells, and the query.
LARGE = {
    "a list of records": (1, "SELECT list({'a': i, 'b': 'text ' || i}) AS cell FROM range(1500000) r(i)"),
    "a histogram": (1, "SELECT histogram(i) AS cell FROM range(500000) r(i)"),
    "a text": (1, "SELECT string_agg('text ' || i) AS cell FROM range(3000000) r(i)"),
    "many at once": (20, "SELECT list(i) AS cell FROM range(2000000) r(i) GROUP BY i % 20"),
}


#: Of one cell: an element takes eight bytes at most here, and its share of what stands around it.
MOST_BYTES = 10 * MAX_CELL_WEIGHT


class Crossing:
    """What comes from the worker processes: the sizes of the pieces."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._receive = frames.receive

    def receive(self, stream: BinaryIO) -> tuple[bytes, bytes]:
        kind, content = self._receive(stream)
        self.sizes.append(len(content))
        return kind, content


async def most_used_at_once(of: Gateway, sql: str) -> float:
    """The most processor time that the loop's thread used between two of its turns while that query was answered."""
    used: list[float] = []

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await anyio.sleep(0.005)
            used.append(time.thread_time() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        answer = await of.queries.query(ME, sql)
        group.cancel_scope.cancel()
    assert answer.cut_cells == len(answer.rows) > 0
    assert "… [cut: " in answer.rows[0][0]
    return max(used, default=0.0)


@pytest.mark.parametrize("name", LARGE)
async def test_a_large_cell_is_cut_before_it_leaves_the_process(
    gateway: Gateway, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shaped in the server, such a cell kept the loop for seconds of processor time. What is measured here is the work
    of the loop's own thread, which others on the machine do not add to."""
    await gateway.queries.query(ME, "SELECT 1")  # the processes are there
    crossing = Crossing()
    monkeypatch.setattr(frames, "receive", crossing.receive)
    cells, sql = LARGE[name]
    assert await most_used_at_once(gateway, sql) < 0.5
    assert 0 < sum(crossing.sizes) < MOST_BYTES * cells
