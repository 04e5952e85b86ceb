"""The names that a statement may use for tables: of one principal, at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from agnes_mcp.errors import nearest
from agnes_mcp.models import Table, TableSchema
from agnes_mcp.sources.kinds import Sources

if TYPE_CHECKING:
    from agnes_mcp.sql.warehouse import Place


class PrincipalNames:
    """`visible` are the tables that the principal may read; `kept` names the snapshots, and is asked at most once.

    A table goes by its id, and by the place that it stands for: `dataset.table` of whatever project, as long as one
    readable table only is meant by it, and `project.dataset.table`. Blocking.
    """

    def __init__(
        self,
        visible: list[Table],
        schemas: Mapping[str, TableSchema],
        sources: Sources,
        kept: Callable[[], set[str]],
    ) -> None:
        self._by_id = {table.id: table for table in visible}
        self._schemas = schemas
        self._sources = sources
        self._list_kept = kept

    def find(self, path: tuple[str, ...]) -> Place | None:
        from agnes_mcp.sql.warehouse import Place

        if len(path) > 1:
            found = self._by_place.get(path)
            return None if found is None else self._place_of(found)
        table = self._by_id.get(path[0])
        if table is not None:
            return self._place_of(table)
        return Place(path[0], remote=False) if path[0] in self._kept else None

    def nearest(self, name: str) -> list[str]:
        return nearest(name, list(self._by_id))

    @cached_property
    def _kept(self) -> set[str]:
        return self._list_kept()

    @cached_property
    def _by_place(self) -> dict[tuple[str, ...], Table]:
        found: dict[tuple[str, ...], Table] = {}
        doubtful: set[tuple[str, ...]] = set()
        for table in self._by_id.values():
            if table.source_type != "bigquery":
                continue
            whole = self._path(table)
            found.setdefault(whole, table)
            if self._path(found.setdefault(whole[1:], table)) != whole:
                doubtful.add(whole[1:])
        return {path: table for path, table in found.items() if path not in doubtful}

    def _place_of(self, table: Table) -> Place:
        from agnes_mcp.sql.warehouse import Place

        if table.source_type != "bigquery":
            return Place(table.id, remote=False)
        project, dataset, name = self._path(table)
        return Place(table.id, project, dataset, name, self._schemas.get(table.id))

    def _path(self, table: Table) -> tuple[str, str, str]:
        relation = self._sources.of(table).relation(table)
        return relation.catalog, relation.schema, relation.name
