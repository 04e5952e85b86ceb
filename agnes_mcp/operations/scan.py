"""The way of one scan: its price, its rows as they fit an answer, the rest in a snapshot; and the price alone."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import MAX_SQL_CHARS, clip, quota_beside
from agnes_mcp.answers.models import EstimateAnswer, ScanAnswer, TableBytes
from agnes_mcp.answers.rows import DEFAULT_ROWS, NO_ROWS, RowsFitting, columns_of, note_cut_columns, types_of
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls, OnProgress
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Priced, Principal, ScanRequest
from agnes_mcp.operations.snapshots import (
    Kept,
    find_covering,
    first_rows,
    is_kept,
    keep_rows,
    refuse_paying_twice,
    require_room,
)
from agnes_mcp.snapshots import SnapshotStore, check_name
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.consent import Quote
from agnes_mcp.spending.prices import advise, estimate_usd, guess_result
from agnes_mcp.spending.purchase import Purchase, Purchases

if TYPE_CHECKING:
    import pyarrow as pa

_BLANKS = re.compile(r"[`\s]+")
_NOTES = {
    "limit": f"These are the first {DEFAULT_ROWS:,} rows, because no limit was given. Aggregate, narrow the WHERE, or "
    "give a limit.",
    "answer_size": "More rows matched than fit one answer. Aggregate, narrow the WHERE, or select fewer columns.",
    "result_bytes": "The result passed max_result_bytes and was cut. Select fewer columns or aggregate.",
}


class Scans:
    def __init__(
        self,
        calls: Calls,
        tables: Tables,
        purchases: Purchases,
        accounts: Accounts,
        snapshots: SnapshotStore,
        api: ApiSettings,
    ) -> None:
        self._calls = calls
        self._tables = tables
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
        *,
        keep: str = "",
        own_limit: bool = True,
    ) -> ScanAnswer:
        """Run it and answer with the rows that fit; what does not fit is kept, because it is paid for.

        `keep`: the name of a snapshot that is to hold all of its rows, whatever fits. `own_limit` False: the limit is
        one that the caller did not give. `consent` is what a person allowed; None: there is nobody to ask, so the hard
        caps alone decide. Raises what a read raises, and with `keep` what a fetch raises for its name.
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
            if keep:
                check_name(keep, {table.id for table in self._tables.visible(principal)})
                await self._calls.run(call, lambda: self._check_room(call, priced, keep))
            return await self._read(call, priced, keep, own_limit)

    def _check_room(self, call: Call, priced: Priced, keep: str) -> None:
        refuse_paying_twice(self._snapshots, call.principal, priced)
        require_room(self._snapshots, call, keep, 0)

    async def correct(
        self, principal: Principal, tool: str, request: ScanRequest, error: AgnesError, having: str, distinct: bool
    ) -> AgnesError:
        """The same error of arguments that a scan has not, with the call that was meant."""
        async with self._calls.open(tool, principal, noted=False) as call:
            return await self._purchases.point(call, request, error, having, distinct)

    async def price_scan(self, principal: Principal, request: ScanRequest, keep: str = "") -> Quote | None:
        """What a person must be asked before that scan; uncounted, and no audit line unless it fails. Nothing where it
        will be refused for what is kept already."""
        async with self._calls.open("scan", principal, table_id=request.table_id or None, noted=False) as call:
            if not await self._purchases.may_be_costly(call, request.table_id):
                return None
            priced = await self._purchases.prepare(call, request, one_more=True)
            refused = await self._calls.run(
                call, lambda: bool(keep) and is_kept(self._snapshots, principal, priced, keep)
            )
            if refused:
                return None
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
            quota=quota_beside(left),
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

    async def _read(self, call: Call, priced: Priced, keep: str, own_limit: bool) -> ScanAnswer:
        sql = clip(priced.statement.sql, MAX_SQL_CHARS) if _reads_otherwise(priced) else None
        free = priced.table.query_mode == "local"  # then nothing is said of a budget, and nobody has to ask for it
        left = None if free else await self._accounts.left(call.principal)
        empty = ScanAnswer(**NO_ROWS, sql=sql, quota=quota_beside(left) if left else None)
        (fitting, kept), purchase = await self._purchases.buy(
            call, priced, lambda purchase: self._fit(call, priced, empty, purchase, keep)
        )
        cut_by = "result_bytes" if self._passed_cap(purchase) else fitting.truncated_by
        asked_for = cut_by == "limit" and own_limit and priced.request.limit is not None
        lacking = ("answer_size" if fitting.columns_cut else None) if asked_for else cut_by
        call.line.actual_result_rows, call.line.actual_result_bytes = purchase.rows_read, purchase.bytes_read
        if cut_by:
            call.line.status = "truncated"
        bytes_billed = purchase.receipt.bytes_billed
        left = await self._accounts.left_after(call.principal) if bytes_billed else None
        return fitting.finish(
            truncated=lacking is not None,
            truncated_by=lacking,
            more_rows=asked_for,
            bytes_billed=bytes_billed,
            cost_usd=self._purchases.usd(purchase),
            job_id=purchase.receipt.job_id,
            snapshot=kept.snapshot.name if kept.snapshot else None,
            quota=quota_beside(left) if left else None,
            note=_note(fitting.columns_cut, lacking, kept, purchase.bill_note),
        )

    def _fit(
        self, call: Call, priced: Priced, empty: ScanAnswer, purchase: Purchase, keep: str
    ) -> tuple[RowsFitting[ScanAnswer], Kept]:
        """In a worker thread: pull batches until the answer is full; then, to keep them, all that are left. A name that
        was given is held before the first row is asked for."""
        limit = priced.request.limit
        shown = DEFAULT_ROWS if keep and limit is None else limit
        fitting = RowsFitting(
            empty, *columns_of(purchase.schema, types_of(priced, purchase)), self._api.max_result_chars, shown
        )
        claim = self._snapshots.claim(call.principal.name, keep, call) if keep else nullcontext()
        batches, seen = self._within_cap(purchase), []
        with claim as claimed:
            with call.step("shape"):  # as the rows come: reading and shaping take turns
                for batch in batches:
                    seen.append(batch)
                    fitting.add(batch)
                    if fitting.full:
                        break
            if not claimed and not fitting.lacking:
                if priced.statement.limit is not None:  # the last word is near: a process left before it is killed
                    deque(batches, maxlen=0)
                return fitting, Kept()
            every, most = first_rows(itertools.chain(seen, batches), limit), self._api.scan.max_result_bytes
            return fitting, keep_rows(self._snapshots, call, priced, purchase, every, most, claimed)

    def _within_cap(self, purchase: Purchase) -> Iterator[pa.RecordBatch]:
        """The batches up to the one with which the result passes `max_result_bytes`."""
        for batch in purchase:
            yield batch
            if self._passed_cap(purchase):
                return

    def _passed_cap(self, purchase: Purchase) -> bool:
        return purchase.bytes_read > self._api.scan.max_result_bytes


def _reads_otherwise(priced: Priced) -> bool:
    """Whether the text that ran differs from the one that was given by more than spaces, quotes and places."""
    if not priced.request.googlesql:
        return False
    folded = [_BLANKS.sub("", text.casefold()) for text in (priced.request.googlesql, priced.statement.sql)]
    for table_id, place in priced.statement.places.items():
        folded = [text.replace(f"{place.casefold()}as{table_id}", table_id) for text in folded]
    return folded[0].rstrip(";") != folded[1]


def _note(columns_cut: int, truncated_by: str | None, kept: Kept, bill: str | None) -> str | None:
    """What was cut and what to do about it."""
    cut = note_cut_columns(columns_cut)
    rows = None if cut and truncated_by == "answer_size" else _NOTES.get(truncated_by or "")
    if kept.snapshot is not None and truncated_by is not None:
        all_rows = kept.snapshot.complete
        what = "All is" if all_rows else f"The first {kept.snapshot.rows or 0:,} rows, not all, are"
        rows = f"More matched than fits one answer. {what} in the snapshot {kept.snapshot.name}: query it, free."
    return " ".join(said for said in (cut, rows, kept.problem, bill) if said) or None
