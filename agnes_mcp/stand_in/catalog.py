"""The datasets and tables that a stand-in serves, found by the names a request uses."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.tables import Dataset, Table
from agnes_mcp.stand_in.wire.replies import ApiError, denied, not_found


class Catalog:
    """Datasets by project and name. Names of datasets and tables are case-sensitive, as BigQuery's are."""

    def __init__(self, project: str, location: str) -> None:
        self.project = project
        self.location = location
        self._datasets: dict[tuple[str, str], Dataset] = {}
        self.routines: dict[tuple[str, str, str], Routine] = {}
        self._lock = threading.Lock()

    def add_dataset(self, dataset: Dataset) -> Dataset:
        with self._lock:
            return self._datasets.setdefault((dataset.project, dataset.name), dataset)

    def drop_dataset(self, project: str, name: str) -> None:
        """With all that it holds; one that is made again under its name is another one, wherever that is."""
        with self._lock:
            self._datasets.pop((project, name), None)
            for routine in [key for key in self.routines if key[:2] == (project, name)]:
                del self.routines[routine]

    def datasets(self, project: str) -> list[Dataset]:
        with self._lock:
            found = [d for (owner, _), d in self._datasets.items() if owner == project and not d.hidden]
        return sorted(found, key=lambda dataset: dataset.name)

    def dataset(self, project: str, name: str) -> Dataset:
        """Raises 404 for one that is not there."""
        found = self._datasets.get((project, name))
        if found is None or found.gone:
            raise not_found("Dataset", f"{project}:{name}")
        return found

    def readable_dataset(self, project: str, name: str, permission: str = "bigquery.datasets.get") -> Dataset:
        """Raises 403 in `permission`'s name where the dataset is forbidden."""
        found = self.dataset(project, name)
        if found.forbidden:
            raise denied("Dataset", found.label, permission)
        return found

    def table(self, project: str, dataset: str, name: str) -> Table:
        found = self.dataset(project, dataset).tables.get(name)
        if found is None or found.expired:
            raise not_found("Table", f"{project}:{dataset}.{name}")
        return found

    def readable_table(self, project: str, dataset: str, name: str, permission: str = "bigquery.tables.get") -> Table:
        """Raises 403 in `permission`'s name where the table or its dataset is forbidden."""
        owner, found = self.dataset(project, dataset), None
        if not owner.forbidden:
            found = self.table(project, dataset, name)
        if found is None or found.forbidden:
            raise denied("Table", f"{project}:{dataset}.{name}", permission)
        return found

    def queried(self, project: str, dataset: str, name: str) -> Table:
        """The table that a statement names. Raises 403 in the words of a query where it is forbidden."""
        try:
            return self.readable_table(project, dataset, name)
        except ApiError as error:
            if error.code != 403:
                raise
            label = f"{project}:{dataset}.{name}"
            message = f"User does not have permission to query table {label}, or perhaps it does not exist."
            raise ApiError(403, "accessDenied", f"Access Denied: Table {label}: {message}") from None

    def wildcard(self, project: str, dataset: str, prefix: str) -> Table:
        """All tables whose names begin with `prefix` as one, with the columns of the newest."""
        found = [table for table in self.dataset(project, dataset).tables.values() if table.name.startswith(prefix)]
        shards = {table.name[len(prefix) :]: table for table in found if not table.expired}
        views = sorted(table.name for table in found if table.kind in ("VIEW", "MATERIALIZED_VIEW"))
        if views:
            message = f"Views cannot be queried through prefix. Matched views are: {project}:{dataset}.{views[0]}"
            raise ApiError(400, "invalidQuery", message, "q")
        if not shards:
            message = f"{project}:{dataset}.{prefix}* does not match any table."
            raise ApiError(404, "notFound", message)
        for shard in shards.values():
            self.queried(project, dataset, shard.name)
        newest = max(shards.values(), key=lambda table: (table.created_ms, table.name))
        whole = Table(project, dataset, f"{prefix}*", fields=newest.fields, location=newest.location)
        whole.shards = dict(sorted(shards.items()))
        return whole

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
