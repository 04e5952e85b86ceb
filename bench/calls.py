"""What one call costs, over stdio: beside a bare server of the SDK that does the same work without asking anything.

    python bench/calls.py [--small] [--json]

The two servers run side by side and are called in turn by the same client.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import duckdb
import psutil
from ladder import bought, few, statement_of_its_own
from measuring import Figure, cpu_seconds, main, ratio

from mcp import Client, StdioServerParameters  # isort: skip
from serving.served import connect, environment, write_instance  # isort: skip
from support.instances import table, write  # isort: skip

from agnes_mcp.sql.instance import lock_instance, open_instance
from agnes_mcp.sql.views import View

#: What an impatient person writes; it is given the folder of the texts and of the file.
BARE = Path(__file__).with_name("bare_server.py")
EVENTS = """
    SELECT i AS id, i % 9973 AS bucket, 'the note of ' || i AS note, (i % 1000) / 8.0 AS amount,
           DATE '2026-01-01' + CAST(i % 120 AS INT) AS day
    FROM range(1000000) AS r(i)"""
AGGREGATE = (
    "SELECT bucket % 4 AS part, count(*) AS n, sum(amount) AS total FROM events WHERE bucket >= 9000 GROUP BY ALL"
)
INLINE = 1000
COLUMNS = ["id", "bucket", "note", "amount", "day"]
Ask = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[Client, Client]]:
    """Our server and the bare one over the same file."""
    path = write(folder, "events.parquet", EVENTS)
    many = {"scan": {"max_concurrent_per_user": 64}}
    small = write(folder, "few.parquet", EVENTS.replace("1000000", "1000").replace("9973", "10"))
    tables = [table("events", path, description="What happened"), table("few", small)]
    instance = write_instance(folder / "instance.yaml", tables=tables, api=many)
    bare = StdioServerParameters(command=sys.executable, args=[str(BARE), str(folder)], env=environment())
    async with connect(instance, "stdio", "legacy") as ours, Client(bare, mode="legacy") as theirs:
        yield ours, theirs


async def compare(
    name: str, against: str, target: float, turns: int, ours: Ask, theirs: Ask, *, pause_s: float = 0
) -> Figure:
    """Their median seconds, turn by turn, and what the processes of each have computed; a tenth of the turns before
    them is not counted."""
    asks = ours, theirs
    taken: tuple[list[float], list[float]] = ([], [])
    servers = sorted(psutil.Process().children(), key=lambda process: "agnes-mcp" not in " ".join(process.cmdline()))
    assert len(servers) == 2
    before = [0.0, 0.0]
    for turn in range(-1 - turns // 10, turns):
        if turn == 0:
            before = [cpu_seconds(server) for server in servers]
        for ask, times in zip(asks, taken, strict=True):
            if pause_s:
                await asyncio.sleep(pause_s)
            started = time.perf_counter()
            result = await ask()
            if turn >= 0:
                times.append(time.perf_counter() - started)
            assert not result.is_error, result.content
    cpu = [cpu_seconds(server) - earlier for server, earlier in zip(servers, before, strict=True)]
    ours_s, theirs_s = (statistics.median(times) for times in taken)
    return ratio(name, against, ours_s, theirs_s, target, cpu=cpu[0] / cpu[1] if cpu[1] else None)


async def gather(small: bool) -> list[Figure]:
    turns = 5 if small else 100
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with both(folder) as (ours, theirs):
            return [
                *[await cached(ours, theirs, folder, turns, *call) for call in CACHED],
                *[await owed(theirs, turns, *debt) for debt in OWED],
                await filtered(ours, theirs, turns, *SCANS[0]),
                *await bought(ours, theirs, turns, "100 rows by `=`", COLUMNS, "bucket = {}", 100),
                await few(ours, theirs, folder, turns),
                *statement_of_its_own(folder, turns),
                await filtered(ours, theirs, turns, *SCANS[1]),
                await queried(ours, theirs, turns),
                await alone(theirs, turns),
                instance_of_its_own(folder, turns),
                empty_instance(turns),
                await inline(ours, theirs, turns),
                *await bought(ours, theirs, turns, f"{INLINE:,} rows", COLUMNS[:4], "", INLINE),
            ]


CACHED: tuple[tuple[str, dict[str, Any]], ...] = (("catalog", {}), ("schema", {"table_id": "events"}), ("usage", {}))


async def cached(
    ours: Client, theirs: Client, folder: Path, turns: int, tool: str, arguments: dict[str, Any]
) -> Figure:
    answer = await ours.call_tool(tool, arguments)
    text = next(block.text for block in answer.content if block.type == "text")
    (folder / f"{tool}.txt").write_text(text)
    return await compare(
        f"`{tool}`, what it needs known, p50", "a trivial tool that returns the same text", 1.3, turns,
        lambda: ours.call_tool(tool, arguments), lambda: theirs.call_tool("said", {"name": tool}),
    )  # fmt: skip


#: The bare tool, the text that it says, and what it does beside.
OWED = (
    ("recorded", "schema", "a bare tool's text structured as well, and one line written in a thread"),
    ("looked", "schema", "the same after the table's file was looked at in a thread"),
    ("counted", "usage", "the same after the books were read in a thread"),
)


async def owed(theirs: Client, turns: int, tool: str, text: str, what: str) -> Figure:
    """What any tool pays that owes its caller as much."""
    both_s = await in_turn(theirs, {name: {"name": text} for name in (tool, "said")}, turns)
    return ratio(f"of `{text}`, {what}, p50", "a trivial tool that returns the same text", *both_s, None)


async def alone(theirs: Client, turns: int) -> Figure:
    """What any tool pays whose statement has an instance of its own."""
    both_s = await in_turn(theirs, {"alone": {"sql": AGGREGATE}, "rows": {"sql": AGGREGATE}}, turns // 2 or 1)
    return ratio(
        "of it, a bare tool that opens an instance for the question, locked to one file, and closes it, p50",
        "the same statement behind a trivial tool", *both_s, None,
    )  # fmt: skip


#: Name, condition, target.
SCANS = (
    ("100 rows of 1,000,000 by `=`, p50", "bucket = 77", 1.1),
    ("100 rows of 1,000,000 by a regular expression, in a process that can be killed, p50",
     "regexp_matches(note, '77(1|2)3$')", 1.5),
)  # fmt: skip


async def filtered(ours: Client, theirs: Client, turns: int, name: str, where: str, target: float) -> Figure:
    """Beside the same statement in the bare server: it is both the tool call and DuckDB."""
    scan = {"table_id": "events", "select": COLUMNS, "where": where, "limit": 100}
    sql = f"SELECT {', '.join(COLUMNS)} FROM events WHERE {where} LIMIT 100"
    return await compare(
        name, "the same statement behind a trivial tool", target, turns // 2 or 1,
        lambda: ours.call_tool("scan", scan), lambda: theirs.call_tool("rows", {"sql": sql}),
    )  # fmt: skip


async def in_turn(client: Client, tools: dict[str, dict[str, Any]], turns: int) -> list[float]:
    """The median seconds of a call of each tool, one after the other; one turn before them is not counted."""
    taken: dict[str, list[float]] = {tool: [] for tool in tools}
    for _ in range(turns + 1):
        for tool, times in taken.items():
            started = time.perf_counter()
            assert not (await client.call_tool(tool, tools[tool])).is_error
            times.append(time.perf_counter() - started)
    return [statistics.median(times[1:]) for times in taken.values()]


async def queried(ours: Client, theirs: Client, turns: int) -> Figure:
    """Agent-written SQL, in a process without rights, with a pause before each call, as an agent thinks."""

    async def paced(client: Client, tool: str) -> Any:
        return await client.call_tool(tool, {"sql": AGGREGATE})

    return await compare(
        "`query` of a small aggregate, p50", "the same statement behind a trivial tool", 1.5, turns,
        lambda: paced(ours, "query"), lambda: paced(theirs, "rows"), pause_s=0.05,
    )  # fmt: skip


def instance_of_its_own(folder: Path, turns: int) -> Figure:
    """What each `query` has for itself, and no other call's rows or grants: most of it before the question comes."""
    view = View("events", "parquet", [str(folder / "events.parquet")])
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        with closing(open_instance(2**30, 2)) as instance:
            lock_instance(instance, [view])
        taken.append(time.perf_counter() - started)
    return Figure(
        "of it, an instance of DuckDB opened, locked to one file and closed, p50", "", 1000 * statistics.median(taken),
        None, unit="ms",
    )  # fmt: skip


def empty_instance(turns: int) -> Figure:
    """What of that is DuckDB's alone: an instance with nothing in it."""
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        duckdb.connect(":memory:", config={"threads": 2}).close()
        taken.append(time.perf_counter() - started)
    return Figure(
        "of that, DuckDB's own: an empty instance opened and closed, p50", "", 1000 * statistics.median(taken), None,
        unit="ms",
    )  # fmt: skip


async def inline(ours: Client, theirs: Client, turns: int) -> Figure:
    scan = {"table_id": "events", "select": COLUMNS[:4], "limit": 1000}
    answer = await ours.call_tool("scan", scan)
    assert answer.structured_content is not None
    returned = len(answer.structured_content["rows"])
    sql = f"SELECT {', '.join(COLUMNS[:4])} FROM events LIMIT {returned}"
    bare = json.loads((await theirs.call_tool("rows", {"sql": sql})).content[0].text)
    assert len(bare["rows"]) == returned
    return await compare(
        f"{returned:,} rows inline, p50", "a bare tool that returns them as compact JSON", 1.2, turns // 2 or 1,
        lambda: ours.call_tool("scan", scan), lambda: theirs.call_tool("rows", {"sql": sql}),
    )  # fmt: skip


def measure(small: bool) -> Iterator[Figure]:
    yield from asyncio.run(gather(small))


if __name__ == "__main__":
    main(measure, __doc__)
