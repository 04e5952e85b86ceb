"""A table that is loaded once, for as many stand-ins as there are tests: each serves the same rows from one file."""

from __future__ import annotations

from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

from agnes_mcp.stand_in import StandIn
from agnes_mcp.stand_in.store import bounds_of
from agnes_mcp.stand_in.tables import Table, now_ms


class LoadedTable:
    """What `StandIn.create_table` makes; what a test then changes of it is that stand-in's."""

    def __init__(self, folder: Path, dataset: str, name: str, **made: Any) -> None:
        self._file = folder / "loaded.duckdb"
        loading = StandIn(project="my-project")
        with closing(loading.store), loading.store.cursor() as cursor:
            self._table = loading.create_table(dataset, name, **made)
            cursor.execute(f"ATTACH '{self._file}' AS loaded")
            cursor.execute(f"CREATE TABLE loaded.{name} AS FROM {self._table.physical}")
            if self._table.partition:
                cursor.execute(f"CREATE TABLE loaded.bounds AS FROM {bounds_of(self._table)}")
            cursor.execute("DETACH loaded")

    def serve(self, stand_in: StandIn) -> Table:
        """As a table that was made just now."""
        table = deepcopy(self._table)
        table.physical = f'"loaded"."{table.name}"'
        table.created_ms = table.modified_ms = now_ms()
        with stand_in.store.cursor() as cursor:
            cursor.execute(f"ATTACH '{self._file}' AS loaded (READ_ONLY)")
            if table.partition:
                stand_in.store.create_schema(cursor, bounds_of(table))
                cursor.execute(f"CREATE TABLE {bounds_of(table)} AS FROM loaded.bounds")
        stand_in.create_dataset(table.dataset)
        return stand_in.catalog.add_table(table)
