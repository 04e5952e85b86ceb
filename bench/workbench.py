"""How much the workbench's confinement costs a small query.

Compared with what an unconfined server would do: the same query on an open DuckDB connection in its own process, plus
one trivial tool call of the MCP SDK over stdio. Target: p50 at most 1.5 times that sum.

An agent thinks between calls, so all three are paced: a pause before each call, in which a worker makes its next DuckDB
instance ready. What is left when nobody pauses is printed below as throughput.

    python bench/workbench.py [calls]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import duckdb
from mcp import ClientSession, StdioServerParameters, stdio_client

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.models import Principal
from agnes_mcp.sql.views import View
from agnes_mcp.workbench import JOB, Workbench

ROWS = 500_000
SQL = (
    "SELECT country, count(*) AS n, sum(amount) AS total FROM orders WHERE day >= 100 GROUP BY country ORDER BY country"
)
TARGET = 1.5
PAUSE_S = 0.05
SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("bench")
@server.tool()
def ping() -> str:
    return "pong"
server.run("stdio")
"""


def write_orders(folder: Path) -> str:
    path = str(folder / "orders.parquet")
    duckdb.execute(
        f"""COPY (SELECT range AS id, ['CZ', 'DE', 'SK', 'PL'][1 + range % 4] AS country, range % 365 AS day,
            (range % 1000)::DOUBLE AS amount FROM range({ROWS})) TO '{path}'"""
    )
    return path


def measure_ms(work: Callable[[], object], calls: int) -> list[float]:
    """Durations of paced calls, after a tenth as many for warming."""
    durations = []
    for _ in range(calls + calls // 10):
        time.sleep(PAUSE_S)
        started = time.perf_counter()
        work()
        durations.append(1000 * (time.perf_counter() - started))
    return durations[calls // 10 :]


async def measure_tool_call_ms(calls: int) -> list[float]:
    server = StdioServerParameters(command=sys.executable, args=["-c", SERVER])
    async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
        await session.initialize()
        durations = []
        for _ in range(calls + calls // 10):
            await asyncio.sleep(PAUSE_S)
            started = time.perf_counter()
            await session.call_tool("ping", {})
            durations.append(1000 * (time.perf_counter() - started))
    return durations[calls // 10 :]


def p(durations: list[float], percent: int) -> float:
    return statistics.quantiles(durations, n=100)[percent - 1]


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        path = write_orders(Path(folder))
        con = duckdb.connect(config={"threads": 2})
        con.execute(f"CREATE VIEW orders AS FROM read_parquet('{path}')")
        plain = measure_ms(lambda: con.execute(SQL).to_arrow_table(), calls)
        tool = asyncio.run(measure_tool_call_ms(calls))
        views = [View("orders", "parquet", [path])]
        processes = Processes(JOB, memory_bytes=512 * 2**20)
        bench = Workbench(processes)
        with closing(processes):

            def ask(_: int = 0) -> object:
                return bench.run(SQL, views, limit_rows=1000, max_bytes=2**20, call=Call("query", Principal("ana")))

            pooled = measure_ms(ask, calls)
            with ThreadPoolExecutor(8) as callers:
                started = time.perf_counter()
                list(callers.map(ask, range(calls)))
                per_s = calls / (time.perf_counter() - started)
    reference = p(plain, 50) + p(tool, 50)
    for name, durations in (("DuckDB in process", plain), ("trivial tool call", tool), ("workbench", pooled)):
        print(f"{name:20} p50 {p(durations, 50):7.2f} ms   p95 {p(durations, 95):7.2f} ms")
    ratio = p(pooled, 50) / reference
    print(f"workbench / (DuckDB in process + tool call): {ratio:.2f} (target ≤ {TARGET})")
    print(f"8 callers at once on 2 processes: {per_s:.0f} queries a second")


if __name__ == "__main__":
    main()
