"""Fetch once: exactly what was asked for, into a snapshot, under the quota; and run a snapshot's request again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import RowShaper, first_shaped, quota_beside
from agnes_mcp.answers.models import FetchAnswer, QuotaBeside, SnapshotRefreshAnswer
from agnes_mcp.answers.snapshots import columns_share, fetched_entry, snapshot_entry
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls, OnProgress
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Priced, Principal, ScanRequest
from agnes_mcp.operations.scan import Scans
from agnes_mcp.operations.snapshots import facts_of, first_rows, is_kept, refuse_paying_twice, require_room
from agnes_mcp.snapshots import SnapshotStore, check_name, default_name
from agnes_mcp.snapshots.models import Snapshot, SnapshotFacts, SnapshotRefresh, SnapshotWrite
from agnes_mcp.snapshots.reading import damage_error
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.consent import Quote
from agnes_mcp.spending.prices import guess_result
from agnes_mcp.spending.purchase import Purchase, Purchases
from agnes_mcp.workbench.workbench import Workbench

if TYPE_CHECKING:
    import pyarrow as pa

_REPORT_EVERY_ROWS = 50_000
#: What a fetch shows of its rows, so that nobody scans them again to see them.
_FIRST_ROWS_CHARS = 2_000


class Fetches:
    def __init__(
        self,
        calls: Calls,
        tables: Tables,
        purchases: Purchases,
        accounts: Accounts,
        snapshots: SnapshotStore,
        scans: Scans,
        workbench: Workbench,
        api: ApiSettings,
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._purchases = purchases
        self._accounts = accounts
        self._snapshots = snapshots
        self._scans = scans
        self._workbench = workbench
        self._warmed = False
        self._api = api

    async def fetch(
        self,
        principal: Principal,
        request: ScanRequest,
        *,
        name: str = "",
        force: bool = False,
        estimate_only: bool = False,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> FetchAnswer:
        """Price, reserve, read into a snapshot, settle. With `estimate_only` nothing is read."""
        async with self._calls.open(
            "fetch",
            principal,
            table_id=request.table_id or None,
            timeout_s=self._api.scan.request_timeout_seconds,
            on_progress=on_progress,
            consent=consent,
        ) as call:
            if estimate_only:
                estimate = await self._scans.estimate_within(call, request)
                return FetchAnswer(estimate=estimate, next_step="Call fetch again without estimate_only to read it.")
            priced = await self._purchases.prepare(call, request)
            taken = {table.id for table in self._tables.visible(principal)}
            chosen = check_name(name, taken) if name else _default(priced, taken)
            call.line.snapshot = chosen
            await self._calls.run(call, lambda: self._check_room(call, priced, chosen, force))
            (written, first), purchase = await self._purchases.buy(
                call, priced, lambda purchase: self._write(call, priced, chosen, force, purchase)
            )
            if written.snapshot.cut_by:
                raise _too_large(self._api.scan.max_result_bytes, purchase, written.snapshot)
            return FetchAnswer(
                snapshot=fetched_entry(written.snapshot, columns_share(self._api.max_result_chars)),
                first_rows=first.rows,
                bytes_billed=purchase.receipt.bytes_billed,
                cost_usd=self._purchases.usd(purchase),
                quota=await self._left_after(principal, purchase),
                warnings=[*written.warnings, *([purchase.bill_note] if purchase.bill_note else [])],
                next_step=f"Query it by its name, {chosen}: free, as often as needed. Drop it when done.",
            )

    async def _left_after(self, principal: Principal, purchase: Purchase) -> QuotaBeside | None:
        left = await self._accounts.left_after(principal)
        return quota_beside(left) if left and purchase.receipt.bytes_billed else None

    async def price_fetch(self, principal: Principal, request: ScanRequest, name: str, force: bool) -> Quote | None:
        """What a person must be asked before that fetch; nothing where it will be refused for what is kept already."""
        async with self._calls.open("fetch", principal, table_id=request.table_id or None, noted=False) as call:
            if not await self._purchases.may_be_costly(call, request.table_id):
                return None
            priced = await self._purchases.prepare(call, request)
            if not force and await self._calls.run(call, lambda: is_kept(self._snapshots, principal, priced, name)):
                return None
            return await self._purchases.quote(principal, [priced])

    async def refresh(
        self,
        principal: Principal,
        name: str,
        where: str = "",
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> SnapshotRefreshAnswer:
        """Run the stored request again, its time-relative predicate anew; a `where` replaces the stored one."""
        async with self._calls.open(
            "snapshot_refresh",
            principal,
            timeout_s=self._api.scan.request_timeout_seconds,
            on_progress=on_progress,
            consent=consent,
        ) as call:
            priced = await self._prepare_again(call, name, where)
            refreshed, purchase = await self._purchases.buy(
                call, priced, lambda purchase: self._rewrite(call, priced, name, purchase)
            )
            return SnapshotRefreshAnswer(
                **refreshed.model_dump(exclude={"snapshot"}),
                snapshot=snapshot_entry(refreshed.snapshot, columns_share(self._api.max_result_chars)),
                bytes_billed=purchase.receipt.bytes_billed,
                cost_usd=self._purchases.usd(purchase),
            )

    async def price_refresh(self, principal: Principal, name: str, where: str) -> Quote | None:
        """What a person must be asked before that refresh."""
        async with self._calls.open("snapshot_refresh", principal, noted=False) as call:
            return await self._purchases.quote(principal, [await self._prepare_again(call, name, where)])

    def _check_room(self, call: Call, priced: Priced, name: str, force: bool) -> None:
        if not force:
            refuse_paying_twice(self._snapshots, call.principal, priced)
        processes = self._workbench.processes
        if not self._warmed and processes.size > 1:  # who fetches, queries next; and then they replace each other
            processes.warm()
            self._warmed = True
        require_room(self._snapshots, call, name, self._expected_bytes(priced), force=force)

    def _write(
        self, call: Call, priced: Priced, name: str, force: bool, purchase: Purchase
    ) -> tuple[SnapshotWrite, RowShaper]:
        """In a worker thread: the name is held before the first row is asked for. With it, its first rows."""
        with self._snapshots.claim(call.principal.name, name, call, force=force) as claim:
            facts = facts_of(priced)
            there = any(kept.name == name for kept in self._snapshots.list(call.principal.name))  # a part replaces none
            rows = _wanted(self._watched(call, priced, purchase, None if there else facts), priced.request)
            first = first_shaped(purchase.schema, min(_FIRST_ROWS_CHARS, self._api.max_result_chars // 4))
            return claim.write(_shown(rows, first), purchase.schema, facts, lambda: purchase.receipt), first

    def _rewrite(self, call: Call, priced: Priced, name: str, purchase: Purchase) -> SnapshotRefresh:
        with self._snapshots.claim(call.principal.name, name, call, force=True) as claim:
            rows = _wanted(self._watched(call, priced, purchase), priced.request)
            return claim.replace_if_changed(rows, purchase.schema, facts_of(priced), lambda: purchase.receipt)

    def _watched(
        self, call: Call, priced: Priced, purchase: Purchase, facts: SnapshotFacts | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows, counted and reported. Beyond `max_result_bytes` they end: what is kept of them says so in `facts`;
        without, an error leaves what was there before as it was."""
        expected, _ = guess_result(priced.request, priced.statement, priced.schema, priced.price)
        max_bytes = self._api.scan.max_result_bytes
        reported = 0
        for batch in purchase:
            rows, size = purchase.rows_read, purchase.bytes_read
            call.line.actual_result_rows, call.line.actual_result_bytes = rows, size
            if size > max_bytes and facts is None:
                raise _too_large(max_bytes, purchase, None)
            if rows - reported >= _REPORT_EVERY_ROWS:
                reported = rows
                call.report(rows, max(expected, rows) if expected else None, f"{rows:,} rows, {size:,} bytes")
            yield batch
            if size > max_bytes and facts is not None:
                facts.cut_by = "result_bytes"
                return

    def _expected_bytes(self, priced: Priced) -> int:
        _, size = guess_result(priced.request, priced.statement, priced.schema, priced.price)
        return min(size or 0, self._api.scan.max_result_bytes) if not priced.request.where else 0

    async def _prepare_again(self, call: Call, name: str, where: str) -> Priced:
        """The stored request, priced against the table as it is now. Raises `schema_drift`."""
        call.line.snapshot = name[:64]
        old = await self._calls.run(call, lambda: self._snapshots.get(call.principal.name, name))
        if old.googlesql:
            return await self._prepare_text_again(call, old, where)
        if not old.table_id:  # what was asked for is not known any more
            raise damage_error(name, old.damaged or "its request is not known")
        request = old.request() if not where else old.request().model_copy(update={"where": where})
        call.line.table_id = request.table_id
        if old.place is not None:
            self._tables.check_place(f"The snapshot {name!r}", request.table_id, old.place)
        self._tables.forget(request.table_id)
        table = await self._tables.find(call, request.table_id)
        schema = await self._tables.schema_of(call, table)
        now = {path.casefold() for path, _ in schema.walk()} | {c.name.casefold() for c in schema.pseudo_columns}
        gone = [column for column in _columns_wanted(request, old) if column.casefold() not in now]
        if gone:
            raise _drift(old.name, gone)
        try:
            return await self._purchases.prepare(call, request)
        except AgnesError as error:
            if error.kind == "unknown_column":
                raise _drift(old.name, [str(error.details.get("column", ""))]) from None
            raise

    async def _prepare_text_again(self, call: Call, old: Snapshot, where: str) -> Priced:
        """The stored text, read and priced anew under the grants of today."""
        if where:
            raise AgnesError(
                "invalid_argument",
                f"{old.name} was made by sql, so a refresh takes no where.",
                "Refresh it as it is, or fetch(sql=…) with the condition in it, under another name.",
            )
        for table_id in old.table_ids:
            self._tables.forget(table_id)
        return await self._purchases.prepare(call, old.request())


def _default(priced: Priced, taken: set[str]) -> str:
    """A name for rows of one table. Rows of a text take a name that says what they are: only the caller knows it."""
    proposed = default_name("_".join(table.id for table, _ in priced.reads), taken)
    if not priced.request.googlesql:
        return proposed
    raise AgnesError(
        "invalid_argument",
        "fetch(sql=…) needs a name for its rows.",
        f'Call it again with name="{proposed}", or better one that says what the rows are.',
        {"name": proposed},
    )


def _wanted(batches: Iterator[pa.RecordBatch], request: ScanRequest) -> Iterator[pa.RecordBatch]:
    """As many rows as were asked for. The limit of a text is not in the statement: its own ORDER BY stays its last."""
    return first_rows(batches, request.limit) if request.googlesql else batches


def _shown(batches: Iterator[pa.RecordBatch], first: RowShaper) -> Iterator[pa.RecordBatch]:
    """The same batches, the first rows of which are an answer."""
    for batch in batches:
        if not first.full:
            first.add(batch)
        yield batch


def _columns_wanted(request: ScanRequest, old: Snapshot) -> list[str]:
    """The columns of the table without which the stored request means nothing any more."""
    if request.aggregates is not None:
        return [*(request.group_by or []), *(entry.column for entry in request.aggregates if entry.column)]
    named = request.select or request.group_by or ["*"]
    every = [column.name for column in old.source_columns] if "*" in named else []
    return [*every, *(name for name in named if name != "*")]


def _too_large(max_bytes: int, purchase: Purchase, kept: Snapshot | None) -> AgnesError:
    receipt = purchase.receipt
    details = {"max_result_bytes": max_bytes, "bytes_billed": receipt.bytes_billed, "job_id": receipt.job_id}
    billed = f"{receipt.bytes_billed:,} bytes were billed. "
    if kept is None:
        return AgnesError(
            "result_too_large",
            f"The result passed {max_bytes:,} bytes, the most that one snapshot may hold here; nothing was changed.",
            billed + "Select fewer columns, narrow the WHERE, give a limit, or aggregate.",
            details,
        )
    return AgnesError(
        "result_too_large",
        f"The result passed {max_bytes:,} bytes, the most that one snapshot may hold here; the snapshot {kept.name!r} "
        f"holds the {kept.rows or 0:,} rows that were read, not all.",
        billed
        + f"Query {kept.name} as a part, free; for all rows select fewer columns, narrow the WHERE, or aggregate.",
        {**details, "snapshot": kept.name, "rows": kept.rows},
    )


def _drift(name: str, gone: list[str]) -> AgnesError:
    return AgnesError(
        "schema_drift",
        f"The table of the snapshot {name!r} no longer has {', '.join(gone[:5])}; the snapshot is as it was.",
        "Call `schema`, then fetch what the table has now under another name.",
        {"columns": gone[:20]},
    )
