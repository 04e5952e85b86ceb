"""What a scan of ours takes beyond the same statement behind a trivial tool, promise by promise.

Not a bench itself: `calls.py` has its rows. The tools are those of `bare_server.py`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil
from mcp import Client
from measuring import Figure, computed_seconds, ratio

from agnes_mcp.models import Column, Relation, ScanRequest, TableSchema
from agnes_mcp.sql.statement import build_statement

#: What `bought` of the bare server keeps, one more in each row; the first is to be structured as well as text.
PROMISES = (
    "a bare tool whose {} are structured as well",
    "and whose condition is read, rendered and read again, and the statement parsed by DuckDB",
    "and whose file was looked at",
    "and with a reservation in the books, made and settled",
    "and with each cell measured",
    "and with a line on the disk",
    "and each step in a thread of its own, so that it can be stopped",
)
#: The promise, by its number, that only a scan with a condition keeps.
CONFIRMED = 2
NAMES = {"id": "BIGINT", "bucket": "BIGINT", "note": "VARCHAR", "amount": "DOUBLE", "day": "DATE"}
Ask = Callable[[int], Awaitable[Any]]


async def bought(
    ours: Client, theirs: Client, turns: int, rows: str, columns: list[str], where: str, limit: int
) -> list[Figure]:
    """What any scan takes that keeps such promises, one more at a time, and in the same turns ours; each condition is
    new."""
    kept = [number for number in range(1, len(PROMISES) + 1) if where or number != CONFIRMED]

    def text(turn: int) -> Awaitable[Any]:
        filtering = f" WHERE {where.format(turn)}" if where else ""
        return theirs.call_tool("rows", {"sql": f"SELECT {', '.join(columns)} FROM events{filtering} LIMIT {limit}"})

    def keeping(number: int) -> Ask:
        asked = {"columns": ", ".join(columns), "limit": limit, "promises": number}
        return lambda turn: theirs.call_tool("bought", {**asked, "where": where.format(turn)})

    def scan(turn: int) -> Awaitable[Any]:
        condition = {"where": where.format(turn)} if where else {}
        return ours.call_tool("scan", {"table_id": "events", "select": columns, "limit": limit, **condition})

    asks: dict[str, Ask] = {"": text}
    asks |= {f"of it, {PROMISES[number - 1].format(rows)}": keeping(number) for number in kept}
    asks["of it, and ours, in the same turns"] = scan
    taken = await in_same_turns(asks, turns // 2 or 1)
    (bare_s, bare_cpu_s), *others = taken.values()
    return [
        ratio(f"{name}, p50", "the same tool with text alone", wall_s, bare_s, None, cpu=share(cpu_s, bare_cpu_s))
        for name, (wall_s, cpu_s) in zip(list(taken)[1:], others, strict=True)
    ]


async def few(ours: Client, theirs: Client, folder: Path, turns: int) -> Figure:
    """The same over a table of a thousand rows, where DuckDB has next to nothing to do: what ours takes whatever the
    table."""
    names = list(NAMES)
    sql = f"SELECT {', '.join(names)} FROM '{folder / 'few.parquet'}' WHERE bucket = {{}} LIMIT 100"
    asks: dict[str, Ask] = {
        "ours": lambda turn: ours.call_tool(
            "scan", {"table_id": "few", "select": names, "where": f"bucket = {turn % 10}", "limit": 100}
        ),
        "theirs": lambda turn: theirs.call_tool("rows", {"sql": sql.format(turn % 10)}),
    }
    (ours_s, ours_cpu_s), (theirs_s, theirs_cpu_s) = (await in_same_turns(asks, turns // 2 or 1)).values()
    return ratio(
        "of it, ours over 1,000 rows, p50", "the same statement behind a trivial tool", ours_s, theirs_s, None,
        cpu=share(ours_cpu_s, theirs_cpu_s),
    )  # fmt: skip


def share(ours_s: float, theirs_s: float) -> float | None:
    return ours_s / theirs_s if theirs_s else None


async def in_same_turns(asks: dict[str, Ask], turns: int) -> dict[str, tuple[float, float]]:
    """The median seconds of each, taken turn by turn, and of those that were computed in the servers. Each is asked
    twice and the second is timed: the first finds in the processor's caches what the one before it has left there."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in asks}
    servers = psutil.Process().children()
    for turn in range(turns):
        for name, ask in asks.items():
            before = computed_seconds(servers)
            assert not (await ask(turn)).is_error
            started = time.perf_counter()
            assert not (await ask(turn + turns + 1)).is_error
            wall_s = time.perf_counter() - started
            await asyncio.sleep(0.002)  # until what comes after the answer has been computed as well
            taken[name].append((wall_s, (computed_seconds(servers) - before) / 2))
    return {
        name: (statistics.median(wall_s for wall_s, _ in found), statistics.median(cpu_s for _, cpu_s in found))
        for name, found in taken.items()
    }


def statement_of_its_own(folder: Path, turns: int) -> Iterator[Figure]:
    """What a filtered scan does before DuckDB has it: its condition is read, rendered, read again, and the finished
    statement is confirmed. Once one after the other, and once each after DuckDB has read a million rows, which leaves
    nothing of it in the processor's caches, as it is in a server."""
    schema = TableSchema(table_id="events", columns=[Column(name=name, type=kind) for name, kind in NAMES.items()])
    what = "of it, a condition that is new read, and the statement confirmed by DuckDB's parser, processor time"
    sql = f"FROM '{folder / 'events.parquet'}' WHERE bucket = 7"
    with duckdb.connect(config={"threads": 2}) as connection:
        for among in ("", ", after a million rows were read"):
            taken = []
            for number in range(turns + 1):
                request = ScanRequest(table_id="events", select=list(NAMES), where=f"bucket = {number}", limit=100)
                if among:
                    connection.sql(sql).fetchall()
                started = time.thread_time()
                build_statement(request, schema, Relation("", "", "events"), "duckdb", 1000, one_more=True)
                taken.append(time.thread_time() - started)
            yield Figure(f"{what}{among}", "", 1000 * statistics.median(taken[1:]), None, unit="ms")
