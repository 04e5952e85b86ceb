"""Which tables there are, and the columns of each: for free."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import anyio.to_thread

from agnes_mcp.answers.fitting import chars_of, fit
from agnes_mcp.answers.models import CatalogAnswer, CatalogEntry, SchemaAnswer
from agnes_mcp.answers.tables import schema_answer
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.learning import Learning
from agnes_mcp.catalog.search import (
    MAX_CURSOR_CHARS,
    Finder,
    Rank,
    behind,
    catalog_entry,
    folded,
    read_cursor,
    write_cursor,
)
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
#: Of how many tables the last answer about columns is kept; one takes as many characters as an answer may.
_MOST_DESCRIBED = 64
_SO_FAR = (
    "Columns and descriptions of {:,} of {} are known so far, and the others are being read: a search "
    "finds these by id alone until then, so call again before you say that there is no such table."
)


class Catalog:
    def __init__(self, calls: Calls, tables: Tables, sources: Sources, learning: Learning, api: ApiSettings) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._learning = learning
        self._api = api
        self._finder = Finder(tables.index)
        self._split: tuple[object, list[Table], list[Table]] | None = None
        self._counted: tuple[object, int, int] | None = None
        # `_MOST_DESCRIBED`; true of the very same table and schema alone.
        self._described: dict[str, tuple[Table, TableSchema, int, SchemaAnswer]] = {}

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
            pending = await self.start_learning(again=refresh)
            # of before and after: whatever is missing among these tables is said to be, also while they are listed
            problems = dict(self._tables.dataset_problems)
            visible = self._tables.visible(principal)
            problems.update(self._tables.dataset_problems)
            self._learning.learn(principal, visible, again=refresh)
            after = read_cursor(cursor, search, source_type)
            local, remote = self._by_way(visible)
            unread = await self._learn(call, local, again=refresh) if search else 0
            # before the search: what becomes known meanwhile may have been missed by it, and is not called known
            known, of = self._count(remote), len(remote)
            total, page = await self._page(visible, folded(search.strip()), source_type, after, limit)
            shown = [table for _, table in page[:limit]]
            await self._learn(call, shown, again=refresh)
            self._learning.look_at(shown, self._api.catalog_cache_ttl_seconds, again=refresh)
            answer = CatalogAnswer(
                tables=[], total=total, next_cursor="x" * MAX_CURSOR_CHARS, server_time=utc_now(),
                metadata_known=known if known < of else None, metadata_total=of if known < of else None,
                note=self._note(unread, pending, problems, known, of, visible),
            )  # fmt: skip
            left = self._api.max_result_chars - chars_of(answer)
            answer.tables = fit((self._entry(table) for table in shown), left, at_least=1)
            last = page[len(answer.tables) - 1][0] if len(answer.tables) < len(page) else None
            answer.next_cursor = write_cursor(last, search, source_type) if last else None
            return answer

    async def start_learning(self, *, again: bool = False) -> bool:
        """Have remote tables listed and learned behind; True while it is not known yet which ones there are."""
        if not self._tables.recalled:
            await self._calls.aside(self._tables.recall)
        self._learning.learn_all()
        return self._learning.list_datasets(again=again)

    async def settle(self, within_s: float) -> None:
        """Begin, and wait until the datasets have been listed, or could not be, for so long at most."""
        if await self.start_learning():
            await anyio.to_thread.run_sync(self._learning.await_listing, within_s, abandon_on_cancel=True)

    async def _page(
        self, visible: list[Table], wanted: str, source_type: SourceType | None, after: Rank | None, limit: int
    ) -> tuple[int, list[tuple[Rank, Table]]]:
        """How many tables match, and those behind `after`, with their places: one more than the page has."""
        if wanted:
            # a search through thousands of tables takes longer than the loop may be held; it needs no worker's turn
            ranked = await anyio.to_thread.run_sync(self._finder.find, visible, wanted)
            found = [pair for pair in ranked if source_type in (None, pair[1].source_type)]
            return len(found), list(islice((pair for pair in found if after is None or pair[0] > after), limit + 1))
        tables = visible if source_type is None else [t for t in visible if t.source_type == source_type]
        start = behind(tables, after)
        return len(tables), [((0, table.id), table) for table in tables[start : start + limit + 1]]

    async def columns(self, principal: Principal, table_id: str) -> SchemaAnswer:
        """A table's columns, partitioning, sizes, and how its dialect writes literals."""
        async with self._calls.open("schema", principal, table_id=table_id) as call:
            return await self.columns_within(call, table_id, self._api.max_result_chars)

    async def columns_within(self, call: Call, table_id: str, chars: int) -> SchemaAnswer:
        """The same as part of another call, in so many characters."""
        table = await self._tables.find(call, table_id)
        schema = await self._tables.schema_of(call, table)
        kept = self._described.get(table.id)
        # Whatever is registered or learnt anew is another object, so that the same ones make the same answer.
        if kept is not None and kept[0] is table and kept[1] is schema and kept[2] == chars:
            return kept[3]

        def work() -> SchemaAnswer:  # of 20,000 columns it is not a matter for the event loop
            if table.query_mode == "local":
                self._tables.index.put(table, schema)
            return schema_answer(table, schema, chars)

        answer = await self._calls.run(call, work)
        if len(self._described) >= _MOST_DESCRIBED:
            self._described.clear()
        self._described[table.id] = (table, schema, chars, answer)
        return answer

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

    def _is_stale(self, table: Table) -> bool:
        known = self._tables.index.get(table)
        return known is None or known.age_s >= self._api.catalog_cache_ttl_seconds

    async def _learn(self, call: Call, tables: list[Table], *, again: bool) -> int:
        """Read the footers of local tables that are not known, for a bounded time; how many are left."""
        local = [table for table in tables if table.query_mode == "local" and (again or self._is_stale(table))]
        if not local:
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
            self._tables.index.put(table, self._sources.of(table).schema(table, call))
        except AgnesError:
            call.check()
            self._tables.index.forget(table)  # the catalog still lists it; `schema` says what is wrong

    def _by_way(self, visible: list[Table]) -> tuple[list[Table], list[Table]]:
        """The local tables and the remote ones, kept for as long as the list is the same."""
        if self._split is None or self._split[0] is not visible:
            remote = [table for table in visible if table.query_mode == "remote"]
            self._split = (visible, [table for table in visible if table.query_mode == "local"], remote)
        return self._split[1:]

    def _count(self, remote: list[Table]) -> int:
        """How many of these are known; counted anew once something has become known."""
        changes = self._tables.index.changes
        if self._counted is None or self._counted[0] is not remote or self._counted[1] != changes:
            self._counted = (remote, changes, self._tables.index.count(remote))
        return self._counted[2]

    def _entry(self, table: Table) -> CatalogEntry:
        entry = catalog_entry(table, self._tables.index.get(table))
        if problem := self._sources.problem(table):
            entry.fetch_via = clean(f"not readable now: {problem}", _MAX_NOTE_CHARS)
        return entry

    def _note(
        self, unread: int, pending: bool, problems: Mapping[str, Any], known: int, of: int, visible: list[Table]
    ) -> str | None:
        said = []
        problem = self._learning.problem
        if pending and problem is not None:
            said.append(f"The datasets cannot be listed ({problem.kind}): {problem.message} {problem.hint}")
        elif pending:
            said.append("The datasets are being listed; call again in a moment for the tables that they hold.")
        said += [
            f"The dataset {name} is not listed ({told['error']}): {told['message']} {told['hint']}"
            for name, told in problems.items()
        ]
        if known < of:
            said.append(_SO_FAR.format(known, _tables(of, "remote ")))
            failed = ", ".join(f"{n:,} × {kind}" for kind, n in sorted(self._learning.failures(visible).items()))
            said += [f"Some could not be read: {failed}; `schema` of such a table says more."] if failed else []
        if unread:
            said.append(f"The columns of {_tables(unread)} have not been read yet; repeat the search for them.")
        return clean(" ".join(said), _MAX_NOTE_CHARS) or None


def _tables(number: int, kind: str = "") -> str:
    return f"{number:,} {kind}table{'' if number == 1 else 's'}"
