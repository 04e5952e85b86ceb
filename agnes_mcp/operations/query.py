"""Ask many: one read-only SELECT over the caller's local tables and snapshots, free."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agnes_mcp.access.grants import visible_tables
from agnes_mcp.answers.fitting import RowShaper, frame_columns
from agnes_mcp.answers.models import QueryAnswer
from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.snapshots.models import Snapshot
from agnes_mcp.sql.views import View

if TYPE_CHECKING:
    from agnes_mcp.calls.call import Call
    from agnes_mcp.sources import Source
    from agnes_mcp.workbench import Result

#: What a query worker may send back for one answer; an answer shows far less.
MAX_ANSWER_BYTES = 64 * 2**20
_OVERHEAD_CHARS = 1_500


@dataclass(frozen=True)
class LateView(View):
    """A view whose files are looked up, or verified, only when the SQL turns out to read it."""

    resolve: Callable[[], View] | None = None

    def as_message(self) -> dict[str, Any]:
        assert self.resolve is not None  # noqa: S101 - always given, see `late`
        return self.resolve().as_message()


def late(name: str, resolve: Callable[[], View]) -> LateView:
    return LateView(name=name, kind="parquet", paths=[], resolve=resolve)


class Querying:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def query(self, admitted: Admitted, sql: str, limit: int) -> QueryAnswer:
        """Run it in a process that holds these files and nothing else."""
        return await self._engine.query_turns.run(admitted.call, lambda: self._run(admitted, sql, limit))

    def _run(self, admitted: Admitted, sql: str, limit: int) -> QueryAnswer:
        engine = self._engine
        tables = visible_tables(engine.registry, engine.access, admitted.principal)
        snapshots = [s for s in engine.snapshots.list(admitted.principal.name) if self._may_use(admitted, s)]
        with ExitStack() as held:  # the files stay while the query reads them
            views = [late(s.name, self._snapshot_view(admitted, s, held)) for s in snapshots]
            views += [
                late(t.id, table_view(t, engine.source(t), admitted.call)) for t in tables if t.query_mode == "local"
            ]
            try:
                result = engine.workbench.run(
                    sql, views, limit_rows=limit, max_bytes=MAX_ANSWER_BYTES, call=admitted.call
                )
            except AgnesError as error:
                raise self._point_at_fetch(error, tables) from None
        return self._answer(result, limit, snapshots)

    def _may_use(self, admitted: Admitted, snapshot: Snapshot) -> bool:
        """A grant that was taken back takes the rows fetched under it along."""
        return not snapshot.expired and self._engine.access.may_read(admitted.principal, snapshot.table_id)

    def _snapshot_view(self, admitted: Admitted, snapshot: Snapshot, held: ExitStack) -> Callable[[], View]:
        def resolve() -> View:
            reading = self._engine.snapshots.reading(admitted.principal.name, snapshot.name, admitted.call)
            _, path = held.enter_context(reading)
            return View(name=snapshot.name, kind="parquet", paths=[str(path)])

        return resolve

    def _point_at_fetch(self, error: AgnesError, tables: list[Table]) -> AgnesError:
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

    def _answer(self, result: Result, limit: int, snapshots: list[Snapshot]) -> QueryAnswer:
        budget = self._engine.settings.api.max_result_chars - _OVERHEAD_CHARS
        frame = frame_columns(list(result.schema.names), result.types, budget)
        shaper = RowShaper(len(frame.columns), frame.cell_chars, limit)
        for batch in result.batches:
            shaper.add(batch)
        cut = {"rows": "limit", "bytes": "result_bytes"}.get(result.cut_by)
        truncated_by = shaper.truncated_by or cut or ("answer_size" if frame.columns_cut else None)
        return QueryAnswer(
            columns=frame.columns,
            types=frame.types,
            rows=shaper.rows,
            row_count=len(shaper.rows),
            truncated=truncated_by is not None,
            truncated_by=truncated_by,
            cut_cells=shaper.cut_cells,
            columns_cut=frame.columns_cut,
            tables=result.tables,
            elapsed_s=round(result.elapsed_s, 4),
            warnings=_stale_warnings(result.tables, snapshots),
            note="There are more rows than these. Aggregate, filter, or page with ORDER BY, LIMIT and OFFSET."
            if truncated_by
            else None,
        )


def table_view(table: Table, source: Source, call: Call) -> Callable[[], View]:
    """A local table's files as they are now."""

    def resolve() -> View:
        from agnes_mcp.sources.local.source import LocalSource

        assert isinstance(source, LocalSource)  # noqa: S101 - which serves every local table
        return source.view(table, call)

    return resolve


def _stale_warnings(used: list[str], snapshots: list[Snapshot]) -> list[str]:
    stale = [s for s in snapshots if s.name in used and s.stale]
    return [
        f"{s.name} is from {s.effective_as_of:%Y-%m-%d}: refresh it (snapshot_refresh) before you rely on it."
        for s in stale
        if s.effective_as_of is not None
    ]
