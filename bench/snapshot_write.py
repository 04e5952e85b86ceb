"""What the guarantees of a snapshot cost: `write` against a bare pyarrow.parquet.ParquetWriter of the same batches.

    python bench/snapshot_write.py [rows]

The bare writer neither syncs, hashes, locks nor reads back, and loses its file to a crash. Every figure is the median
of five turns, taken in alternation, so that a busy machine slows both alike.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Principal
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import SnapshotFacts

TURNS = 5
BATCH_ROWS = 10_000  # about what a BigQuery read stream sends at once
OWNER = "ana@example.com"


def sessions(rows: int) -> list[pa.RecordBatch]:
    """Rows of eight columns as a session table has them: numbers, times, words of few and of many values."""
    ids = pa.array(range(BATCH_ROWS), pa.int64())
    words = ["organic", "paid", "mail", "direct", "social"]
    columns = {
        "country": pa.array([("DE", "FR", "IT", "ES", None)[i % 5] for i in range(BATCH_ROWS)]),
        "channel": pa.array([words[i * 7 % 5] for i in range(BATCH_ROWS)]),
        "landing": pa.array([f"/articles/{i * 7919 % 3571}/{i * 104729 % 8191:x}" for i in range(BATCH_ROWS)]),
        "agent": pa.array([f"agent {i * 31 % 211}" for i in range(BATCH_ROWS)]),
        "pages": pa.array([i * 13 % 17 for i in range(BATCH_ROWS)], pa.int64()),
        "revenue": pa.array([i * 7919 % 100_003 / 100 for i in range(BATCH_ROWS)]),
    }
    return [_batch(first, ids, columns) for first in range(0, rows, BATCH_ROWS)]


def _batch(first: int, ids: pa.Array, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    numbers = pc.add(ids, first)
    at = pc.multiply(numbers, 1_000_003).cast(pa.timestamp("us", "UTC"))
    return pa.RecordBatch.from_pydict({"id": numbers, "at": at, **columns})


def write_bare(path: Path, batches: list[pa.RecordBatch], sync: bool) -> None:
    """The shortest program that streams batches into row groups of the same size."""
    with pq.ParquetWriter(path, batches[0].schema, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(group, row_group_size=122_880)
    if sync:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _groups(batches: list[pa.RecordBatch]) -> Iterator[pa.Table]:
    for first in range(0, len(batches), 12):
        yield pa.Table.from_batches(batches[first : first + 12])


def write_snapshot(store: SnapshotStore, batches: list[pa.RecordBatch]) -> None:
    facts, call = SnapshotFacts(table_id="web_sessions"), Call("fetch", Principal(OWNER))
    store.write(OWNER, "s", batches, batches[0].schema, facts, force=True, call=call)


def query(path: Path) -> None:
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute(f"SELECT country, sum(revenue) FROM read_parquet('{path}') GROUP BY ALL").fetchall()


def medians(contenders: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of each, turn by turn in alternation."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def compare(rows: int, folder: Path) -> None:
    batches = sessions(rows)
    size_mb = sum(batch.nbytes for batch in batches) / 1024**2
    bare, store = folder / "bare.parquet", SnapshotStore(folder / "snapshots", quota_bytes=10**12, min_free_bytes=0)
    write_snapshot(store, batches)  # imports and the first DuckDB are not what is measured
    times = medians(
        {
            "bare writer": lambda: write_bare(bare, batches, sync=False),
            "bare writer + fsync": lambda: write_bare(bare, batches, sync=True),
            "snapshot": lambda: write_snapshot(store, batches),
        }
    )
    parquet_mb = bare.stat().st_size / 1024**2
    print(f"\n{len(batches) * BATCH_ROWS:,} rows: {size_mb:,.0f} MB of Arrow, {parquet_mb:,.1f} MB of Parquet")
    for name, seconds in times.items():
        ratio = seconds / times["bare writer"]
        print(f"  write, {name:<22} {seconds * 1000:9.1f} ms  {size_mb / seconds:7,.0f} MB/s  {ratio:5.2f} x bare")
    _compare_reading(folder)


def _compare_reading(folder: Path) -> None:
    def fresh() -> SnapshotStore:
        return SnapshotStore(folder / "snapshots", quota_bytes=10**12)

    known = fresh()
    path = known.verify(OWNER, "s")
    times = medians(
        {
            "one aggregate over it": lambda: query(path),
            "verified first time": lambda: _verify(fresh()),
            "verified again": lambda: _verify(known),
        }
    )
    for name, seconds in times.items():
        ratio = seconds / times["one aggregate over it"]
        print(f"  read,  {name:<22} {seconds * 1000:9.2f} ms  {ratio:21.2f} x the query")


def _verify(store: SnapshotStore) -> None:
    store.verify(OWNER, "s")


def main() -> None:
    rows = [int(argument) for argument in sys.argv[1:]] or [10_000, 1_000_000, 5_000_000]
    for count in rows:
        with tempfile.TemporaryDirectory() as folder:
            compare(count, Path(folder))


if __name__ == "__main__":
    main()
