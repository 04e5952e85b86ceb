"""The way of one scan: its price, its rows as they fit an answer, the rest in a snapshot; and the price alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import MAX_SQL_CHARS, clip
from agnes_mcp.answers.models import EstimateAnswer, ScanAnswer, TableBytes
from agnes_mcp.answers.rows import NO_ROWS, RowsFitting, columns_of, note_cut_columns
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls, OnProgress
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.models import Consent, Priced, Principal, ScanRequest
from agnes_mcp.operations.snapshots import find_covering, first_rows, keep_scan
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import Snapshot
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.consent import Quote
from agnes_mcp.spending.prices import advise, estimate_usd, guess_result
from agnes_mcp.spending.purchase import Purchase, Purchases

if TYPE_CHECKING:
    import pyarrow as pa

_NOTES = {
    "limit": "There are more rows than the limit. Aggregate with group_by and aggregates, or narrow the WHERE.",
    "answer_size": "More rows matched than fit one answer. Aggregate, narrow the WHERE, or select fewer columns.",
    "result_bytes": "The result passed max_result_bytes and was cut. Select fewer columns or aggregate.",
}


class Scans:
    def __init__(
        self, calls: Calls, purchases: Purchases, accounts: Accounts, snapshots: SnapshotStore, api: ApiSettings
    ) -> None:
        self._calls = calls
        self._accounts = accounts
        self._purchases = purchases
        self._snapshots = snapshots
        self._api = api

    async def scan(
        self,
        principal: Principal,
        request: ScanRequest,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> ScanAnswer:
        """Run it and answer with the rows that fit; what does not fit is kept, because it is paid for.

        `consent` is what a person allowed; None: there is nobody to ask, so the hard caps alone decide.
        """
        async with self._calls.open(
            "scan",
            principal,
            table_id=request.table_id or None,
            timeout_s=self._api.scan.request_timeout_seconds,
            on_progress=on_progress,
            consent=consent,
        ) as call:
            priced = await self._purchases.prepare(call, request, one_more=True)
            return await self._read(call, priced)

    async def price_scan(self, principal: Principal, request: ScanRequest) -> Quote | None:
        """What a person must be asked before that scan; uncounted, and no audit line unless it fails."""
        async with self._calls.open("scan", principal, table_id=request.table_id or None, noted=False) as call:
            if not await self._purchases.may_be_costly(call, request.table_id):
                return None
            priced = await self._purchases.prepare(call, request, one_more=True)
            return await self._purchases.quote(principal, [priced])

    async def estimate(self, principal: Principal, request: ScanRequest) -> EstimateAnswer:
        """What that scan would cost, and whether it would run. Reads nothing, spends nothing."""
        async with self._calls.open("estimate", principal, table_id=request.table_id or None) as call:
            return await self.estimate_within(call, request)

    async def estimate_within(self, call: Call, request: ScanRequest) -> EstimateAnswer:
        """The same as part of another call."""
        priced = await self._purchases.prepare(call, request, one_more=True)
        left = await self._accounts.left(call.principal)
        verdict = await self._purchases.verdict(call.principal, priced, left)
        covered = await self._calls.run(call, lambda: find_covering(self._snapshots, call.principal, priced))
        rows, size = guess_result(request, priced.statement, priced.schema, priced.price)
        return EstimateAnswer(
            table_id=None if request.googlesql else priced.table.id,
            tables=await self._shares(call, priced),
            estimated_scan_bytes=priced.price.scan_bytes,
            estimated_result_rows=rows,
            estimated_result_bytes=size,
            bq_cost_estimate_usd=estimate_usd(priced.price, priced.statement, self._api.scan),
            reserve_bytes=priced.price.reserved_bytes,
            path=priced.price.path,
            sql=clip(priced.statement.sql, MAX_SQL_CHARS),
            quota=left,
            verdict=verdict,
            covered_by=covered,
            advice=[
                *([f"The snapshot {covered} already holds these rows: query it, free."] if covered else []),
                *advise(request, priced.statement, priced.schema, priced.price, verdict),
            ],
        )

    async def _shares(self, call: Call, priced: Priced) -> list[TableBytes]:
        """What a text over several tables reads of each; nothing of a request over one, whose bytes are the price."""
        if not priced.request.googlesql:
            return []
        found = await self._purchases.bytes_by_table(call, priced)
        return [TableBytes(table_id=table_id, bytes=size) for table_id, size in found.items()]

    async def _read(self, call: Call, priced: Priced) -> ScanAnswer:
        sql, left = clip(priced.statement.sql, MAX_SQL_CHARS), await self._accounts.left(call.principal)
        empty = ScanAnswer(**NO_ROWS, table_id=priced.tables_shown, sql=sql, quota=left)
        (fitting, kept), purchase = await self._purchases.buy(
            call, priced, lambda purchase: self._fit(call, priced, empty, purchase)
        )
        cut_by = "result_bytes" if self._passed_cap(purchase) else fitting.truncated_by
        call.line.actual_result_rows, call.line.actual_result_bytes = purchase.rows_read, purchase.bytes_read
        if cut_by:
            call.line.status = "truncated"
        bytes_billed = purchase.receipt.bytes_billed
        return fitting.finish(
            truncated=cut_by is not None,
            truncated_by=cut_by,
            bytes_billed=bytes_billed,
            cost_usd=self._purchases.usd(purchase),
            job_id=purchase.receipt.job_id,
            snapshot=kept.name if kept else None,
            quota=await self._accounts.left_after(call.principal),
            note=_note(fitting.columns_cut, cut_by, kept, purchase.bill_note),
        )

    def _fit(
        self, call: Call, priced: Priced, empty: ScanAnswer, purchase: Purchase
    ) -> tuple[RowsFitting[ScanAnswer], Snapshot | None]:
        """In a worker thread: pull batches until the answer is full; then, to keep them, all that are left."""
        limit = priced.request.limit
        fitting = RowsFitting(empty, *columns_of(purchase.schema), self._api.max_result_chars, limit)
        batches, seen = self._within_cap(purchase), []
        with call.step("shape"):  # as the rows come: reading and shaping take turns
            for batch in batches:
                seen.append(batch)
                fitting.add(batch)
                if fitting.full:
                    break
        if not fitting.lacking:
            return fitting, None
        every = first_rows(itertools.chain(seen, batches), limit)
        return fitting, keep_scan(self._snapshots, call, priced, purchase, every, self._api.scan.max_result_bytes)

    def _within_cap(self, purchase: Purchase) -> Iterator[pa.RecordBatch]:
        """The batches up to the one with which the result passes `max_result_bytes`."""
        for batch in purchase:
            yield batch
            if self._passed_cap(purchase):
                return

    def _passed_cap(self, purchase: Purchase) -> bool:
        return purchase.bytes_read > self._api.scan.max_result_bytes


def _note(columns_cut: int, truncated_by: str | None, kept: Snapshot | None, bill: str | None) -> str | None:
    """What was cut and what to do about it."""
    cut = note_cut_columns(columns_cut)
    rows = None if cut and truncated_by == "answer_size" else _NOTES.get(truncated_by or "")
    if kept:
        what = "All is" if kept.complete else f"The first {kept.rows or 0:,} rows, not all, are"
        rows = f"More matched than fits one answer. {what} in the snapshot {kept.name}: query it, free."
    return " ".join(said for said in (cut, rows, bill) if said) or None
