"""What calls take beside many large kept scans, against the same beside none.

    python bench/sidecars.py [--small] [--json]

A kept scan's description, its sidecar, holds every column twice; these have 20,000 columns and 5 MB each. The two are
timed in turn, in one process that has read them once. Beside that stands the first call of all, over a directory of
which there is no index yet, as after an update: it reads every sidecar once.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Figure, main, ratio

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


async def seconds(gateway: Gateway, ask: Callable[[Gateway], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await ask(gateway)
    return time.perf_counter() - started


async def gather(many: Settings, none: Settings, sidecars: int, megabytes: float, rounds: int) -> list[Figure]:
    found = []
    beside = f"beside {sidecars} kept scans of {megabytes:.1f} MB each"
    for index in many.data_dir.rglob(".index.json"):
        index.unlink()
    async with Gateway(many) as unindexed:
        cpu = time.process_time()
        first_s = await seconds(unindexed, CALLS["catalog"])
        cpu = time.process_time() - cpu
    read = Figure(
        f"the first call of all, no index yet, {beside}", "seconds of processor time: every sidecar is read and proven",
        cpu, 5, "at most", 1000 * first_s, unit="ms",
    )  # fmt: skip
    async with Gateway(none) as alone:
        for name, ask in CALLS.items():
            async with Gateway(many) as full:
                await ask(full)
                await ask(alone)
                pairs = [(await seconds(full, ask), await seconds(alone, ask)) for _ in range(rounds)]
            ours_s, theirs_s = (statistics.median(column) for column in zip(*pairs, strict=True))
            found.append(ratio(f"`{name}` {beside}", "the same beside none", ours_s, theirs_s, 1.5))
    return [*found, read]


def measure(small: bool) -> Iterator[Figure]:
    sidecars, columns, rounds = (2, 200, 3) if small else (22, 20_000, 21)
    with tempfile.TemporaryDirectory() as folder:
        many = instance(Path(folder) / "many", sidecars, columns)
        none = instance(Path(folder) / "none", 0, columns)
        sizes = [path.stat().st_size for path in many.data_dir.rglob("*.meta.json") if path.parent.name != ".staging"]
        yield from asyncio.run(gather(many, none, sidecars, max(sizes) / 1e6, rounds))


if __name__ == "__main__":
    main(measure, __doc__)
