"""The datasets and tables that a stand-in serves, found by the names a request uses."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from agnes_mcp.stand_in.tables import Dataset, Table
from agnes_mcp.stand_in.wire.replies import not_found


class Catalog:
    """Datasets by project and name. Table names are case-sensitive, as BigQuery's are."""

    def __init__(self, project: str, location: str) -> None:
        self.project = project
        self.location = location
        self._datasets: dict[tuple[str, str], Dataset] = {}
        self._lock = threading.Lock()

    def add_dataset(self, dataset: Dataset) -> Dataset:
        with self._lock:
            return self._datasets.setdefault((dataset.project, dataset.name), dataset)

    def datasets(self, project: str) -> list[Dataset]:
        with self._lock:
            found = [d for (owner, _), d in self._datasets.items() if owner == project and not d.hidden]
        return sorted(found, key=lambda dataset: dataset.name)

    def dataset(self, project: str, name: str) -> Dataset:
        found = self._datasets.get((project, name))
        if found is None:
            raise not_found("Dataset", f"{project}:{name}")
        return found

    def table(self, project: str, dataset: str, name: str) -> Table:
        found = self.dataset(project, dataset).tables.get(name)
        if found is None or found.expired:
            raise not_found("Table", f"{project}:{dataset}.{name}")
        return found

    def add_table(self, table: Table) -> Table:
        """Serve `table`, replacing one of the same name."""
        dataset = self.dataset(table.project, table.dataset)
        table.location = dataset.location
        dataset.tables[table.name] = table
        return table

    def drop_table(self, project: str, dataset: str, name: str) -> None:
        self.dataset(project, dataset).tables.pop(name, None)

    def tables(self, project: str, dataset: str) -> list[Table]:
        found = list(self.dataset(project, dataset).tables.values())
        return sorted((table for table in found if not table.expired), key=lambda table: table.name)

    def __iter__(self) -> Iterator[Table]:
        with self._lock:
            datasets = list(self._datasets.values())
        for dataset in datasets:
            yield from list(dataset.tables.values())
