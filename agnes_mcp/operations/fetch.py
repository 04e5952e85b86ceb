"""Fetch once: exactly what was asked for, into a snapshot, under the quota; and look after what was fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agnes_mcp.access.grants import visible_tables
from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.models import (
    FetchAnswer,
    SnapshotDropAnswer,
    SnapshotEntry,
    SnapshotListAnswer,
    SnapshotRefreshAnswer,
)
from agnes_mcp.answers.snapshots import snapshot_entry
from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Priced, ScanRequest
from agnes_mcp.operations.scan import Outcome, Scanning
from agnes_mcp.operations.snapshots import facts_of, find_covering
from agnes_mcp.snapshots import Claim, check_name, default_name
from agnes_mcp.snapshots.models import DiskUsage, Snapshot, SnapshotPrune, SnapshotRefresh, SnapshotWrite
from agnes_mcp.spending.prices import cost_usd, guess_result

if TYPE_CHECKING:
    import pyarrow as pa

_REPORT_EVERY_ROWS = 50_000


class Fetching:
    def __init__(self, engine: Engine, scanning: Scanning) -> None:
        self._engine = engine
        self._scanning = scanning

    async def fetch(
        self, admitted: Admitted, request: ScanRequest, name: str, force: bool, estimate_only: bool
    ) -> FetchAnswer:
        """Price, reserve, read into a snapshot, settle. With `estimate_only` nothing is read."""
        if estimate_only:
            estimate = await self._scanning.estimate(admitted, request)
            return FetchAnswer(estimate=estimate, next_step="Call fetch again without estimate_only to read it.")
        priced = await self._scanning.price(admitted, request, one_more=False)
        taken = {t.id for t in visible_tables(self._engine.registry, self._engine.access, admitted.principal)}
        chosen = check_name(name, taken) if name else default_name(request.table_id, taken)
        admitted.line.snapshot = chosen
        outcome = Outcome()
        written = await self._engine.workers.run(
            admitted.call, lambda: self._write(admitted, priced, chosen, force, outcome)
        )
        return FetchAnswer(
            snapshot=snapshot_entry(written.snapshot, self._columns_chars),
            bytes_billed=outcome.receipt.bytes_billed,
            cost_usd=self._usd(outcome),
            quota=self._scanning.quota_left(admitted),
            warnings=written.warnings,
            next_step=f"Query it by its name, {chosen}: free, as often as needed. Drop it when done.",
        )

    async def refresh(self, admitted: Admitted, name: str, where: str) -> SnapshotRefreshAnswer:
        """Run the stored request again, its time-relative predicate anew."""
        priced = await self.price_refresh(admitted, name, where)
        outcome = Outcome()
        refreshed = await self._engine.workers.run(
            admitted.call, lambda: self._rewrite(admitted, priced, name, outcome)
        )
        facts = refreshed.model_dump(exclude={"snapshot"})
        return SnapshotRefreshAnswer(
            **facts,
            snapshot=snapshot_entry(refreshed.snapshot, self._columns_chars),
            bytes_billed=outcome.receipt.bytes_billed,
            cost_usd=self._usd(outcome),
        )

    async def price_refresh(self, admitted: Admitted, name: str, where: str) -> Priced:
        """The stored request, priced against the table as it is now."""
        engine = self._engine
        admitted.line.snapshot = name[:64]
        old = await engine.workers.run(admitted.call, lambda: engine.snapshots.get(admitted.principal.name, name))
        request = old.request() if not where else old.request().model_copy(update={"where": where})
        admitted.line.table_id = request.table_id
        engine.forget(request.table_id)
        return await self._price_again(admitted, old, request)

    async def is_kept_already(self, admitted: Admitted, priced: Priced, name: str) -> bool:
        """Whether a fetch without `force` will be refused: its rows, or its name, are there already."""
        store = self._engine.snapshots

        def work() -> bool:
            if find_covering(self._engine, admitted, priced) is not None:
                return True
            return bool(name) and any(kept.name == name for kept in store.list(admitted.principal.name))

        return await self._engine.workers.run(admitted.call, work)

    async def list(self, admitted: Admitted) -> SnapshotListAnswer:
        """The caller's snapshots by name, as many as fit one answer."""
        engine = self._engine
        found = await engine.workers.run(admitted.call, lambda: engine.snapshots.list(admitted.principal.name))
        left = engine.settings.api.max_result_chars - 300
        shown: list[SnapshotEntry] = []
        for snapshot in found:
            entry = snapshot_entry(snapshot)
            left -= len(compact(entry.model_dump(mode="json"))) + 1
            if left < 0:
                break
            shown.append(entry)
        cut = len(found) - len(shown)
        note = f"{cut} more are not shown. Prune what is not needed." if cut else None
        return SnapshotListAnswer(snapshots=shown, total=len(found), note=note)

    async def get(self, admitted: Admitted, name: str) -> SnapshotEntry:
        store = self._engine.snapshots
        found = await self._engine.workers.run(admitted.call, lambda: store.get(admitted.principal.name, name))
        return snapshot_entry(found, self._columns_chars)

    async def drop(self, admitted: Admitted, name: str) -> SnapshotDropAnswer:
        admitted.line.snapshot = name[:64]
        store = self._engine.snapshots
        dropped = await self._engine.workers.run(
            admitted.call, lambda: store.drop(admitted.principal.name, name, admitted.call)
        )
        return SnapshotDropAnswer(dropped=dropped.name, freed_bytes=dropped.bytes_local)

    async def prune(
        self, admitted: Admitted, older_than: str | None, larger_than: str | None, expired: bool, dry_run: bool
    ) -> SnapshotPrune:
        store = self._engine.snapshots
        return await self._engine.workers.run(
            admitted.call,
            lambda: store.prune(admitted.principal.name, older_than, larger_than, expired, dry_run),
        )

    async def disk_usage(self, admitted: Admitted) -> DiskUsage:
        store = self._engine.snapshots
        return await self._engine.workers.run(admitted.call, lambda: store.disk_usage(admitted.principal.name))

    def _write(self, admitted: Admitted, priced: Priced, name: str, force: bool, outcome: Outcome) -> SnapshotWrite:
        """In a worker thread: the name is held before the bytes are reserved, the bytes before anything is read."""
        if not force:
            self._refuse_paying_twice(admitted, priced)
        self._engine.workbench.processes.warm()  # who fetches, queries next
        store = self._engine.snapshots
        store.check_space(self._expected_bytes(priced))
        with store.claim(admitted.principal.name, name, admitted.call, force=force) as claim:
            return self._read_into(claim, admitted, priced, outcome)

    def _read_into(self, claim: Claim, admitted: Admitted, priced: Priced, outcome: Outcome) -> SnapshotWrite:
        with (
            self._scanning.reserved(admitted, priced, outcome),
            self._scanning.opened(admitted, priced, outcome) as reading,
        ):
            rows = self._watched(admitted, priced, reading, outcome)
            return claim.write(rows, reading.schema, facts_of(priced), lambda: reading.receipt)

    def _rewrite(self, admitted: Admitted, priced: Priced, name: str, outcome: Outcome) -> SnapshotRefresh:
        with (
            self._engine.snapshots.claim(admitted.principal.name, name, admitted.call, force=True) as claim,
            self._scanning.reserved(admitted, priced, outcome),
            self._scanning.opened(admitted, priced, outcome) as reading,
        ):
            rows = self._watched(admitted, priced, reading, outcome)
            return claim.replace_if_changed(rows, reading.schema, facts_of(priced), lambda: reading.receipt)

    def _watched(
        self, admitted: Admitted, priced: Priced, batches: Iterable[pa.RecordBatch], outcome: Outcome
    ) -> Iterator[pa.RecordBatch]:
        """The same batches, counted, reported, and ended with an error beyond `max_result_bytes`: never cut short."""
        expected, _ = guess_result(priced.request, priced.statement, priced.schema, priced.price)
        cap = self._engine.settings.api.scan.max_result_bytes
        reported = 0
        for batch in batches:
            outcome.rows_read += batch.num_rows
            outcome.bytes_read += batch.nbytes
            admitted.line.actual_result_rows = outcome.rows_read
            admitted.line.actual_result_bytes = outcome.bytes_read
            if outcome.bytes_read > cap:
                raise _too_large(cap)
            if outcome.rows_read - reported >= _REPORT_EVERY_ROWS:
                reported = outcome.rows_read
                total = max(expected, reported) if expected else None
                admitted.call.report(reported, total, f"{reported:,} rows, {outcome.bytes_read:,} bytes")
            yield batch

    def _refuse_paying_twice(self, admitted: Admitted, priced: Priced) -> None:
        if not priced.price.scan_bytes:
            return
        name = find_covering(self._engine, admitted, priced)
        if name is not None:
            raise AgnesError(
                "snapshot_exists",
                f"The snapshot {name!r} already holds exactly these rows.",
                f"Query {name}, free; snapshot_refresh it, or fetch with force=true, to pay for newer rows.",
                {"snapshot": name},
            )

    def _expected_bytes(self, priced: Priced) -> int:
        _, size = guess_result(priced.request, priced.statement, priced.schema, priced.price)
        return min(size or 0, self._engine.settings.api.scan.max_result_bytes) if not priced.request.where else 0

    async def _price_again(self, admitted: Admitted, old: Snapshot, request: ScanRequest) -> Priced:
        table = await self._engine.find(admitted, request.table_id)
        schema = await self._engine.schema(admitted, table)
        now = {path.casefold() for path, _ in schema.walk()} | {c.name.casefold() for c in schema.pseudo_columns}
        wanted = request.select or request.group_by or [column.name for column in old.source_columns]
        if request.aggregates is not None:
            wanted = [*(request.group_by or []), *(a.column for a in request.aggregates if a.column)]
        gone = [name for name in wanted if name.casefold() not in now]
        if gone:
            raise _drift(old.name, gone)
        try:
            return await self._scanning.price(admitted, request, one_more=False)
        except AgnesError as error:
            if error.kind == "unknown_column":
                raise _drift(old.name, [str(error.details.get("column", ""))]) from None
            raise

    @property
    def _columns_chars(self) -> int:
        """What the columns of a snapshot may take of an answer: half of it, the rest is for the other facts."""
        return self._engine.settings.api.max_result_chars // 2

    def _usd(self, outcome: Outcome) -> float:
        return cost_usd(outcome.receipt.bytes_billed, self._engine.settings.api.scan.bq_cost_per_tb_usd) or 0.0


def _too_large(cap: int) -> AgnesError:
    return AgnesError(
        "result_too_large",
        f"The result passed {cap:,} bytes, the most that one snapshot may hold here; nothing was kept.",
        "Select fewer columns, narrow the WHERE, give a limit, or aggregate. What was scanned is billed.",
        {"max_result_bytes": cap},
    )


def _drift(name: str, gone: list[str]) -> AgnesError:
    return AgnesError(
        "schema_drift",
        f"The table of the snapshot {name!r} no longer has {', '.join(gone[:5])}; the snapshot is as it was.",
        "Call `schema`, then fetch what the table has now under another name.",
        {"columns": gone[:20]},
    )
