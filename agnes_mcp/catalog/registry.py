"""The tables this instance serves: configured ones, and those that a BigQuery dataset turned out to hold."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from agnes_mcp.catalog.ids import Ids, Moved
from agnes_mcp.config.settings import Settings, TableSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table


class Registry:
    """`by_id` is replaced whole, never changed: who reads it needs no lock. Who replaces a part of it waits for who
    replaces another one, or the slower of two would put back what the other has replaced.

    `ids` says which table of BigQuery an id means; `project` is where those are that name none, and where the
    `datasets` are whose tables are all served.
    """

    def __init__(self, tables: Iterable[Table], ids: Ids, project: str = "", datasets: Iterable[str] = ()) -> None:
        self._configured = {table.id: table for table in tables}
        self._ids = ids
        self._project = project
        self._datasets = frozenset(datasets)
        self._offered: dict[str, Table] = {}  # replaced whole, by what an Agnes directory holds now
        self._listed: list[Table] = []
        self._replacing = threading.Lock()
        self.by_id: Mapping[str, Table] = self._placed(self._configured)

    @classmethod
    def from_settings(cls, settings: Settings) -> Registry:
        bigquery = settings.data_source.bigquery
        ids = Ids(settings.data_dir / "ids.json")
        tables = (_configured(entry) for entry in settings.tables)
        return cls(tables, ids, bigquery.project, bigquery.datasets) if bigquery else cls(tables, ids)

    @property
    def ids(self) -> Ids:
        return self._ids

    def place_of(self, table: Table) -> str:
        """Which table it is, wherever its id has come from: `project.dataset.table`, of another source's with its alias
        for a project; empty for local files."""
        return ".".join(self._path_of(table)) if table.source_type != "local" else ""

    def bind(self) -> list[Moved]:
        """Enter the operator's own tables into the register of ids; what of them means another table than before.

        Blocking. Raises `storage_failed`.
        """
        return self._ids.configure(self._remote({**self._offered, **self._configured}.values()))

    def unsettled(self, entries: Iterable[TableSettings] | None) -> set[str]:
        """The ids that will mean another table, or none, once these entries are taken over; of None, which nobody can
        tell, all."""
        if entries is None:
            return {*self._configured, *self.by_id}
        before = {key: _meaning(table) for key, table in self._configured.items()}
        after = {entry.id: _meaning(_configured(entry)) for entry in entries}
        return {key for key in {*before, *after} if before.get(key) != after.get(key)}

    def replace_configured(self, settings: Settings) -> set[str]:
        """The tables that the instance's file names now; the ids that mean something else than before. Blocking."""
        configured = {entry.id: _configured(entry) for entry in settings.tables}
        with self._replacing:
            before, self._configured = self.by_id, configured
            return self._merge_changing(before)

    def replace_discovered(self, tables: Iterable[Table]) -> None:
        """What the datasets hold now. A table that is named elsewhere keeps its id and hides that of the same place."""
        listed = list(tables)
        with self._replacing:
            self._listed = listed
            self._merge()

    def recall_discovered(self, places: Iterable[str]) -> None:
        """What the configured datasets held when they were last listed, before they are again."""
        paths = (place.rsplit(".", 2) for place in places)
        self.replace_discovered(
            Table(
                id=name, name=name, source_type="bigquery", query_mode="remote", bucket=dataset, source_table=name,
                discovered=True,
            )
            for project, dataset, name in paths
            if project == self._project and dataset in self._datasets
        )  # fmt: skip

    def replace_offered(self, tables: Iterable[Table]) -> set[str]:
        """What an Agnes directory offers now, under its own names; a configured table keeps its id. Blocking.

        Returns the ids that mean something else than before.
        """
        with self._replacing:
            offered = {table.id: table for table in tables if table.id not in self._configured}
            if offered == self._offered:
                return set()
            before, self._offered = self.by_id, offered
            return self._merge_changing(before)

    def _merge_changing(self, before: Mapping[str, Table]) -> set[str]:
        """The ids that mean something else than before."""
        self._merge()
        return {key for key in {*before, *self.by_id} if before.get(key) != self.by_id.get(key)}

    def _merge(self) -> None:
        """Raises `storage_failed` where a new table cannot be given an id; those that have one are served."""
        named = {**self._offered, **self._configured}
        remote = self._remote(named.values())
        if remote or self._listed:
            self._ids.configure(remote)
        places = set(remote.values())
        paths = ((self._path_of(table), table) for table in self._listed)
        listed = {path: table for path, table in paths if ".".join(path) not in places}
        try:
            given = self._ids.give(listed, named) if listed else {}
        except AgnesError:
            self._take(self._ids.given(listed), listed, named)
            raise
        self._take(given, listed, named)

    def _take(
        self,
        given: Mapping[tuple[str, str, str], str],
        listed: Mapping[tuple[str, str, str], Table],
        named: Mapping[str, Table],
    ) -> None:
        """Serve what has an id."""
        found = (_at(table, given[path], ".".join(path)) for path, table in listed.items() if path in given)
        by_id = {table.id: table for table in found} | self._placed(named)
        self.by_id = {key: by_id[key] for key in sorted(by_id)}

    def _placed(self, tables: Mapping[str, Table]) -> dict[str, Table]:
        """By id, each with its place."""
        return {key: tables[key].model_copy(update={"place": self.place_of(tables[key])}) for key in sorted(tables)}

    def _remote(self, tables: Iterable[Table]) -> dict[str, str]:
        return {table.id: self.place_of(table) for table in tables if table.source_type == "bigquery"}

    def _path_of(self, table: Table) -> tuple[str, str, str]:
        if table.attach is not None:
            return (":".join(table.attach[1::-1]), table.bucket, table.source_table)
        return (table.project or self._project, table.bucket, table.source_table or table.id)


def _at(table: Table, table_id: str, place: str) -> Table:
    """The table under that id; itself where it is so already, as most of thousands are."""
    if (table.id, table.place) == (table_id, place):
        return table
    return table.model_copy(update={"id": table_id, "place": place})


def _meaning(table: Table) -> dict[str, Any]:
    """Which table it is, and how its rows are read; without what is only said of it."""
    return table.model_dump(exclude={"name", "description", "primary_key"})


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
        location=entry.location,
        source_schema=entry.source_schema,
        path=entry.path,
        csv=entry.csv.model_dump(exclude_none=True) if entry.csv else {},
        hive=None if entry.hive == "auto" else entry.hive,
        primary_key=entry.primary_key,
    )
