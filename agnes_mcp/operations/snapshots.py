"""Rows kept as snapshots: what a scan could not show, and what a snapshot already covers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Priced
from agnes_mcp.snapshots import SCAN_KEPT_HOURS, scan_name
from agnes_mcp.snapshots.models import Snapshot, SnapshotFacts
from agnes_mcp.spending.quota import utc_now

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.sources import Reading

#: How old rows may be to stand for a table whose time of change is not known (a view).
FRESH_FOR = timedelta(hours=24)
#: A predicate with one of these means other rows tomorrow.
_TIME_RELATIVE = re.compile(r"\b(CURRENT_|NOW\(|TODAY\(|GET_CURRENT)", re.IGNORECASE)
#: A scan whose rows could not be kept is still an answer.
_NOT_KEPT = ("disk_full", "storage_failed", "invalid_argument", "snapshot_busy")


def facts_of(priced: Priced, *, expires_in: timedelta | None = None) -> SnapshotFacts:
    """What a snapshot of this request says of itself, before its rows are there."""
    request = priced.request
    return SnapshotFacts(
        **request.model_dump(exclude={"aggregates"}),
        aggregates=request.aggregates,
        where_sql=priced.statement.predicate_sql,
        entity_type=priced.schema.entity_type,
        source_columns=priced.schema.columns,
        expires_at=utc_now() + expires_in if expires_in else None,
        estimated_scan_bytes_at_fetch=priced.price.scan_bytes,
        sql=priced.statement.sql,
    )


def keep_scan(
    engine: Engine, admitted: Admitted, priced: Priced, reading: Reading, batches: Iterable[pa.RecordBatch]
) -> str | None:
    """A snapshot, for a day, of rows that did not fit the answer; its name, or None where they cannot be kept."""
    name = scan_name(priced.table.id)
    facts = facts_of(priced, expires_in=timedelta(hours=SCAN_KEPT_HOURS))
    try:
        engine.snapshots.write(
            admitted.principal.name, name, batches, reading.schema, facts, call=admitted.call,
            receipt=lambda: reading.receipt,
        )  # fmt: skip
    except AgnesError as error:
        if error.kind in _NOT_KEPT:
            return None
        raise
    admitted.line.snapshot = name
    return name


def first_rows(batches: Iterable[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    """The same batches up to `limit` rows."""
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch.slice(0, left)
        left -= batch.num_rows


def find_covering(engine: Engine, admitted: Admitted, priced: Priced) -> str | None:
    """A snapshot of the caller that holds exactly the rows which this request would read, and is fresh enough."""
    found = engine.snapshots.covering(
        admitted.principal.name, priced.request, priced.statement.predicate_sql, FRESH_FOR
    )
    return found.name if found is not None and _still_true(found, priced) else None


def _still_true(snapshot: Snapshot, priced: Priced) -> bool:
    as_of = snapshot.effective_as_of
    if as_of is None:
        return False
    if _TIME_RELATIVE.search(priced.statement.predicate_sql) and as_of.astimezone(UTC).date() != utc_now().date():
        return False
    modified = priced.schema.modified
    return modified is None or as_of >= modified
