"""What was fetched, looked after; rows that a scan could not show, kept; and what a snapshot already covers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agnes_mcp.answers.models import SnapshotDropAnswer, SnapshotEntry, SnapshotListAnswer
from agnes_mcp.answers.snapshots import columns_share, snapshot_entry, snapshot_list
from agnes_mcp.calls.audit import MAX_REMOVED
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Priced, Principal, Receipt
from agnes_mcp.snapshots import SCAN_KEPT_HOURS, Claim, SnapshotStore, scan_name
from agnes_mcp.snapshots.folder import used_bytes
from agnes_mcp.snapshots.models import DiskUsage, Snapshot, SnapshotFacts, SnapshotPrune
from agnes_mcp.spending.books import utc_now
from agnes_mcp.spending.purchase import Purchase

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
#: How old rows may be to stand for a table whose time of change is not known (a view).
FRESH_FOR = timedelta(hours=24)
#: A predicate with one of these means other rows tomorrow.
_TIME_RELATIVE = re.compile(r"\b(CURRENT_|NOW\(|TODAY\(|GET_CURRENT)", re.IGNORECASE)
#: A scan whose rows could not be kept is still an answer.
_NOT_KEPT = ("disk_full", "storage_failed", "invalid_argument", "snapshot_busy")


class Snapshots:
    """The caller's own snapshots; nobody sees another's."""

    def __init__(
        self, calls: Calls, store: SnapshotStore, published: Path, max_result_chars: int, retention: str | None = None
    ) -> None:
        self._calls = calls
        self._store = store
        self._published = published  # where tables are kept as files for mirrors: they take their place too
        self._max_result_chars = max_result_chars
        self._retention = retention

    async def entries(self, principal: Principal) -> SnapshotListAnswer:
        """By name, as many as fit one answer."""
        found = await self._free("snapshot_list", principal, lambda _: self._store.list(principal.name))
        return snapshot_list(found, self._max_result_chars)

    async def entry(self, principal: Principal, name: str) -> SnapshotEntry:
        """One snapshot's metadata. Raises `snapshot_not_found`."""
        found = await self._free("snapshot", principal, lambda _: self._store.get(principal.name, name))
        return snapshot_entry(found, columns_share(self._max_result_chars))

    async def remove(self, principal: Principal, name: str) -> SnapshotDropAnswer:
        def work(call: Call) -> Snapshot:
            call.line.snapshot = name[:64]
            return self._store.drop(principal.name, name, call)

        dropped = await self._free("snapshot_drop", principal, work)
        return SnapshotDropAnswer(dropped=dropped.name, freed_bytes=dropped.bytes_local)

    async def clear_out(
        self,
        principal: Principal,
        *,
        older_than: str | None = None,
        larger_than: str | None = None,
        expired: bool = False,
        dry_run: bool = False,
    ) -> SnapshotPrune:
        """Remove what meets every given filter."""

        def work(call: Call) -> SnapshotPrune:
            pruned = self._store.prune(principal.name, older_than, larger_than, expired, dry_run)
            if pruned.dropped and not dry_run:
                call.line.removed = [entry.name for entry in pruned.dropped[:MAX_REMOVED]]
            return pruned

        return await self._free("snapshot_prune", principal, work)

    async def disk_space(self, principal: Principal) -> DiskUsage:
        def work(_: Call) -> DiskUsage:
            usage = self._store.disk_usage(principal.name)
            used = usage.used_bytes + used_bytes(self._published)
            return usage.model_copy(update={"used_bytes": used, "retention": self._retention})

        return await self._free("disk_info", principal, work)

    async def kept(self, principal: Principal) -> list[Snapshot]:
        """Every snapshot by name, for lists and completions; uncounted."""
        async with self._calls.open("complete", principal, noted=False) as call:
            return await self._calls.run(call, lambda: self._store.list(principal.name))

    async def file_of(self, principal: Principal, name: str) -> Path | None:
        """Where a snapshot's Parquet file is, for who can read this machine's files anyway; None for anybody else."""
        if not principal.local:
            return None
        async with self._calls.open("snapshot_file", principal, noted=False) as call:
            return await self._calls.run(call, lambda: self._store.verify(principal.name, name, call))

    async def _free(self, tool: str, principal: Principal, work: Callable[[Call], T]) -> T:
        async with self._calls.open(tool, principal) as call:
            return await self._calls.run(call, lambda: work(call))


def facts_of(priced: Priced, *, expires_in: timedelta | None = None) -> SnapshotFacts:
    """What a snapshot of this request says of itself, before its rows are there."""
    request = priced.request
    whole = priced.statement.sql if request.googlesql else ""
    return SnapshotFacts(
        **request.model_dump(exclude={"aggregates", "googlesql"}),
        googlesql=whole,
        places=priced.statement.places,
        aggregates=request.aggregates,
        place=priced.table.place,
        where_sql=priced.statement.predicate_sql,
        entity_type=priced.schema.entity_type,
        source_columns=[] if whole else priced.schema.columns,
        expires_at=utc_now() + expires_in if expires_in else None,
        estimated_scan_bytes_at_fetch=priced.price.scan_bytes,
        sql=priced.statement.sql,
    )


class Kept(NamedTuple):
    """The snapshot that holds the rows of a scan, or why there is none."""

    snapshot: Snapshot | None = None
    problem: str | None = None


def keep_rows(
    store: SnapshotStore,
    call: Call,
    priced: Priced,
    purchase: Purchase,
    batches: Iterable[pa.RecordBatch],
    max_bytes: int,
    claim: Claim | None,
) -> Kept:
    """A snapshot of rows that are paid for: under the name that is held, or for a day under one of ours. Past
    `max_bytes` the rows have been cut, and it says so. Rows that cannot be kept are an answer still."""
    facts = facts_of(priced, expires_in=None if claim else timedelta(hours=SCAN_KEPT_HOURS))

    def receipt() -> Receipt:  # asked once the rows have ended, before the facts are written
        facts.cut_by = "result_bytes" if purchase.bytes_read > max_bytes else None
        return purchase.receipt

    name = claim.name if claim else scan_name(priced.table.id)
    try:
        if claim is not None:
            written = claim.write(batches, purchase.schema, facts, receipt)
        else:
            written = store.write(
                call.principal.name, name, batches, purchase.schema, facts, call=call, receipt=receipt
            )
    except AgnesError as error:
        if error.kind not in _NOT_KEPT:
            raise
        return Kept(problem=f"The rows could not be kept as {name}: {error.message}" if claim else None)
    call.line.snapshot = name
    return Kept(written.snapshot)


def require_room(store: SnapshotStore, call: Call, name: str, expected_bytes: int, *, force: bool = False) -> None:
    """Refuse, before anything is reserved, what could not be kept: name and disk are looked at again later."""
    store.check_space(call.principal.name, expected_bytes)
    with store.claim(call.principal.name, name, call, force=force):
        pass


def refuse_paying_twice(store: SnapshotStore, principal: Principal, priced: Priced) -> None:
    """Raises `snapshot_exists` where a snapshot holds what would be billed."""
    name = find_covering(store, principal, priced) if priced.price.scan_bytes else None
    if name is not None:
        raise AgnesError(
            "snapshot_exists",
            f"The snapshot {name!r} already holds exactly these rows.",
            f"Query {name}, free; snapshot_refresh it, or fetch with force=true, to pay for newer rows.",
            {"snapshot": name},
        )


def is_kept(store: SnapshotStore, principal: Principal, priced: Priced, name: str) -> bool:
    """Whether keeping its rows, without force, will be refused: they, or their name, are there already."""
    if find_covering(store, principal, priced) is not None:
        return True
    return bool(name) and any(kept.name == name for kept in store.list(principal.name))


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


def find_covering(store: SnapshotStore, principal: Principal, priced: Priced) -> str | None:
    """A snapshot of the caller that holds exactly the rows which this request would read, and is fresh enough."""
    whole = priced.statement.sql if priced.request.googlesql else priced.statement.predicate_sql
    if priced.request.googlesql and "TABLESAMPLE" in whole:
        return None  # another sample every time
    found = store.covering(principal.name, priced.request, whole, FRESH_FOR)
    return found.name if found is not None and _still_true(found, priced) else None


def _still_true(snapshot: Snapshot, priced: Priced) -> bool:
    as_of, place = snapshot.effective_as_of, priced.table.place
    if as_of is None or snapshot.place not in (None, place):
        return False
    if snapshot.place is None and place and place.rpartition(".")[2] != priced.table.id:
        return False  # of before places were kept: whose rows it holds is not certain
    text = priced.statement.sql if priced.request.googlesql else priced.statement.predicate_sql
    if _TIME_RELATIVE.search(text) and as_of.astimezone(UTC).date() != utc_now().date():
        return False
    return all(schema.modified is None or as_of >= schema.modified for _, schema in priced.reads)
