"""What the guarantees of a snapshot cost: `write` against a bare pyarrow.parquet.ParquetWriter of the same batches.

    python bench/snapshot_write.py [--small] [--json]

The bare writer neither syncs, hashes, locks nor reads back, and loses its file to a crash.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from measuring import Figure, alternate, main, ratio, speed

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Principal
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import SnapshotFacts

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


def write_bare(path: Path, batches: list[pa.RecordBatch]) -> None:
    """The shortest program that streams batches into row groups of the same size."""
    with pq.ParquetWriter(path, batches[0].schema, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(group, row_group_size=122_880)


def _groups(batches: list[pa.RecordBatch]) -> Iterator[pa.Table]:
    for first in range(0, len(batches), 12):
        yield pa.Table.from_batches(batches[first : first + 12])


def write_snapshot(store: SnapshotStore, batches: list[pa.RecordBatch]) -> None:
    facts, call = SnapshotFacts(table_id="web_sessions"), Call("fetch", Principal(OWNER))
    store.write(OWNER, "s", batches, batches[0].schema, facts, force=True, call=call)


def query(path: Path) -> None:
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute(f"SELECT country, sum(revenue) FROM read_parquet('{path}') GROUP BY ALL").fetchall()


def fresh(folder: Path) -> SnapshotStore:
    return SnapshotStore(folder / "snapshots", quota_bytes=10**12, min_free_bytes=0)


def measure(small: bool) -> Iterator[Figure]:
    rows = 20_000 if small else 5_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batches = sessions(rows)
        store = fresh(folder)
        bare, turns = folder / "bare.parquet", 1 if small else 5
        times = alternate(
            {"bare": lambda: write_bare(bare, batches), "ours": lambda: write_snapshot(store, batches)}, turns
        )
        yield speed(
            f"a snapshot of {rows:,} rows written, with its guarantees", "a bare pyarrow ParquetWriter",
            times["ours"], times["bare"], None, rows, "rows",
        )  # fmt: skip
        path = store.verify(OWNER, "s")
        times = alternate(
            {
                "query": lambda: query(path),
                "first": lambda: fresh(folder).verify(OWNER, "s"),
                "again": lambda: store.verify(OWNER, "s"),
            },
            turns,
        )
        against = "one aggregate over it"
        yield ratio("a snapshot verified for the first time", against, times["first"], times["query"], None)
        yield ratio("a snapshot verified again", against, times["again"], times["query"], None)


if __name__ == "__main__":
    main(measure, __doc__)
