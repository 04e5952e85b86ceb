"""Many calls at once: throughput, how late the event loop runs beside long queries, and what sessions cost in memory.

python bench/concurrency.py [--small] [--json]
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from ladder import PROMISES, share
from measuring import Figure, computed_seconds, main, speed

from calls import COLUMNS, both  # isort: skip
from mcp import Client  # isort: skip
from mcp.client.streamable_http import streamable_http_client  # isort: skip
from serving.served import connect, serve, write_instance  # isort: skip
from support.instances import ME, settings_of, table, write  # isort: skip

from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import RESOURCE_MODULES

CALLERS = 16
SESSIONS = 64
#: Runs for about five seconds on one processor, in memory that it needs none of.
LONG = "SELECT sum(hash(a.i * 31 + b.i)) AS s FROM range({rows}) AS a(i), range(1000) AS b(i)"
#: What a bare server that scans has imported, what ours has beside it, and of our own code what brings the rest along.
SCANNING = "duckdb, uvicorn, mcp.server, sqlglot, sqlglot.dialects.duckdb, pyarrow"
LIBRARIES = "typer, yaml, pydantic_settings, prometheus_client, sqlite3, filelock"
OWN = ", ".join(
    f"agnes_mcp.{module}"
    for module in (
        "cli.serving", "config.loading", "serving.telemetry", "serving.http.run", "operations.catalog", "tools.scan",
        "operations.scan", "spending.stores.sqlite", "spending.recovery", "sources.local.source", "sql.instance",
        "sql.statement", "sql.cells",
        *(f"resources.{name}" for name in RESOURCE_MODULES),
    )
)  # fmt: skip
BARE_HTTP = """
import sys
import duckdb
import uvicorn
from mcp.server import MCPServer

server = MCPServer("bare")
connections = []

@server.tool()
async def ping() -> str:
    return "pong"

@server.tool()
async def scan(path: str) -> str:
    "Rows by way of Arrow, of a statement that sqlglot has read, on an instance that stays."
    import sqlglot
    if not connections:
        connections.append(duckdb.connect(config={"threads": 2}))
    sql = sqlglot.parse_one(f"SELECT * FROM read_parquet('{path}') LIMIT 5", dialect="duckdb").sql("duckdb")
    return str(connections[0].sql(sql).to_arrow_table().to_pylist())

uvicorn.run(server.streamable_http_app(), port=int(sys.argv[1]), log_level="error")
"""


async def gather(small: bool) -> list[Figure]:
    return [
        *await throughput(1 if small else 5),
        await lag(small),
        *await memory(4 if small else SESSIONS),
        *[loaded(name, after="duckdb, mcp.server") for name in ("pyarrow", "sqlglot")],
        loaded(LIBRARIES, after=SCANNING),
        loaded(OWN, after=f"{SCANNING}, {LIBRARIES}", named="our own code of a scan over HTTP"),
    ]


async def throughput(turns: int) -> list[Figure]:
    """16 callers, each with a condition of its own, over one stdio connection; and what a bare tool reaches that owes
    its callers as much."""
    selected = COLUMNS[:3]
    asks: dict[str, Callable[[str], dict[str, Any]]] = {
        "scan": lambda where: {"table_id": "events", "select": selected, "where": where, "limit": 100},
        "bought": lambda where: {
            "columns": ", ".join(selected),
            "where": where,
            "limit": 100,
            "promises": len(PROMISES),
        },
        "rows": lambda where: {"sql": f"SELECT {', '.join(selected)} FROM events WHERE {where} LIMIT 100"},
    }
    taken: dict[str, list[float]] = {tool: [] for tool in asks}
    computed = dict.fromkeys(asks, 0.0)
    with tempfile.TemporaryDirectory() as name:
        async with both(Path(name)) as (ours, theirs):
            servers = psutil.Process().children()
            for turn in range(turns + 1):
                for tool, arguments in asks.items():
                    client = ours if tool == "scan" else theirs
                    conditions = [f"bucket = {turn * CALLERS + n}" for n in range(CALLERS)]
                    before, started = computed_seconds(servers), time.perf_counter()
                    answers = await asyncio.gather(*[client.call_tool(tool, arguments(one)) for one in conditions])
                    if turn:
                        taken[tool].append(time.perf_counter() - started)
                        computed[tool] += computed_seconds(servers) - before
                    assert not [answer for answer in answers if answer.is_error]
    scan_s, bought_s, rows_s = (statistics.median(times) for times in taken.values())
    scan_cpu, bought_cpu = (share(computed[tool], computed["rows"]) for tool in ("scan", "bought"))
    against = "the same statements on cursors in threads behind a trivial tool"
    return [
        speed(f"{CALLERS} concurrent scans", against, scan_s, rows_s, 0.95, CALLERS, "calls", cpu=scan_cpu),
        speed("of it, a bare tool that owes as much", against, bought_s, rows_s, None, CALLERS, "calls",
              cpu=bought_cpu),
    ]  # fmt: skip


async def lag(small: bool) -> Figure:
    """How late a task of the loop runs that wants to every 5 ms: four long queries beside it, and none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = [table("few", write(folder, "few.parquet", "SELECT 1 AS id"))]
        settings = settings_of(folder / "data", few, engine={"query_workers": 4, "query_timeout_seconds": 600})
        async with Gateway(settings) as gateway:
            await gateway.queries.query(ME, "SELECT 1")
            idle = await late(asyncio.create_task(asyncio.sleep(0.5 if small else 5)))
            sql = LONG.format(rows=2_000 if small else 100_000)
            busy = await late(asyncio.gather(*[gateway.queries.query(ME, sql) for _ in range(4)]))
    return Figure(
        "the event loop's lag, p99, while four 5-second queries run", "an idle server",
        busy, 20, "at most", busy, idle, "ms",
    )  # fmt: skip


async def late(work: asyncio.Future[Any]) -> float:
    """The 99th percentile of the delays, in ms, until the work has ended."""
    delays = []
    while not work.done():
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        delays.append(1000 * (time.perf_counter() - started - 0.005))
    await work
    return sorted(delays)[int(len(delays) * 0.99)]


async def memory(sessions: int) -> list[Figure]:
    """Resident size of the server's own process with so many open sessions that have called once each, and once one has
    given a condition; what those after the first have added; the same of a bare server whose sessions scan as well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, "few.parquet", "SELECT i AS id FROM range(100) AS r(i)")
        instance = write_instance(folder / "instance.yaml", tables=[table("few", path)])
        with serve(instance) as served:
            ours = await grown(
                sessions, served.process.pid, lambda: connect(served, "http", "legacy"),
                "scan", {"table_id": "few", "limit": 5}, {"table_id": "few", "where": "id < 50", "limit": 5},
            )  # fmt: skip
            ours, conditioned = ours[:sessions], ours[sessions]
        async with bare_http() as (url, process):
            theirs = await grown(sessions, process.pid, lambda: connected(url), "ping", {})
        async with bare_http() as (url, process):
            scanning = await grown(sessions, process.pid, lambda: connected(url), "scan", {"path": str(path)})
    bare = "a bare SDK server with DuckDB and as many"
    added, added_bare = ours[-1] - ours[0], theirs[-1] - theirs[0]
    return [
        Figure(f"memory with {sessions} sessions over HTTP", bare, ours[-1] / theirs[-1], 1.5, "at most", ours[-1],
               theirs[-1], "MB"),
        Figure("the same once one of them has scanned by a condition", bare, conditioned / theirs[-1], None,
               ours=conditioned, theirs=theirs[-1], unit="MB"),
        Figure("of that, a bare server that scans by sqlglot, DuckDB and Arrow", bare, scanning[-1] / theirs[-1], None,
               ours=scanning[-1], theirs=theirs[-1], unit="MB"),
        Figure(f"of it, what the {sessions - 1} after the first have added", bare,
               added / added_bare if added_bare else None, None, ours=added, theirs=added_bare, unit="MB"),
    ]  # fmt: skip


async def grown(
    sessions: int, pid: int, connecting: Callable[[], Any], tool: str, *arguments: dict[str, Any]
) -> list[float]:
    """Its megabytes after each of so many sessions that stay open and have called once; then, if there are others,
    after the last has called with those."""
    found = []
    async with AsyncExitStack() as stack:
        for _ in range(sessions):
            client = await stack.enter_async_context(connecting())
            assert not (await client.call_tool(tool, arguments[0])).is_error
            found.append(psutil.Process(pid).memory_info().rss / 1e6)
        for others in arguments[1:]:
            assert not (await client.call_tool(tool, others)).is_error
            found.append(psutil.Process(pid).memory_info().rss / 1e6)
    return found


def connected(url: str) -> Client:
    return Client(streamable_http_client(url), mode="legacy")


def loaded(modules: str, *, after: str, named: str = "") -> Figure:
    """What modules add to a process of Python's that serves nothing and has imported others already."""
    code = (
        f"import psutil, {after}; before = psutil.Process().memory_info().rss; import {modules}; "
        "print(psutil.Process().memory_info().rss - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Figure(f"of it, {named or modules} being imported", "", int(ran.stdout) / 1e6, None, unit="MB")


@asynccontextmanager
async def bare_http() -> AsyncIterator[tuple[str, subprocess.Popen[bytes]]]:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", BARE_HTTP, str(port)])  # noqa: ASYNC220 - nothing else runs here
    try:
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        process.terminate()
        process.wait()


def measure(small: bool) -> Iterator[Figure]:
    yield from asyncio.run(gather(small))


if __name__ == "__main__":
    main(measure, __doc__)
