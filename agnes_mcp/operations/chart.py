"""Draw: rows of a SELECT, of a snapshot or of a table's aggregate as a picture, in words, and as a specification."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agnes_mcp.access.grants import Access
from agnes_mcp.answers.models import ChartAnswer
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls, OnProgress
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.charts import CHART_URI
from agnes_mcp.charts.encodings import ChartRequest, columns_read
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Priced, Principal
from agnes_mcp.operations.aggregates import Aggregated, aggregated
from agnes_mcp.operations.query import Queries
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import KeptChart
from agnes_mcp.spending.consent import Quote
from agnes_mcp.spending.purchase import Purchase, Purchases

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.charts.chart import Chart  # sixteen modules that wait for the first chart
    from agnes_mcp.charts.palette import Theme
    from agnes_mcp.charts.rendering import Picture

logger = logging.getLogger(__name__)

#: Rows that a chart reads; beyond them SQL folds first.
MAX_ROWS = 1_000_000


@dataclass(frozen=True)
class ChartSource:
    """Where the rows come from: exactly one of `sql`, `snapshot`, `table_id`; `where` narrows the table."""

    sql: str = ""
    snapshot: str = ""
    table_id: str = ""
    where: str = ""


@dataclass(frozen=True)
class Drawn:
    """An answer with its chart and its picture."""

    answer: ChartAnswer
    chart: Chart
    picture: Picture


@dataclass(frozen=True)
class Exported:
    """A chart as a file, which is kept nowhere else."""

    answer: ChartAnswer
    content: bytes


class Charts:
    def __init__(
        self,
        calls: Calls,
        queries: Queries,
        purchases: Purchases,
        tables: Tables,
        snapshots: SnapshotStore,
        access: Access,
        scan: ScanSettings,
    ) -> None:
        self._calls = calls
        self._queries = queries
        self._purchases = purchases
        self._tables = tables
        self._snapshots = snapshots
        self._access = access
        self._scan = scan

    async def draw(
        self,
        principal: Principal,
        source: ChartSource,
        request: ChartRequest,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> Drawn:
        """The chart as a PNG. A table's aggregate may bill, under `consent` as with a scan; everything else is free.

        Raises what a query, a scan and a rendering raise, and `invalid_argument`, `unknown_column`.
        """
        async with self._open(principal, source, on_progress, consent) as call:
            chart, tables, billed = await self._chart(call, source, request)
            picture = await self._calls.run_apart(call, lambda: chart.png(call))
            uri, lost = await self._calls.aside(lambda: self._keep(call, chart, tables))
            words = [*chart.words, *(note for note in (_missing(picture), lost) if note)]
            answer = ChartAnswer(
                title=chart.title, words=words, marks=chart.marks, spec=uri, tables=tables, bytes_billed=billed
            )
            return Drawn(answer, chart, picture)

    async def export(
        self,
        principal: Principal,
        source: ChartSource,
        request: ChartRequest,
        form: str,
        theme: Theme = "light",
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> Exported:
        """The chart as a file: `form` is png, svg or html. Raises as `draw`."""
        async with self._open(principal, source, on_progress, consent) as call:
            chart, tables, billed = await self._chart(call, source, request, theme)
            words = [*chart.words]
            if form == "html":
                content = (await self._calls.run_apart(call, lambda: chart.html(call))).encode()
            else:
                draw = chart.svg if form == "svg" else chart.png
                picture = await self._calls.run_apart(call, lambda: draw(call))
                content = picture.content
                words += [note for note in [_missing(picture)] if note]
            answer = ChartAnswer(
                title=chart.title, words=words, marks=chart.marks, spec=None, tables=tables, bytes_billed=billed
            )
            return Exported(answer, content)

    async def price_chart(self, principal: Principal, source: ChartSource, request: ChartRequest) -> Quote | None:
        """What a person must be asked before that chart; None where it reads nothing that bills."""
        if not source.table_id:
            return None
        async with self._calls.open("chart", principal, table_id=source.table_id, noted=False) as call:
            if not await self._purchases.may_be_costly(call, source.table_id):
                return None
            _, priced = await self._prepare(call, source, request)
            return await self._purchases.quote(principal, [priced])

    async def spec(self, principal: Principal, chart_id: str) -> str:
        """A kept specification as JSON. It goes with what it was drawn from. Raises `resource_not_found`."""
        async with self._calls.open("read_chart", principal) as call:
            kept = await self._calls.run(call, lambda: self._kept(principal, chart_id))
            if kept is None:
                raise AgnesError("resource_not_found", "There is no such chart.", "Draw it again with chart.")
            return kept.spec

    async def script(self, principal: Principal) -> str:
        """Vega for the view, as one script; made once a process."""
        async with self._calls.open("view", principal, noted=False) as call:
            return await self._calls.run_apart(call, _script)

    def _open(
        self, principal: Principal, source: ChartSource, on_progress: OnProgress | None, consent: Consent | None
    ) -> AbstractAsyncContextManager[Call]:
        timeout_s = self._scan.request_timeout_seconds
        return self._calls.open(
            "chart", principal, table_id=source.table_id or None, timeout_s=timeout_s, on_progress=on_progress,
            consent=consent,
        )  # fmt: skip

    async def _chart(
        self, call: Call, source: ChartSource, request: ChartRequest, theme: Theme = "light"
    ) -> tuple[Chart, list[str], int]:
        """The chart, the tables it reads, and what it billed."""
        _check_source(source)
        if source.table_id:
            rows, request, billed = await self._aggregate(call, source, request)
            tables = [source.table_id]
        else:
            rows, tables, billed = *await self._local(call, source, request), 0
        call.line.actual_result_rows = rows.num_rows
        chart = await self._calls.run(call, lambda: _made(request, rows, theme))
        return chart, tables, billed

    async def _local(self, call: Call, source: ChartSource, request: ChartRequest) -> tuple[pa.Table, list[str]]:
        sql = source.sql
        if source.snapshot:
            call.line.snapshot = source.snapshot[:64]
            await self._calls.run(call, lambda: self._snapshots.get(call.principal.name, source.snapshot))
            sql = await self._select_read(call, source.snapshot, request)
        result = await self._queries.rows_within(call, sql, MAX_ROWS)
        if result.truncated:
            raise AgnesError(
                "result_too_large",
                f"The rows are more than a chart reads ({MAX_ROWS:,} rows or 64 MB).",
                "Fold them first: pass sql that groups by what is drawn.",
            )
        return result.table(), result.tables

    async def _select_read(self, call: Call, name: str, request: ChartRequest) -> str:
        """A SELECT of the columns that the chart needs of this snapshot, and of no other."""
        from agnes_mcp.sql.names import identifier

        empty = await self._queries.rows_within(call, f"SELECT * FROM {identifier(name)} LIMIT 0", 1)  # noqa: S608 - quoted
        columns = columns_read(request, empty.schema) or empty.schema.names[:1]
        return f"SELECT {', '.join(map(identifier, columns))} FROM {identifier(name)}"  # noqa: S608 - quoted

    async def _aggregate(
        self, call: Call, source: ChartSource, request: ChartRequest
    ) -> tuple[pa.Table, ChartRequest, int]:
        plan, priced = await self._prepare(call, source, request)
        rows, purchase = await self._purchases.buy(call, priced, _collect)
        return plan.named(rows), plan.request, purchase.receipt.bytes_billed

    async def _prepare(self, call: Call, source: ChartSource, request: ChartRequest) -> tuple[Aggregated, Priced]:
        table = await self._tables.find(call, source.table_id)
        schema = await self._tables.schema_of(call, table)
        limit = min(MAX_ROWS, self._scan.max_limit)
        plan = aggregated(request, schema, source.where, limit)
        return plan, await self._purchases.prepare(call, plan.scan)

    def _keep(self, call: Call, chart: Chart, tables: list[str]) -> tuple[str | None, str]:
        """Its address; without one, what to say of that: the picture is paid for and leaves in any case. Older ones
        that go for it are named in the audit."""
        spec = json.dumps(chart.spec, ensure_ascii=False, separators=(",", ":"))
        try:
            chart_id, gone = self._snapshots.keep_chart(call.principal.name, spec, tables)
        except AgnesError as error:
            logger.warning("a chart could not be kept: %s", error.kind)
            return None, f"The specification is not kept: {error.message}"
        call.line.removed = [*gone] or None
        return CHART_URI.format(id=chart_id), ""

    def _kept(self, principal: Principal, chart_id: str) -> KeptChart | None:
        """A chart whose rows the caller may still read: grants are those of now, dropped snapshots take it along."""
        kept = self._snapshots.chart(principal.name, chart_id)
        if kept is None:
            return None
        own = {snapshot.name: snapshot for snapshot in self._snapshots.list(principal.name)}
        visible, may_read = {table.id for table in self._tables.visible(principal)}, self._tables.may_read
        readable = all(
            all(may_read(principal, *of) for of in own[name].tables)
            if name in kept.snapshots and name in own
            else name in visible and name not in kept.snapshots
            for name in kept.tables
        )
        return kept if readable else None


def _made(request: ChartRequest, rows: pa.Table, theme: Theme) -> Chart:
    from agnes_mcp.charts.chart import make_chart

    return make_chart(request, rows, theme)


def _missing(picture: Picture) -> str:
    from agnes_mcp.charts.chart import missing_note

    return missing_note(picture)


def _script() -> str:
    from agnes_mcp.charts.bundle import javascript

    return javascript()


def _check_source(source: ChartSource) -> None:
    given = [name for name in ("sql", "snapshot", "table_id") if getattr(source, name)]
    if len(given) != 1:
        said = " and ".join(given) or "none"
        raise AgnesError(
            "invalid_argument", f"A chart has one source; {said} was given.", "Give sql, or snapshot, or table_id."
        )
    if source.where and not source.table_id:
        raise AgnesError("invalid_argument", "where narrows a table_id.", "Write the condition into the sql.")


def _collect(purchase: Purchase) -> pa.Table:
    """In a worker thread: all groups, or an error where they are more than a chart reads."""
    import pyarrow as pa

    from agnes_mcp.sql.cells import refuse_texts

    batches = []
    for batch in purchase:
        refuse_texts(batch.schema)
        batches.append(batch)
        if purchase.rows_read >= MAX_ROWS:
            raise AgnesError(
                "result_too_large",
                f"The aggregate has more than {MAX_ROWS:,} groups.",
                "Group by something coarser, or fetch it and fold it with sql.",
            )
    return pa.Table.from_batches(batches, purchase.schema)
