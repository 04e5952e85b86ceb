"""How a statement's paths find tables and routines, and what BigQuery says where they do not."""

from __future__ import annotations

from dataclasses import dataclass

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.googlesql.session import Names, Session
from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query, not_found


@dataclass
class Lookup:
    catalog: Catalog

    def table(self, path: list[str], names: Names, session: Session) -> Table:
        """The table or view of a written path; the statement runs where its first one is."""
        if len(path) == 1 and names.dataset is None:
            message = f'Table "{path[0]}" must be qualified with a dataset (e.g. dataset.table).'
            raise ApiError(400, "invalidQuery", message, "q")
        if len(path) > 3:
            raise invalid_query(f"Invalid table name: {'.'.join(path)}")
        project, dataset, name = [names.project, names.dataset or "", ""][: 3 - len(path)] + path
        found = self._found(project, dataset, name, session.location)
        session.location = session.location or found.location
        if session.depth == 0 and found not in session.named:
            session.named.append(found)
        return found

    def _found(self, project: str, dataset: str, name: str, location: str | None) -> Table:
        catalog = self.catalog
        try:
            if name.endswith("*"):
                table = catalog.wildcard(project, dataset, name[:-1])
            else:
                table = catalog.queried(project, dataset, name)
        except ApiError as error:
            if not error.message.startswith("Not found"):
                raise
            kind = "Table" if "Table" in error.message else "Dataset"
            label = f"{project}:{dataset}" + (f".{name}" if kind == "Table" else "")
            raise not_found(kind, label, location or catalog.location) from None
        if location is not None and table.location.lower() != location.lower():
            raise not_found("Dataset", f"{project}:{dataset}", location)
        return table

    def routine(self, path: list[str], names: Names) -> Routine:
        """The persistent function of a written path."""
        project, dataset, name = [names.project, names.dataset or "", ""][: max(3 - len(path), 0)] + path[-3:]
        found = self.catalog.routines.get((project, dataset, name))
        if found is None:
            raise invalid_query(f"Function not found: {'.'.join(path)}")
        return found
