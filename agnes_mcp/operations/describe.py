"""A table at a glance: its schema, a few rows, and on request its columns in figures.

Free for local tables and snapshots. Where a source has no free rows (a view in BigQuery), the rows are a scan like any
other: priced, capped, charged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import chars_of, compact
from agnes_mcp.answers.models import DescribeAnswer, ProfileAnswer, SampleAnswer
from agnes_mcp.answers.profile import fit_profile, read_figures, read_top_values, worth_counting
from agnes_mcp.answers.rows import NO_ROWS, RowsFitting, columns_of, sample_answer, types_of
from agnes_mcp.answers.values import type_name
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls, OnProgress
from agnes_mcp.catalog.tables import Tables, kept_as
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Consent, Priced, Principal, Relation, ScanRequest, Statement, Table, TableSchema
from agnes_mcp.operations.catalog import Catalog
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.consent import Quote
from agnes_mcp.spending.prices import row_bytes
from agnes_mcp.spending.purchase import Purchase, Purchases
from agnes_mcp.sql.columns import select_columns
from agnes_mcp.sql.profile import figures_statement, profiled_columns, top_values_statement
from agnes_mcp.sql.working import WorkingCall

if TYPE_CHECKING:
    import pyarrow as pa

#: How one answer's characters are shared: schema, sample, and with a profile the rest.
_SCHEMA_SHARE, _SAMPLE_SHARE = 0.4, 0.3
_BILLED_NOTE = "BigQuery gives no free rows of it, so this sample was a billed scan."
_NOT_FREE_NOTE = "There are no free rows of it. The sample tool reads some: billed, capped, and asked about."


class Descriptions:
    def __init__(
        self, calls: Calls, tables: Tables, sources: Sources, purchases: Purchases, catalog: Catalog, api: ApiSettings
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._purchases = purchases
        self._catalog = catalog
        self._api = api

    async def describe(
        self,
        principal: Principal,
        table_id: str,
        n: int = 5,
        profile: bool = False,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
        select: list[str] | None = None,
    ) -> DescribeAnswer:
        """Schema, `n` rows, and with `profile` figures of each column: free for local tables. `select` narrows rows and
        figures. Raises `over_scan_cap` with a selection that is under the cap, where there is one."""
        async with self._calls.open(
            "describe",
            principal,
            table_id=table_id,
            timeout_s=self._api.scan.request_timeout_seconds,
            on_progress=on_progress,
            consent=consent,
        ) as call:
            whole = self._api.max_result_chars
            schema = await self._catalog.columns_within(call, table_id, int(whole * _SCHEMA_SHARE))
            sample = await self._sample(call, table_id, n, select, int(whole * _SAMPLE_SHARE))
            answer = DescribeAnswer.model_validate({"schema": schema, "sample": sample})
            if profile:
                answer.profile = await self._profile(call, table_id, select)
                fit_profile(answer.profile, whole - chars_of(answer) + chars_of(answer.profile))
            return answer

    async def sample(
        self,
        principal: Principal,
        table_id: str,
        n: int = 5,
        select: list[str] | None = None,
        consent: Consent | None = None,
    ) -> SampleAnswer:
        """`n` rows, free wherever the source can give them free."""
        timeout_s = self._api.scan.request_timeout_seconds
        async with self._calls.open(
            "sample", principal, table_id=table_id, timeout_s=timeout_s, consent=consent
        ) as call:
            return await self._sample(call, table_id, n, select, self._api.max_result_chars)

    async def free_sample(self, principal: Principal, table_id: str, n: int) -> SampleAnswer:
        """Rows of the table, or an empty answer whose note says why none are free."""
        async with self._calls.open("sample", principal, table_id=table_id) as call:
            free = await self._free_sample(call, table_id, n, None, self._api.max_result_chars)
            return free or SampleAnswer(**{**NO_ROWS, "truncated": True}, table_id=table_id, note=_NOT_FREE_NOTE)

    async def price_describe(
        self, principal: Principal, table_id: str, n: int, profile: bool, select: list[str] | None = None
    ) -> Quote | None:
        """What a person must be asked before that description."""
        return await self._price("describe", principal, table_id, n, select, profile=profile)

    async def price_sample(self, principal: Principal, table_id: str, n: int, select: list[str] | None) -> Quote | None:
        """What a person must be asked before that sample."""
        return await self._price("sample", principal, table_id, n, select, profile=False)

    async def _price(
        self, tool: str, principal: Principal, table_id: str, n: int, select: list[str] | None, *, profile: bool
    ) -> Quote | None:
        async with self._calls.open(tool, principal, table_id=table_id, noted=False) as call:
            if not await self._purchases.may_be_costly(call, table_id):
                return None
            statements = []
            if await self._free_sample(call, table_id, n, select, self._api.max_result_chars) is None:
                statements.append(await self._prepare_sample(call, table_id, n, select))
            if profile:
                statements.append(await self._prepare_figures(call, table_id, select))
            return await self._purchases.quote(principal, statements)

    async def _sample(self, call: Call, table_id: str, n: int, select: list[str] | None, chars: int) -> SampleAnswer:
        free = await self._free_sample(call, table_id, n, select, chars)
        if free is not None:
            return free
        priced = await self._prepare_sample(call, table_id, n, select)
        return await self._read_sample(call, priced, chars)

    async def _free_sample(
        self, call: Call, table_id: str, n: int, select: list[str] | None, chars: int
    ) -> SampleAnswer | None:
        """None where the source has no free way, so that the caller must pay for a scan."""
        table = await self._tables.find(call, table_id)
        schema = await self._tables.schema_of(call, table)
        columns = [column.name for column in schema.columns]
        if select is not None:  # a name that is none is compared with all of them
            columns = await self._calls.run(call, lambda: select_columns(select, schema))
        key = f"{kept_as(table)}|{n}|{chars}|{compact(columns)}"
        kept = self._tables.samples.get(key)
        if kept is not None:
            return kept
        forgotten, is_current = self._tables.samples.forgotten, self._tables.known(table.id) == table

        def work() -> SampleAnswer | None:
            rows = self._sources.of(table).preview(table, schema, columns, n, call)
            known = [schema.column(name) for name in columns]
            types = [type_name(column, table.dialect) for column in known if column is not None]
            return None if rows is None else sample_answer(table.id, rows, types, chars)

        answer = await self._calls.run(call, work)
        if answer is not None and is_current and self._tables.samples.forgotten == forgotten:
            self._tables.samples.put(key, answer)
        return answer

    async def _prepare_sample(self, call: Call, table_id: str, n: int, select: list[str] | None) -> Priced:
        where = await self._newest(call, table_id)
        return await self._purchases.prepare(call, ScanRequest(table_id=table_id, select=select, where=where, limit=n))

    async def _prepare_figures(self, call: Call, table_id: str, select: list[str] | None) -> Priced:
        """Its schema has the columns alone that are figured."""
        request = ScanRequest(table_id=table_id, where=await self._newest(call, table_id))

        def build(table: Table, schema: TableSchema, relation: Relation) -> Statement:
            return figures_statement(schema, relation, table.dialect, request.where, _figured(schema, select).columns)

        return await self._purchases.prepare_own(call, table_id, build, request)

    async def _select_cheaper(self, call: Call, priced: Priced, error: AgnesError) -> AgnesError:
        """The same `over_scan_cap`, with the call that is under the cap: of the cheapest columns as many as can be."""
        columns = sorted(profiled_columns(priced.schema), key=lambda column: row_bytes([column]))
        while len(columns := columns[: len(columns) // 2]) > 0:
            names = [column.name for column in priced.schema.columns if column in columns]
            cheaper = await self._prepare_figures(call, priced.table.id, names)
            if cheaper.price.agreed_bytes <= self._api.scan.max_scan_bytes:
                working = WorkingCall("describe", {"table_id": priced.table.id, "profile": True, "select": names})
                error.hint = f"Call {working}."
                error.details["call"] = {"tool": working.tool, "arguments": working.arguments}
                break
        return error

    async def _newest(self, call: Call, table_id: str) -> str:
        """A condition on the newest partition, where the table is read with a filter only."""
        table = await self._tables.find(call, table_id)
        schema = await self._tables.schema_of(call, table)
        partition = schema.partition
        if partition is None or not (partition.filter_required or partition.type == "SHARD"):
            return ""
        return await self._calls.run(call, lambda: self._sources.of(table).newest(table, schema, call))

    async def _read_sample(self, call: Call, priced: Priced, chars: int) -> SampleAnswer:
        empty = SampleAnswer(**NO_ROWS, table_id=priced.table.id)
        max_bytes = self._api.scan.max_result_bytes

        def work(purchase: Purchase) -> RowsFitting[SampleAnswer]:
            fitting = RowsFitting(empty, *columns_of(purchase.schema, types_of(priced, purchase)), chars)
            for batch in purchase:
                fitting.add(batch)
                if fitting.full or purchase.bytes_read > max_bytes:
                    break
            return fitting

        fitting, purchase = await self._purchases.buy(call, priced, work)
        call.line.actual_result_rows, call.line.actual_result_bytes = purchase.rows_read, purchase.bytes_read
        if fitting.truncated_by or purchase.bytes_read > max_bytes:
            call.line.status = "truncated"
        return fitting.finish(
            truncated=fitting.full,
            bytes_billed=purchase.receipt.bytes_billed,
            cost_usd=self._purchases.usd(purchase),
            note=_BILLED_NOTE + _of_newest(priced.request.where),
        )

    async def _profile(self, call: Call, table_id: str, select: list[str] | None) -> ProfileAnswer:
        priced = await self._prepare_figures(call, table_id, select)
        try:
            answer, purchase = await self._collect(call, priced)
        except AgnesError as error:
            if error.kind != "over_scan_cap" or select is not None:
                raise
            raise await self._select_cheaper(call, priced, error) from None
        all_columns = len(priced.schema.columns)
        priced.schema = _figured(priced.schema, select)
        profile = read_figures(priced.schema, priced.table.dialect, answer)
        if select is None:
            profile.columns_cut += all_columns - len(priced.schema.columns)
        profile.note = _of_newest(priced.request.where).strip() or None
        if priced.table.query_mode == "local":
            await self._add_top_values(call, priced, profile)
        profile.bytes_billed, profile.cost_usd = purchase.receipt.bytes_billed, self._purchases.usd(purchase)
        return profile

    async def _add_top_values(self, call: Call, figured: Priced, profile: ProfileAnswer) -> None:
        columns = zip(profiled_columns(figured.schema), profile.columns, strict=True)
        worthy = [(column, figures) for column, figures in columns if worth_counting(column, figures)]
        if not worthy:
            return
        call.report(1, 2, "figures are there; counting frequent values")
        build = _TopValues([column for column, _ in worthy])
        answer, _ = await self._collect(call, await self._purchases.prepare_own(call, figured.table.id, build))
        for (_, figures), values in zip(worthy, read_top_values(answer), strict=True):
            figures.top_values = values

    async def _collect(self, call: Call, priced: Priced) -> tuple[pa.Table, Purchase]:
        """The whole answer of a statement of ours that gives few rows, and what became of its purchase."""

        def work(purchase: Purchase) -> pa.Table:
            import pyarrow as pa

            from agnes_mcp.sql.cells import refuse_texts

            batches = list(purchase)
            for batch in batches:
                refuse_texts(batch.schema)
            return pa.Table.from_batches(batches, purchase.schema)

        return await self._purchases.buy(call, priced, work)


def _figured(schema: TableSchema, select: list[str] | None) -> TableSchema:
    """The schema of the columns that a profile is of."""
    if select is None:
        return schema.model_copy(update={"columns": profiled_columns(schema)})
    named = {name.casefold() for name in select_columns(select, schema)}
    return schema.model_copy(update={"columns": [c for c in schema.columns if c.name.casefold() in named]})


def _of_newest(where: str) -> str:
    return f" Of the newest partition, as not all of it is read at once: {where}." if where else ""


class _TopValues:
    """The statement that counts the most frequent values of these columns."""

    def __init__(self, columns: list[Column]) -> None:
        self._columns = columns

    def __call__(self, table: Table, schema: TableSchema, relation: Relation) -> Statement:
        return top_values_statement(self._columns, relation)
