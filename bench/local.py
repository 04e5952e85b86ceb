"""Whole tables of files: profiles, very wide tables and large fetches, beside DuckDB doing the same.

python bench/local.py [--small] [--json]
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from measuring import TURNS, Figure, Peak, alternate, main, ratio, speed

from support.instances import connected, settings_of, table, write  # isort: skip

from agnes_mcp.gateway import Gateway

LONG_ROWS = (
    "SELECT i AS id, i % 97 AS bucket, 'n' || i % 5000 AS name, i / 8.0 AS amount, i % 2 = 0 AS even, "
    "DATE '2026-01-01' + CAST(i % 365 AS INT) AS day, hash(i) AS h, CASE WHEN i % 7 = 0 THEN NULL ELSE i % 3 END AS k "
    "FROM range({rows}) AS r(i)"
)


def wide(columns: int, rows: int) -> str:
    return f"SELECT {', '.join(f'(i * {n + 1}) % 1000 AS c{n}' for n in range(columns))} FROM range({rows}) AS r(i)"


def viewed(path: Path, sql: str) -> None:
    """The statement in an instance of its own, through a view over the file: as a query has to read a table."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"CREATE VIEW wide AS FROM read_parquet('{path}')")
        connection.execute(sql).fetchall()


def guarded_copy(source: Path, target: Path) -> None:
    """COPY, and by DuckDB's own means what a snapshot promises: on the disk, its bytes and its rows hashed."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"COPY (FROM '{source}') TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        with target.open("rb+") as file:
            os.fsync(file.fileno())
            hashlib.file_digest(file, "sha256")
        columns = ", ".join(f'"{name}"' for name in connection.sql(f"FROM '{target}'").columns)
        connection.execute(f"SELECT sum(h), sum(hash(h)) FROM (SELECT hash({columns}) AS h FROM '{target}')").fetchall()


def kept(source: Path, target: Path) -> None:
    """The first five rows as a snapshot has them, and nothing more: on the disk, its bytes and its rows hashed."""
    with duckdb.connect(config={"threads": 2}) as connection:
        rows = connection.sql(f"FROM '{source}' LIMIT 5").to_arrow_table()
        pq.write_table(rows, target, compression="none", use_dictionary=False)
        with target.open("rb+") as file:
            os.fsync(file.fileno())
            hashlib.file_digest(file, "sha256")
        columns = ", ".join(f'"{name}"' for name in rows.column_names)
        connection.from_arrow(rows).aggregate(f"sum(hash({columns}))").fetchall()
        connection.sql(f"FROM '{target}'")


class Desk:
    """An instance over some files, asked through the SDK's client in memory, and DuckDB beside it."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self.cpu = 0.0  # how many times the other's processor time ours was, at the last comparison

    async def compare(self, ours: Callable[[], Awaitable[Any]], theirs: Callable[[], object]) -> tuple[float, float]:
        """The median seconds of both, turn by turn; one turn before them is not counted."""
        taken: tuple[list[float], list[float]] = ([], [])
        computed: tuple[list[float], list[float]] = ([], [])
        for turn in range(self._turns + 1):
            started, started_cpu = time.perf_counter(), time.process_time()
            answer = await ours()
            middle, middle_cpu = time.perf_counter(), time.process_time()
            await asyncio.to_thread(theirs)
            ended, ended_cpu = time.perf_counter(), time.process_time()
            assert not answer.is_error, answer.content
            if turn:
                taken[0].append(middle - started)
                taken[1].append(ended - middle)
                computed[0].append(middle_cpu - started_cpu)
                computed[1].append(ended_cpu - middle_cpu)
        self.cpu = statistics.median(computed[0]) / statistics.median(computed[1])
        return statistics.median(taken[0]), statistics.median(taken[1])


async def gather(small: bool) -> list[Figure]:
    turns = 1 if small else TURNS
    desk, found = Desk(turns), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, fetched = (20_000, 50_000) if small else (1_000_000, 5_000_000)
        columns = 200 if small else 5_000
        files = {
            "text": write(folder, "text.csv", wide(10 if small else 100, 1_000 if small else 10_000), "HEADER"),
            "long": write(folder, "long.parquet", LONG_ROWS.format(rows=rows)),
            "wide": write(folder, "wide.parquet", wide(columns, 50)),
            "large": write(folder, "large.parquet", LONG_ROWS.format(rows=fetched)),
        }
        tables = [table(name, path) for name, path in files.items()]
        settings = settings_of(folder / "data", tables, snapshots={"min_free_gb": 0})
        async with Gateway(settings) as gateway, connected(gateway, "legacy") as client:

            def call(tool: str, **arguments: Any) -> Callable[[], Awaitable[Any]]:
                return lambda: client.call_tool(tool, arguments)

            def ask(sql: str) -> Callable[[], object]:
                def run() -> object:
                    with duckdb.connect(config={"threads": 2}) as connection:
                        return connection.execute(sql).fetchall()

                return run

            shapes = ("1,000 x 10", "20,000 x 8") if small else ("10,000 x 100", "1,000,000 x 8")
            for which, what in (("text", f"{shapes[0]} of CSV"), ("long", f"{shapes[1]} of Parquet")):
                ours_s, theirs_s = await desk.compare(
                    call("describe", table_id=which, profile=True), ask(f"SUMMARIZE FROM '{files[which]}'")
                )
                found.append(ratio(f"`describe` with a profile, {what}", "DuckDB's SUMMARIZE", ours_s, theirs_s, 1.5))
            for tool, arguments, sql in (
                ("schema", {"table_id": "wide"}, f"DESCRIBE FROM '{files['wide']}'"),
                ("scan", {"table_id": "wide", "limit": 5}, f"FROM '{files['wide']}' LIMIT 5"),
                ("query", {"sql": "SELECT count(*), sum(c7) FROM wide"},
                 f"SELECT count(*), sum(c7) FROM '{files['wide']}'"),
            ):  # fmt: skip
                ours_s, theirs_s = await desk.compare(call(tool, **arguments), ask(sql))
                found.append(ratio(f"`{tool}` of {columns:,} columns", "DuckDB", ours_s, theirs_s, 3))
            shown = f"FROM '{files['wide']}' LIMIT 5"
            floor = alternate(
                {"kept": lambda: kept(files["wide"], folder / "kept.parquet"), "shown": lambda: ask(shown)()}, turns
            )
            found.append(
                ratio("of that scan, its rows read, written, synced and hashed, and nothing else", "DuckDB",
                      floor["kept"], floor["shown"], None)
            )  # fmt: skip
            sql = "SELECT count(*), sum(c7) FROM wide"
            floor = alternate(
                {
                    "viewed": lambda: viewed(files["wide"], sql),
                    "direct": lambda: ask(f"SELECT count(*), sum(c7) FROM '{files['wide']}'")(),
                },
                turns,
            )
            found.append(
                ratio(f"of that query, DuckDB alone through a view of {columns:,} columns", "DuckDB",
                      floor["viewed"], floor["direct"], None)
            )  # fmt: skip
            target = folder / "copied.parquet"
            copy = f"COPY (FROM '{files['large']}') TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
            fetch = call("fetch", table_id="large", name="kept", force=True)
            ours_s, theirs_s = await desk.compare(fetch, ask(copy))
            found.append(
                speed(f"`fetch` of {fetched:,} local rows", "DuckDB's COPY TO of the same", ours_s, theirs_s, 0.85,
                      fetched, "rows", cpu=1 / desk.cpu)
            )  # fmt: skip
            floor = alternate(
                {"guarded": lambda: guarded_copy(files["large"], target), "copied": lambda: ask(copy)()}, turns
            )
            found.append(
                speed("COPY TO with a snapshot's promises: synced, its bytes and its rows hashed", "COPY TO alone",
                      floor["guarded"], floor["copied"], None, fetched, "rows")
            )  # fmt: skip
            with Peak() as peak:
                await fetch()
            found.append(
                Figure(f"memory while {fetched:,} local rows are fetched", "the same process before",
                       peak.above_idle_mb, 200, unit="MB")
            )  # fmt: skip
    return found


def measure(small: bool) -> Iterator[Figure]:
    yield from asyncio.run(gather(small))


if __name__ == "__main__":
    main(measure, __doc__)
