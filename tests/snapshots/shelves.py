"""Stores, tables and calls for the tests of snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Column, Principal
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import Snapshot, SnapshotFacts, SnapshotRefresh

ANA = "ana@example.com"
BEN = "ben@example.com"
GB = 1024**3
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)

FACTS = SnapshotFacts(
    table_id="web_sessions",
    select=["id", "country"],
    where="country = 'DE'",
    where_sql="`country` = 'DE'",
    source_columns=[Column(name="id", type="INT64"), Column(name="country", type="STRING")],
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


def new_store(
    root: Path, clock: Clock | None = None, min_free_bytes: int = 0, lock_wait_s: float = 2.0
) -> SnapshotStore:
    if clock is None:
        return SnapshotStore(root, quota_bytes=10 * GB, min_free_bytes=min_free_bytes, lock_wait_s=lock_wait_s)
    return SnapshotStore(root, quota_bytes=10 * GB, min_free_bytes=min_free_bytes, lock_wait_s=lock_wait_s, clock=clock)


def new_call(principal: str = ANA) -> Call:
    return Call("fetch", Principal(principal))


def sessions(rows: int, first: int = 0) -> pa.Table:
    """`id` counts from `first`; `country` follows from it."""
    ids = range(first, first + rows)
    countries = pa.array([("DE", "FR", None)[i % 3] for i in ids], pa.string())
    return pa.table({"id": pa.array(ids, pa.int64()), "country": countries})


def put(
    store: SnapshotStore,
    name: str,
    table: pa.Table,
    facts: SnapshotFacts = FACTS,
    *,
    principal: str = ANA,
    force: bool = False,
) -> Snapshot:
    call = new_call(principal)
    return store.write(principal, name, table.to_batches(), table.schema, facts, force=force, call=call).snapshot


def refresh(
    store: SnapshotStore, name: str, table: pa.Table, facts: SnapshotFacts = FACTS, principal: str = ANA
) -> SnapshotRefresh:
    with store.claim(principal, name, new_call(principal), force=True) as claimed:
        return claimed.replace_if_changed(table.to_batches(), table.schema, facts)


def rows_of(path: Path) -> list[tuple[object, ...]]:
    """The rows of a Parquet file as DuckDB reads them."""
    with duckdb.connect(":memory:") as connection:
        return connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()


def stored_rows(store: SnapshotStore, name: str, principal: str = ANA) -> list[tuple[object, ...]]:
    with store.reading(principal, name) as (_, path):
        return rows_of(path)


def failing(batches: Iterable[pa.RecordBatch], error: BaseException) -> Iterator[pa.RecordBatch]:
    """The batches, then the error."""
    yield from batches
    raise error


def files_below(root: Path) -> list[str]:
    """Every file below a folder, except the empty lock files."""
    found = []
    for parent, _, names in os.walk(root):
        if Path(parent).name != ".locks":
            found += [str(Path(parent, name).relative_to(root)) for name in names]
    return sorted(found)


def data_file(store: SnapshotStore, name: str) -> Path:
    """The only data file of a name, whoever owns it."""
    (path,) = store.root.glob(f"*/{name}.*.parquet")
    return path


def sidecar_file(store: SnapshotStore, name: str) -> Path:
    (path,) = store.root.glob(f"*/{name}.meta.json")
    return path
