"""The tables this instance serves: configured ones, and those that a BigQuery dataset turned out to hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from agnes_mcp.config.settings import Settings, TableSettings
from agnes_mcp.models import Table


class Registry:
    """`by_id` is replaced whole, never changed: who reads it needs no lock."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._configured = {table.id: table for table in tables}
        self._offered: dict[str, Table] = {}
        self._listed: list[Table] = []
        self.by_id: Mapping[str, Table] = dict(sorted(self._configured.items()))

    @classmethod
    def from_settings(cls, settings: Settings) -> Registry:
        return cls(_configured(entry) for entry in settings.tables)

    def replace_discovered(self, tables: Iterable[Table]) -> None:
        """What the datasets hold now. A table that is named elsewhere keeps its id and hides that of the same place."""
        self._listed = list(tables)
        self._merge()

    def replace_offered(self, tables: Iterable[Table]) -> set[str]:
        """What an Agnes directory offers now, under its own names; a configured table keeps its id.

        Returns the ids that mean something else than before.
        """
        offered = {table.id: table for table in tables if table.id not in self._configured}
        if offered == self._offered:
            return set()
        before, self._offered = self.by_id, offered
        self._merge()
        return {key for key in {*before, *self.by_id} if before.get(key) != self.by_id.get(key)}

    def _merge(self) -> None:
        named = {**self._offered, **self._configured}
        places = {_place(table) for table in named.values()}
        found: dict[str, Table] = {}
        for table in self._listed:
            if _place(table) in places:
                continue
            free = _free_id(table, named.keys() | found.keys())
            found[free] = table.model_copy(update={"id": free})
        self.by_id = dict(sorted({**found, **named}.items()))


def table_id_of(name: str) -> str:
    """A table id made of a source's own name: lower case, anything else than letters and digits as `_`."""
    return re.sub(r"[^a-z0-9_]", "_", name.strip().lower())[:64] or "_"


def _place(table: Table) -> tuple[str, str, str]:
    return (table.project, table.bucket, table.source_table) if table.source_type == "bigquery" else ("", "", table.id)


def _free_id(table: Table, taken: set[str]) -> str:
    plain = table_id_of(table.source_table)
    qualified = table_id_of(f"{table.bucket}_{table.source_table}")
    candidates = [plain, qualified, *(f"{qualified[:60]}_{n}" for n in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _configured(entry: TableSettings) -> Table:
    remote = entry.source_type == "bigquery"
    return Table(
        id=entry.id,
        name=entry.name or entry.id,
        description=entry.description,
        source_type=entry.source_type,
        query_mode=entry.query_mode or ("remote" if remote else "local"),
        bucket=entry.bucket,
        source_table=entry.source_table or (entry.id if remote else ""),
        project=entry.project or "",
        source_schema=entry.source_schema,
        path=entry.path,
        csv=entry.csv.model_dump(exclude_none=True) if entry.csv else {},
        hive=None if entry.hive == "auto" else entry.hive,
        primary_key=entry.primary_key,
    )
