"""Which tables there are, and the columns of each: for free."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio.to_thread

from agnes_mcp.answers.fitting import chars_of, fit
from agnes_mcp.answers.models import CatalogAnswer, CatalogEntry, SchemaAnswer
from agnes_mcp.answers.tables import schema_answer
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.background import Background
from agnes_mcp.catalog.search import MAX_CURSOR_CHARS, catalog_entry, rank, rank_of, read_cursor, write_cursor
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal, SourceType, Table, TableSchema
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.books import utc_now
from agnes_mcp.untrusted import clean

#: How long one catalog call may spend on reading footers of local tables that nobody has looked at yet.
LEARN_FOR_S = 2.0
_MAX_NOTE_CHARS = 2_000


class Catalog:
    def __init__(
        self, calls: Calls, tables: Tables, sources: Sources, background: Background, api: ApiSettings
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._background = background
        self._api = api
        self._known: dict[str, tuple[float, TableSchema]] = {}

    async def browse(
        self,
        principal: Principal,
        *,
        search: str = "",
        source_type: SourceType | None = None,
        limit: int = 50,
        cursor: str = "",
        refresh: bool = False,
    ) -> CatalogAnswer:
        """One page of the tables that the principal may read, best match first, then by id."""
        async with self._calls.open("catalog", principal) as call:
            await self._tables.look(call)
            pending = self._background.list_datasets(again=refresh)
            visible = self._tables.visible(principal)
            tables = [table for table in visible if source_type is None or table.source_type == source_type]
            wanted = search.strip().casefold()
            unread = await self._learn(call, tables, again=refresh, wanted=bool(search)) if search else 0
            # a search through thousands of tables takes longer than the loop may be held; it needs no worker's turn
            ranked = await anyio.to_thread.run_sync(rank, tables, wanted, self._schema_known)
            after = read_cursor(cursor, search, source_type)
            page = [table for key, table in ranked if after is None or key > after]
            await self._learn(call, page[:limit], again=refresh, wanted=True)
            self._refresh_behind(page[:limit], again=refresh)
            answer = CatalogAnswer(
                tables=[], total=len(ranked), next_cursor="x" * MAX_CURSOR_CHARS, server_time=utc_now(),
                note=_note(unread, pending, self._background.problem, self._dataset_problems()),
            )  # fmt: skip
            left = self._api.max_result_chars - chars_of(answer)
            answer.tables = fit((self._entry(table) for table in page[:limit]), left, at_least=1)
            last = page[len(answer.tables) - 1] if len(answer.tables) < len(page) else None
            place = rank_of(last, wanted, self._schema_known) if last else None
            answer.next_cursor = write_cursor(place, search, source_type) if place else None
            return answer

    async def columns(self, principal: Principal, table_id: str) -> SchemaAnswer:
        """A table's columns, partitioning, sizes, and how its dialect writes literals."""
        async with self._calls.open("schema", principal, table_id=table_id) as call:
            return await self.columns_within(call, table_id, self._api.max_result_chars)

    async def columns_within(self, call: Call, table_id: str, chars: int) -> SchemaAnswer:
        """The same as part of another call, in so many characters."""
        table = await self._tables.find(call, table_id)
        schema = await self._tables.schema_of(call, table)
        self._remember(table, schema)
        return schema_answer(table, schema, chars)

    def listed(self, principal: Principal) -> list[Table]:
        """The tables that the principal may read, by id; free and uncounted."""
        return self._tables.visible(principal)

    async def column_names(self, principal: Principal, table_id: str) -> list[str]:
        """Columns and nested fields of a table, dotted; none where the table cannot be seen or described."""
        try:
            async with self._calls.open("complete", principal, table_id=table_id, noted=False) as call:
                table = await self._tables.find(call, table_id)
                return [path for path, _ in (await self._tables.schema_of(call, table)).walk()]
        except AgnesError:
            return []

    def _dataset_problems(self) -> Mapping[str, Any]:
        known = self._sources.health("bigquery") if "bigquery" in self._sources.kinds else {}
        problems: Mapping[str, Any] = known.get("datasets", {})
        return problems

    def _schema_known(self, table: Table) -> TableSchema | None:
        known = self._known.get(table.id)
        return known[1] if known else None

    def _remember(self, table: Table, schema: TableSchema) -> None:
        self._known[table.id] = (time.monotonic(), schema)

    def _is_stale(self, table: Table) -> bool:
        known = self._known.get(table.id)
        return known is None or time.monotonic() - known[0] >= self._api.catalog_cache_ttl_seconds

    def _refresh_behind(self, page: list[Table], *, again: bool) -> None:
        """Metadata of remote tables comes from another thread, for the next call: this one does not wait."""
        for table in page:
            if table.query_mode == "remote" and (again or self._is_stale(table)):
                self._background.learn(table, self._remember)

    async def _learn(self, call: Call, tables: list[Table], *, again: bool, wanted: bool) -> int:
        """Read the footers of local tables that are not known, for a bounded time; how many are left."""
        local = [table for table in tables if table.query_mode == "local" and (again or self._is_stale(table))]
        if not local or not wanted:
            return 0
        started = time.monotonic()

        def work() -> int:
            for done, table in enumerate(local):
                if time.monotonic() - started > LEARN_FOR_S:
                    return len(local) - done
                self._learn_one(call, table)
            return 0

        return await self._calls.run(call, work)

    def _learn_one(self, call: Call, table: Table) -> None:
        try:
            self._remember(table, self._sources.of(table).schema(table, call))
        except AgnesError:
            call.check()
            self._known.pop(table.id, None)  # the catalog still lists it; `schema` says what is wrong

    def _entry(self, table: Table) -> CatalogEntry:
        return catalog_entry(table, self._schema_known(table) or self._tables.schemas.get(table.id))


def _note(unread: int, pending: bool, problem: AgnesError | None, problems: Mapping[str, Any]) -> str | None:
    said = []
    if pending and problem is not None:
        said.append(f"The datasets cannot be listed ({problem.kind}): {problem.message} {problem.hint}")
    elif pending:
        said.append("The datasets are being listed; call again in a moment for the tables that they hold.")
    said += [
        f"The dataset {name} is not listed ({told['error']}): {told['message']} {told['hint']}"
        for name, told in problems.items()
    ]
    if unread:
        said.append(f"The columns of {unread} tables have not been read yet; repeat the search for them.")
    return clean(" ".join(said), _MAX_NOTE_CHARS) or None
