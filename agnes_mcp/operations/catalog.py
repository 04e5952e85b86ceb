"""What an agent may look at for free: the catalog, schemas, samples."""

from __future__ import annotations

import time

import anyio.to_thread

from agnes_mcp.access.grants import visible_tables
from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.models import CatalogAnswer, CatalogEntry, SampleAnswer, SchemaAnswer
from agnes_mcp.answers.tables import sample_answer, schema_answer
from agnes_mcp.catalog.background import Behind
from agnes_mcp.catalog.search import catalog_entry, rank, rank_of, read_cursor, write_cursor
from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import SourceType, Table, TableSchema
from agnes_mcp.spending.quota import utc_now
from agnes_mcp.sql.columns import select_columns

#: How long one catalog call may spend on reading footers of local tables that nobody has looked at yet.
LEARN_FOR_S = 2.0
_OVERHEAD_CHARS = 600


class Discovery:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, TableSchema]] = {}
        self._behind = Behind(engine)

    async def catalog(
        self,
        admitted: Admitted,
        *,
        search: str = "",
        source_type: SourceType | None = None,
        limit: int = 50,
        cursor: str = "",
        refresh: bool = False,
    ) -> CatalogAnswer:
        """One page of the tables that the principal may read, best match first, then by id."""
        pending = self._behind.discover(again=refresh)
        tables = [t for t in self._visible(admitted) if source_type is None or t.source_type == source_type]
        wanted = search.strip().casefold()
        unread = await self._learn(admitted, tables, again=refresh, wanted=bool(search)) if search else 0
        # a search through thousands of tables takes longer than the event loop may be held; it needs no worker's turn
        ranked = await anyio.to_thread.run_sync(rank, tables, wanted, self._schema_of)
        after = read_cursor(cursor, search, source_type)
        page = [table for key, table in ranked if after is None or key > after]
        await self._learn(admitted, page[:limit], again=refresh, wanted=True)
        self._refresh_behind(page[:limit], again=refresh)
        entries = self._entries(page[:limit])
        last = page[len(entries) - 1] if entries and len(entries) < len(page) else None
        return CatalogAnswer(
            tables=entries,
            total=len(ranked),
            next_cursor=write_cursor(rank_of(last, wanted, self._schema_of), search, source_type) if last else None,
            server_time=utc_now(),
            note=_note(unread, pending),
        )

    async def schema(self, admitted: Admitted, table_id: str, budget_chars: int | None = None) -> SchemaAnswer:
        table = await self._engine.find(admitted, table_id)
        schema = await self._engine.schema(admitted, table)
        self._known[table.id] = (time.monotonic(), schema)
        return schema_answer(table, schema, budget_chars or self._engine.settings.api.max_result_chars)

    async def sample(
        self, admitted: Admitted, table_id: str, n: int, select: list[str] | None, budget_chars: int | None = None
    ) -> SampleAnswer | None:
        """Rows of the table, free; None where the source has no free way, so that the caller must pay for a scan."""
        engine = self._engine
        table = await engine.find(admitted, table_id)
        schema = await engine.schema(admitted, table)
        columns = select_columns(select, schema)
        budget = budget_chars or engine.settings.api.max_result_chars
        key = f"{table.id}|{n}|{budget}|{compact(columns)}"
        cached = engine.samples.get(key)
        if cached is not None:
            return cached

        def work() -> SampleAnswer | None:
            rows = engine.source(table).preview(table, schema, columns, n, admitted.call)
            return None if rows is None else sample_answer(table, rows, budget)

        answer = await engine.workers.run(admitted.call, work)
        if answer is not None:
            engine.samples.put(key, answer)
        return answer

    def _visible(self, admitted: Admitted) -> list[Table]:
        return visible_tables(self._engine.registry, self._engine.access, admitted.principal)

    def _schema_of(self, table: Table) -> TableSchema | None:
        known = self._known.get(table.id)
        return known[1] if known else None

    def _refresh_behind(self, page: list[Table], *, again: bool) -> None:
        """Metadata of remote tables comes from another thread, for the next call: this one does not wait."""
        ttl = self._engine.settings.api.catalog_cache_ttl_seconds
        now = time.monotonic()
        for table in page:
            known = self._known.get(table.id)
            if table.source_type == "bigquery" and (again or known is None or now - known[0] >= ttl):
                self._behind.learn(table, self._remember)

    def _remember(self, table: Table, schema: TableSchema) -> None:
        self._known[table.id] = (time.monotonic(), schema)

    async def _learn(self, admitted: Admitted, tables: list[Table], *, again: bool, wanted: bool) -> int:
        """Read the footers of local tables that are not known, for a bounded time; how many are left."""
        ttl = self._engine.settings.api.catalog_cache_ttl_seconds
        now = time.monotonic()
        stale = [t for t in tables if again or t.id not in self._known or now - self._known[t.id][0] >= ttl]
        local = [table for table in stale if table.source_type != "bigquery"]
        if not local or not wanted:
            return 0

        def work() -> int:
            for done, table in enumerate(local):
                if time.monotonic() - now > LEARN_FOR_S:
                    return len(local) - done
                self._learn_one(admitted, table)
            return 0

        return await self._engine.workers.run(admitted.call, work)

    def _learn_one(self, admitted: Admitted, table: Table) -> None:
        try:
            schema = self._engine.source(table).schema(table, admitted.call)
        except AgnesError:
            admitted.call.check()
            self._known.pop(table.id, None)  # the catalog still lists it; `schema` says what is wrong
            return
        self._known[table.id] = (time.monotonic(), schema)

    def _entries(self, page: list[Table]) -> list[CatalogEntry]:
        """As many entries as fit one answer."""
        left = self._engine.settings.api.max_result_chars - _OVERHEAD_CHARS
        entries: list[CatalogEntry] = []
        for table in page:
            entry = catalog_entry(table, self._schema_of(table) or self._engine.schemas.get(table.id))
            left -= len(compact(entry.model_dump(mode="json"))) + 1
            if left < 0 and entries:
                break
            entries.append(entry)
        return entries


def _note(unread: int, pending: bool) -> str | None:
    if pending:
        return "The datasets are being listed; call again in a moment for the tables that they hold."
    return f"The columns of {unread} tables have not been read yet; repeat the search for them." if unread else None
