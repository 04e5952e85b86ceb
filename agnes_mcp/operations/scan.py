"""The way of one scan: statement, price, verdict, reservation, read, settlement."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import MAX_SQL_CHARS, RowShaper, clip, compact, frame_columns
from agnes_mcp.answers.models import EstimateAnswer, ScanAnswer
from agnes_mcp.answers.tables import note_cut_columns
from agnes_mcp.calls.audit import hash_predicate
from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Priced, QuotaLeft, Receipt, ScanRequest
from agnes_mcp.operations.snapshots import find_covering, first_rows, keep_scan
from agnes_mcp.spending.consent import require_consent
from agnes_mcp.spending.prices import advise, cost_usd, guess_result, judge

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.sources import Reading

# What an answer says beside its rows: the statement, the quota, the names of its fields.
ANSWER_OVERHEAD_CHARS = 2_500


@dataclass
class Outcome:
    """What a read gave: the rows that fitted, and why others did not."""

    columns: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    columns_cut: int = 0
    shaper: RowShaper | None = None
    rows_read: int = 0
    bytes_read: int = 0
    truncated_by: str | None = None
    snapshot: str | None = None
    receipt: Receipt = field(default_factory=Receipt)


class Scanning:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def estimate(self, admitted: Admitted, request: ScanRequest) -> EstimateAnswer:
        """What that scan would cost, and whether it would run. Reads nothing, spends nothing."""
        priced = await self.price(admitted, request)
        scan = self._engine.settings.api.scan
        left = self.quota_left(admitted)
        verdict = judge(priced.price, scan, left)
        covered = await self._covering(admitted, priced)
        rows, size = guess_result(request, priced.statement, priced.schema, priced.price)
        return EstimateAnswer(
            table_id=priced.table.id,
            estimated_scan_bytes=priced.price.scan_bytes,
            estimated_result_rows=rows,
            estimated_result_bytes=size,
            bq_cost_estimate_usd=cost_usd(priced.price.scan_bytes, scan.bq_cost_per_tb_usd),
            reserve_bytes=priced.price.reserve_bytes,
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

    async def scan(self, admitted: Admitted, request: ScanRequest) -> ScanAnswer:
        """Run it and answer with the rows that fit."""
        priced = await self.price(admitted, request)
        outcome = await self.read(admitted, priced, self._engine.settings.api.max_result_chars, keep=True)
        return self._answer(admitted, priced, outcome)

    async def price(self, admitted: Admitted, request: ScanRequest, *, one_more: bool = True) -> Priced:
        """Check the request against the table and price exactly the statement that would run.

        `one_more`: it asks for one row beyond the limit, so that the answer knows whether there are more.
        """
        engine = self._engine
        _note_request(admitted, request)
        table = await engine.find(admitted, request.table_id)
        schema = await engine.schema(admitted, table)
        max_limit = engine.settings.api.scan.max_limit

        def work() -> Priced:
            from agnes_mcp.sql.statement import build_statement

            relation = engine.relation(table)
            statement = build_statement(request, schema, relation, table.dialect, max_limit, one_more=one_more)
            price = engine.source(table).price(table, schema, statement, admitted.call)
            return Priced(table, schema, request, statement, price)

        priced = await engine.workers.run(admitted.call, work)
        admitted.line.estimated_scan_bytes = priced.price.scan_bytes
        return priced

    async def read(self, admitted: Admitted, priced: Priced, budget_chars: int, *, keep: bool = False) -> Outcome:
        """Reserve, read, settle. Raises what refuses it before anything is spent.

        `keep`: rows that do not fit the answer go into a snapshot, because they are paid for.
        """
        outcome = Outcome()
        budget = budget_chars - ANSWER_OVERHEAD_CHARS - len(compact(clip(priced.statement.sql, MAX_SQL_CHARS)))
        with self.reserved(admitted, priced, outcome):
            await self._engine.workers.run(admitted.call, lambda: self._read(admitted, priced, outcome, budget, keep))
        admitted.line.actual_result_rows = outcome.rows_read
        admitted.line.actual_result_bytes = outcome.bytes_read
        if outcome.truncated_by:
            admitted.line.status = "truncated"
        return outcome

    async def collect(self, admitted: Admitted, priced: Priced) -> tuple[pa.Table, int]:
        """The whole answer of a statement of ours that gives few rows, and the bytes it billed."""
        outcome = Outcome()

        def work() -> pa.Table:
            import pyarrow as pa

            with self.opened(admitted, priced, outcome) as reading:
                return pa.Table.from_batches(list(reading), reading.schema)

        with self.reserved(admitted, priced, outcome):
            answer = await self._engine.workers.run(admitted.call, work)
        return answer, outcome.receipt.bytes_billed

    @contextmanager
    def opened(self, admitted: Admitted, priced: Priced, outcome: Outcome) -> Iterator[Reading]:
        """The statement, running; in a worker thread. Its receipt is exact once it has ended, and is taken then."""
        reading: Reading | None = None
        source = self._engine.source(priced.table)
        try:
            with source.read(priced.table, priced.schema, priced.statement, priced.price, admitted.call) as reading:
                yield reading
        finally:
            if reading is not None:
                outcome.receipt = reading.receipt

    @contextmanager
    def reserved(self, admitted: Admitted, priced: Priced, outcome: Outcome) -> Iterator[None]:
        """Hold a slot and the bytes while inside; charge what was billed, however it ends."""
        engine = self._engine
        self._refuse_over_cap(priced)
        require_consent(engine, admitted, priced)
        reserved = priced.price.reserve_bytes or 0
        reservation = engine.quota.reserve(admitted.principal.name, reserved, engine.limits(admitted.principal))
        with reservation:
            try:
                yield
            except AgnesError as error:
                outcome.receipt.bytes_billed = int(error.details.get("bytes_billed", outcome.receipt.bytes_billed))
                raise
            finally:
                reservation.settle(outcome.receipt.bytes_billed)
                admitted.line.bytes_billed = (admitted.line.bytes_billed or 0) + outcome.receipt.bytes_billed
                admitted.line.job_id = outcome.receipt.job_id

    def _refuse_over_cap(self, priced: Priced) -> None:
        scan = self._engine.settings.api.scan
        wanted = priced.price.scan_bytes
        if wanted is None:
            raise AgnesError(
                "estimate_failed",
                "What this statement would bill cannot be known, so it was not run.",
                "Add a partition filter or select fewer columns, and call `estimate`.",
            )
        if wanted > scan.max_scan_bytes:
            raise AgnesError(
                "over_scan_cap",
                f"This statement would scan {wanted:,} bytes; one statement may scan {scan.max_scan_bytes:,}.",
                "Select fewer columns, filter on the partition column, or aggregate; `estimate` is free.",
                {"estimated_scan_bytes": wanted, "max_scan_bytes": scan.max_scan_bytes},
            )

    def _read(self, admitted: Admitted, priced: Priced, outcome: Outcome, budget_chars: int, keep: bool) -> None:
        """In a worker thread: pull batches until the answer is full; then, to keep them, all that are left."""
        with self.opened(admitted, priced, outcome) as reading:
            kinds = [str(kind) for kind in reading.schema.types]
            frame = frame_columns(list(reading.schema.names), kinds, budget_chars)
            outcome.columns, outcome.types, outcome.columns_cut = frame.columns, frame.types, frame.columns_cut
            shaper = outcome.shaper = RowShaper(len(frame.columns), frame.cell_chars, priced.request.limit)
            batches, seen = iter(reading), []
            for batch in batches:
                self._count(outcome, batch)
                seen.append(batch)
                shaper.add(batch)
                if shaper.full or outcome.truncated_by:
                    break
            outcome.truncated_by = outcome.truncated_by or shaper.truncated_by
            if frame.columns_cut:
                outcome.truncated_by = outcome.truncated_by or "answer_size"
            if keep and (shaper.truncated_by == "answer_size" or frame.columns_cut):
                rest = self._counted(outcome, batches)
                outcome.snapshot = keep_scan(
                    self._engine,
                    admitted,
                    priced,
                    reading,
                    first_rows(itertools.chain(seen, rest), priced.request.limit),
                )

    def _counted(self, outcome: Outcome, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self._count(outcome, batch)
            yield batch
            if outcome.truncated_by == "result_bytes":
                return

    def _count(self, outcome: Outcome, batch: pa.RecordBatch) -> None:
        outcome.rows_read += batch.num_rows
        outcome.bytes_read += batch.nbytes
        if outcome.bytes_read > self._engine.settings.api.scan.max_result_bytes:
            outcome.truncated_by = "result_bytes"

    def _answer(self, admitted: Admitted, priced: Priced, outcome: Outcome) -> ScanAnswer:
        shaper = outcome.shaper
        rows = shaper.rows if shaper else []
        billed = outcome.receipt.bytes_billed
        return ScanAnswer(
            table_id=priced.table.id,
            columns=outcome.columns,
            types=outcome.types,
            rows=rows,
            row_count=len(rows),
            truncated=outcome.truncated_by is not None,
            truncated_by=outcome.truncated_by,
            cut_cells=shaper.cut_cells if shaper else 0,
            columns_cut=outcome.columns_cut,
            bytes_billed=billed,
            cost_usd=cost_usd(billed, self._engine.settings.api.scan.bq_cost_per_tb_usd) or 0.0,
            job_id=outcome.receipt.job_id,
            sql=clip(priced.statement.sql, MAX_SQL_CHARS),
            snapshot=outcome.snapshot,
            quota=self.quota_left(admitted),
            note=_note_of(outcome),
        )

    async def _covering(self, admitted: Admitted, priced: Priced) -> str | None:
        return await self._engine.workers.run(admitted.call, lambda: find_covering(self._engine, admitted, priced))

    def quota_left(self, admitted: Admitted) -> QuotaLeft:
        return self._engine.quota.left(admitted.principal.name, self._engine.limits(admitted.principal))


def _note_request(admitted: Admitted, request: ScanRequest) -> None:
    admitted.line.select = None if request.select is None else [name[:64] for name in request.select[:16]]
    admitted.line.where_hash = hash_predicate(request.where)
    admitted.line.limit = request.limit


def _note_of(outcome: Outcome) -> str | None:
    """What was cut and what to do about it."""
    notes = {
        "limit": "There are more rows than the limit. Aggregate with group_by and aggregates, or narrow the WHERE.",
        "answer_size": "More rows matched than fit one answer. Aggregate, narrow the WHERE, or select fewer columns.",
        "result_bytes": "The result passed max_result_bytes and was cut. Select fewer columns or aggregate.",
    }
    cut = note_cut_columns(outcome.columns_cut)
    rows = None if cut and outcome.truncated_by == "answer_size" else notes.get(outcome.truncated_by or "")
    if outcome.snapshot:
        rows = f"More matched than fits one answer. All is in the snapshot {outcome.snapshot}: query it, free."
    return " ".join(said for said in (cut, rows) if said) or None
