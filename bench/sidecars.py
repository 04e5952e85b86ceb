"""Prints what `estimate`, `catalog` and `query` take beside many large kept scans, against the same beside none.

A kept scan's description holds every column twice; these have `--columns` columns and some megabytes each. The two are
timed in turn, in one process that has read them once; the first call of a new process stands beside that. Target: 1.5.

    python bench/sidecars.py [--sidecars 22] [--columns 20000] [--rounds 9]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Column, Principal, ScanRequest
from agnes_mcp.snapshots.models import SnapshotFacts
from agnes_mcp.snapshots.store import SnapshotStore

ME = Principal("me", local=True)
Asked = dict[str, Callable[[Gateway], Awaitable[object]]]
CALLS: Asked = {
    "estimate": lambda g: g.scans.estimate(ME, ScanRequest(table_id="orders", select=["id"])),
    "catalog": lambda g: g.catalog.browse(ME),
    "query": lambda g: g.queries.query(ME, "SELECT count(*) FROM orders"),
}


def instance(folder: Path, sidecars: int, columns: int) -> Settings:
    """One table, and so many kept scans of a wide one, with descriptions on every column."""
    folder.mkdir()
    pq.write_table(pa.table({"id": list(range(1_000))}), folder / "orders.parquet")
    tables = [{"id": "orders", "source_type": "local", "path": str(folder / "orders.parquet")}]
    settings = Settings.model_validate({"data_dir": str(folder / "data"), "tables": tables})
    store = SnapshotStore(settings.data_dir / "snapshots", quota_bytes=10**12)
    now = datetime.now(UTC)
    wide = [
        Column(name=f"column_{n}", type="BIGINT", description=f"What column {n} holds: " + "x" * 60)
        for n in range(columns)
    ]
    for number in range(sidecars):
        facts = SnapshotFacts(
            table_id="orders", select=["id"], source_columns=wide, sql="SELECT id FROM orders", limit=10,
            effective_as_of=now, expires_at=now + timedelta(days=1),
        )  # fmt: skip
        rows = pa.table({f"column_{n}": [number] for n in range(min(columns, 2_000))})
        store.write(ME.name, f"scan_{number}", rows.to_batches(), rows.schema, facts, call=Call("fetch", ME))
    return settings


async def milliseconds(gateway: Gateway, ask: Callable[[Gateway], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await ask(gateway)
    return (time.perf_counter() - started) * 1_000


async def compare(with_many: Settings, with_none: Settings, rounds: int) -> None:
    async with Gateway(with_none) as none:
        for name, ask in CALLS.items():
            async with Gateway(with_many) as many:
                await ask(none)
                first = await milliseconds(many, ask)
                pairs = [(await milliseconds(many, ask), await milliseconds(none, ask)) for _ in range(rounds)]
            beside, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{name}: {beside:.1f} ms beside {alone:.1f} ms, {beside / alone:.2f} x; first {first:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sidecars", type=int, default=22)
    parser.add_argument("--columns", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = instance(Path(folder) / "many", given.sidecars, given.columns)
        none = instance(Path(folder) / "none", 0, given.columns)
        sizes = [
            path.stat().st_size
            for path in (many.data_dir / "snapshots").rglob("*.meta.json")
            if path.parent.name != ".staging"
        ]
        print(f"{len(sizes)} sidecars of {max(sizes, default=0) / 1e6:.1f} MB")
        asyncio.run(compare(many, none, given.rounds))


if __name__ == "__main__":
    main()
