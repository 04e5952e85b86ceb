"""Ask many: one read-only SELECT over the caller's local tables and snapshots, free."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agnes_mcp.access.grants import Access
from agnes_mcp.answers.models import QueryAnswer
from agnes_mcp.answers.rows import DEFAULT_ROWS, NO_ROWS, RowsFitting
from agnes_mcp.answers.values import short_type
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ApiSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal, Table
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import Snapshot
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.sql.views import View
from agnes_mcp.workbench.workbench import Workbench

if TYPE_CHECKING:
    from agnes_mcp.workbench.workbench import Result

#: What a query worker may send back for one answer; an answer shows far less.
MAX_ANSWER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class LateView(View):
    """A view whose files are looked up, or verified, only when the SQL turns out to read it."""

    resolve: Callable[[], View] | None = None

    def as_message(self) -> dict[str, Any]:
        assert self.resolve is not None  # noqa: S101 - always given, see `late`
        return self.resolve().as_message()


def late(name: str, resolve: Callable[[], View]) -> LateView:
    return LateView(name=name, kind="parquet", paths=[], resolve=resolve)


class Queries:
    def __init__(
        self,
        calls: Calls,
        tables: Tables,
        access: Access,
        sources: Sources,
        snapshots: SnapshotStore,
        workbench: Workbench,
        api: ApiSettings,
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._access = access
        self._sources = sources
        self._snapshots = snapshots
        self._workbench = workbench
        self._api = api

    async def query(self, principal: Principal, sql: str, limit: int | None = None) -> QueryAnswer:
        """Run it in a process that holds the caller's files and nothing else. Without a limit it gives 1,000 rows, and
        an answer that these cut is truncated."""
        timeout_s, own_limit = self._api.scan.request_timeout_seconds, limit is not None
        async with self._calls.open("query", principal, timeout_s=timeout_s) as call:
            call.line.limit = limit = DEFAULT_ROWS if limit is None else limit
            await self._tables.look(call)
            work = lambda: self._run(call, sql, limit, own_limit)  # noqa: E731 - one expression
            return await self._calls.run_apart(call, work, self._workbench.timeout_s)

    async def rows_within(self, call: Call, sql: str, limit: int) -> Result:
        """The rows of such a SELECT as they are, for another operation's call."""
        return await self._calls.run_apart(call, lambda: self._read(call, sql, limit)[0], self._workbench.timeout_s)

    def _run(self, call: Call, sql: str, limit: int, own_limit: bool) -> QueryAnswer:
        result, snapshots = self._read(call, sql, limit)
        with call.step("shape"):
            return self._answer(call, result, limit, own_limit, snapshots)

    def _read(self, call: Call, sql: str, limit: int) -> tuple[Result, list[Snapshot]]:
        """With the rows the snapshots that they may be of."""
        principal = call.principal
        tables = self._tables.visible(principal)
        snapshots = [s for s in self._snapshots.list(principal.name) if self._may_use(principal, s)]
        with ExitStack() as held:  # the files stay while the query reads them
            views = [late(s.name, self._snapshot_view(call, s, held)) for s in snapshots]
            views += [late(t.id, self._table_view(call, t)) for t in tables if t.query_mode == "local"]
            try:
                with call.step("read"):
                    result = self._workbench.run(sql, views, limit_rows=limit, max_bytes=MAX_ANSWER_BYTES, call=call)
            except AgnesError as error:
                raise _redirected(_point_at_fetch(error, tables), sql, tables, snapshots) from None
        call.line.tables = list(result.tables)
        return result, snapshots

    def _may_use(self, principal: Principal, snapshot: Snapshot) -> bool:
        """A grant that was taken back takes the rows fetched under it along."""
        return not snapshot.expired and all(
            self._tables.may_read(principal, table_id, place) for table_id, place in snapshot.tables
        )

    def _snapshot_view(self, call: Call, snapshot: Snapshot, held: ExitStack) -> Callable[[], View]:
        def resolve() -> View:
            for table_id, place in snapshot.tables:
                self._tables.check_place(f"The snapshot {snapshot.name!r}", table_id, place)
            reading = self._snapshots.reading(call.principal.name, snapshot.name, call)
            _, path = held.enter_context(reading)
            return View(name=snapshot.name, kind="parquet", paths=[str(path)])

        return resolve

    def _table_view(self, call: Call, table: Table) -> Callable[[], View]:
        return lambda: self._sources.of(table).view(table, call)

    def _answer(
        self, call: Call, result: Result, limit: int, own_limit: bool, snapshots: list[Snapshot]
    ) -> QueryAnswer:
        empty = QueryAnswer(
            **NO_ROWS,
            tables=result.tables,
            elapsed_s=round(result.elapsed_s, 4),
            warnings=[*_part_warnings(result.tables, snapshots), *_stale_warnings(result.tables, snapshots)],
        )
        names = list(result.schema.names)
        fitting = RowsFitting(
            empty, names, [short_type(kind) for kind in result.types], self._api.max_result_chars, limit
        )
        done = 0
        for batch in result.batches:
            call.check()
            rows = range(done, done + batch.num_rows)
            fitting.add(batch, {(r - done, c): chars for (r, c), chars in result.cut_cells.items() if r in rows})
            done += batch.num_rows
        cut_by = {"rows": "limit", "bytes": "result_bytes"}.get(result.cut_by)
        truncated_by = fitting.rows_cut_by or cut_by or fitting.truncated_by
        asked_for = truncated_by == "limit" and own_limit
        truncated_by = None if asked_for else truncated_by
        return fitting.finish(
            truncated=truncated_by is not None,
            truncated_by=truncated_by,
            more_rows=asked_for,
            note="There are more rows than these. Aggregate, filter, or page with ORDER BY, LIMIT and OFFSET."
            if truncated_by
            else None,
        )


def _point_at_fetch(error: AgnesError, tables: list[Table]) -> AgnesError:
    """The agent asked for a table that it may read, but that is not here."""
    wanted = str(error.details.get("table_id") or error.details.get("table") or "")
    if error.kind != "table_not_found" or wanted.casefold() not in {t.id for t in tables}:
        return error
    return AgnesError(
        "table_not_found",
        f"{wanted} is remote: query reads local tables and snapshots only.",
        f"Aggregate it with scan, or fetch the columns and rows you need from {wanted} and query that snapshot.",
        dict(error.details),
    )


#: What goes on after the call that a hint names.
_THEN = {"fetch": ", then join that snapshot here", "scan": "; where several questions need the rows, fetch them once"}


def _redirected(error: AgnesError, sql: str, tables: list[Table], snapshots: list[Snapshot]) -> AgnesError:
    """The same; its hint names the call that was meant, where a habit is seen in the text."""
    if error.kind not in ("query_refused", "query_failed", "table_not_found"):
        return error
    from agnes_mcp.sql.habits import Names, meant_by

    local = {table.id for table in tables if table.query_mode == "local"}
    remote = {table.id for table in tables} - local
    working = meant_by(sql, Names({snapshot.name for snapshot in snapshots}, local, remote))
    if working is not None:
        then = _THEN.get(working.tool, "")
        error.hint = f"Call {working}{then}."
        error.details["call"] = {"tool": working.tool, "arguments": working.arguments}
    return error


def _part_warnings(used: list[str], snapshots: list[Snapshot]) -> list[str]:
    return [
        f"{s.name} holds the first {s.rows:,} rows, not all that matched: counts and sums over it are of these alone."
        for s in snapshots
        if s.name in used and s.rows is not None and not s.complete
    ]


def _stale_warnings(used: list[str], snapshots: list[Snapshot]) -> list[str]:
    stale = [s for s in snapshots if s.name in used and s.stale]
    return [
        f"{s.name} is from {s.effective_as_of:%Y-%m-%d}: refresh it (snapshot_refresh) before you rely on it."
        for s in stale
        if s.effective_as_of is not None
    ]
