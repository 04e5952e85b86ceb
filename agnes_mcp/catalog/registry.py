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
        self.by_id: Mapping[str, Table] = dict(sorted(self._configured.items()))

    @classmethod
    def from_settings(cls, settings: Settings) -> Registry:
        return cls(_configured(entry) for entry in settings.tables)

    def replace_discovered(self, tables: Iterable[Table]) -> None:
        """What the datasets hold now. A configured table keeps its id and hides a discovered one of the same place."""
        places = {_place(table) for table in self._configured.values()}
        found: dict[str, Table] = {}
        for table in tables:
            if _place(table) in places:
                continue
            free = _free_id(table, self._configured.keys() | found.keys())
            found[free] = table.model_copy(update={"id": free})
        self.by_id = dict(sorted({**found, **self._configured}.items()))


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
