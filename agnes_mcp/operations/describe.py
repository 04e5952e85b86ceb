"""A table at a glance: its schema, a few rows, and on request its columns in figures.

Free for local tables and snapshots. Where a source has no free rows (a view in BigQuery), the rows are a scan like any
other: priced, capped, charged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.models import DescribeAnswer, ProfileAnswer, SampleAnswer
from agnes_mcp.answers.profile import fit_profile, read_figures, read_top_values, worth_counting
from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.models import Priced, ScanRequest, Statement, Table, TableSchema
from agnes_mcp.operations.catalog import Discovery
from agnes_mcp.operations.scan import Scanning
from agnes_mcp.spending.prices import cost_usd
from agnes_mcp.sql.profile import figures_statement, profiled_columns, top_values_statement

if TYPE_CHECKING:
    import pyarrow as pa

#: How one answer's characters are shared: schema, sample, and with a profile the rest.
_SCHEMA_SHARE, _SAMPLE_SHARE = 0.4, 0.3
_OVERHEAD_CHARS = 100


class Describing:
    def __init__(self, engine: Engine, discovery: Discovery, scanning: Scanning) -> None:
        self._engine = engine
        self._discovery = discovery
        self._scanning = scanning

    async def describe(self, admitted: Admitted, table_id: str, n: int, profile: bool) -> DescribeAnswer:
        whole = self._engine.settings.api.max_result_chars
        schema = await self._discovery.schema(admitted, table_id, int(whole * _SCHEMA_SHARE))
        sample = await self.sample(admitted, table_id, n, None, int(whole * _SAMPLE_SHARE))
        figures = await self._profile(admitted, table_id) if profile else None
        if figures is not None:
            taken = len(compact(schema.model_dump(mode="json"))) + len(compact(sample.model_dump(mode="json")))
            fit_profile(figures, whole - taken - _OVERHEAD_CHARS)
        return DescribeAnswer.model_validate({"schema": schema, "sample": sample, "profile": figures})

    async def sample(
        self, admitted: Admitted, table_id: str, n: int, select: list[str] | None, budget_chars: int | None = None
    ) -> SampleAnswer:
        free = await self._discovery.sample(admitted, table_id, n, select, budget_chars)
        if free is not None:
            return free
        budget = budget_chars or self._engine.settings.api.max_result_chars
        priced = await self._price_sample(admitted, table_id, n, select)
        outcome = await self._scanning.read(admitted, priced, budget)
        rows = outcome.shaper.rows if outcome.shaper else []
        return SampleAnswer(
            table_id=table_id,
            columns=outcome.columns,
            types=outcome.types,
            rows=rows,
            row_count=len(rows),
            truncated=len(rows) < outcome.rows_read,
            bytes_billed=outcome.receipt.bytes_billed,
            cost_usd=self._usd(outcome.receipt.bytes_billed),
            cut_cells=outcome.shaper.cut_cells if outcome.shaper else 0,
            columns_cut=outcome.columns_cut,
            note="This is not a base table, so its sample was a billed scan.",
        )

    async def free_sample(self, admitted: Admitted, table_id: str, n: int) -> SampleAnswer:
        free = await self._discovery.sample(admitted, table_id, n, None)
        note = "There are no free rows of a view. The sample tool reads some: billed, capped, and asked about."
        return free or SampleAnswer(
            table_id=table_id, columns=[], types=[], rows=[], row_count=0, truncated=True, note=note
        )

    async def price(
        self, admitted: Admitted, table_id: str, n: int, select: list[str] | None, *, profile: bool
    ) -> list[Priced]:
        """The statements that a sample, or a description with its profile, would run and bill."""
        statements = []
        if await self._discovery.sample(admitted, table_id, n, select) is None:
            statements.append(await self._price_sample(admitted, table_id, n, select))
        if profile:
            table = await self._engine.find(admitted, table_id)
            schema = await self._engine.schema(admitted, table)
            statement = figures_statement(schema, self._engine.relation(table), table.dialect)
            statements.append(await self._price(admitted, table, schema, statement))
        return statements

    async def _price_sample(self, admitted: Admitted, table_id: str, n: int, select: list[str] | None) -> Priced:
        return await self._scanning.price(
            admitted, ScanRequest(table_id=table_id, select=select, limit=n), one_more=False
        )

    async def _profile(self, admitted: Admitted, table_id: str) -> ProfileAnswer:
        table = await self._engine.find(admitted, table_id)
        schema = await self._engine.schema(admitted, table)
        statement = figures_statement(schema, self._engine.relation(table), table.dialect)
        answer, billed = await self._collect(admitted, table, schema, statement)
        profile = read_figures(schema, answer)
        if table.query_mode == "local":
            await self._add_top_values(admitted, table, schema, profile)
        profile.bytes_billed, profile.cost_usd = billed, self._usd(billed)
        return profile

    async def _add_top_values(
        self, admitted: Admitted, table: Table, schema: TableSchema, profile: ProfileAnswer
    ) -> None:
        columns = profiled_columns(schema)
        for done, (column, figures) in enumerate(zip(columns, profile.columns, strict=True), start=1):
            if worth_counting(column, figures):
                statement = top_values_statement(column, self._engine.relation(table), table.dialect)
                answer, _ = await self._collect(admitted, table, schema, statement)
                figures.top_values = read_top_values(answer)
            admitted.call.report(done, len(columns), f"profiled {column.name}")

    async def _collect(
        self, admitted: Admitted, table: Table, schema: TableSchema, statement: Statement
    ) -> tuple[pa.Table, int]:
        """The whole answer of a statement that has few rows, and what it billed."""
        priced = await self._price(admitted, table, schema, statement)
        return await self._scanning.collect(admitted, priced)

    async def _price(self, admitted: Admitted, table: Table, schema: TableSchema, statement: Statement) -> Priced:
        engine = self._engine
        price = await engine.workers.run(
            admitted.call, lambda: engine.source(table).price(table, schema, statement, admitted.call)
        )
        return Priced(table, schema, ScanRequest(table_id=table.id), statement, price)

    def _usd(self, billed: int) -> float:
        return cost_usd(billed, self._engine.settings.api.scan.bq_cost_per_tb_usd) or 0.0
