"""From what a source's extract says to tables that can be served, each by the source that reads it safely.

A view that is a plain reading of files of its own folder, or of what `_remote_attach` names, is served as those. A view
that computes is served where everything in it is of its own file; it is then read in a process that can be killed. No
other SQL of the extract is ever run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from agnes_mcp.extracts.attachment import RemoteAttach
from agnes_mcp.extracts.inspection import Contents, Offer
from agnes_mcp.extracts.layout import EXTRACT, IDENTIFIER, PLACE, PROJECT, is_inside
from agnes_mcp.models import Table

#: `SELECT * FROM` one table, as wrapped views hold it.
_WRAPPED = re.compile(r"\s*SELECT\s+\*\s+FROM\s+`([^`]+)`\s*", re.IGNORECASE)
_PARQUET_FUNCTIONS = frozenset({"read_parquet", "parquet_scan"})
#: What the local source does of itself; anything else would change the rows.
_PARQUET_OPTIONS = frozenset({"union_by_name", "hive_partitioning"})


class NotServed(Exception):  # noqa: N818 - what it is
    """Why a table of an extract is not served; the text ends with what to do about it."""


@dataclass(frozen=True)
class Source:
    """One folder of `extracts` and what its extract holds."""

    folder: Path
    contents: Contents
    project: str  # the BigQuery project this instance is configured for; "" is none

    def table(self, offer: Offer) -> Table:
        """Raises `NotServed`."""
        if not IDENTIFIER.fullmatch(offer.name):
            raise NotServed("its name is not letters, digits and `_`")
        table = self._remote(offer) if offer.query_mode == "remote" else self._local(offer)
        return table.model_copy(update={"name": offer.name, "description": offer.description})

    def _local(self, offer: Offer) -> Table:
        view = self.contents.views.get(offer.name)
        if offer.name in self.contents.tables:
            if not self.contents.tables[offer.name]:
                raise NotServed("a column of it is computed by the extract; write its rows as Parquet into data/")
            return local_table(offer.name, self.folder / EXTRACT, source_table=offer.name)
        if view is not None and (path := self.parquet(view)):
            return local_table(offer.name, path)
        opening = self.contents.openings.get(offer.name)
        if opening == "":
            return local_table(offer.name, self.folder / EXTRACT, source_table=offer.name)
        beside = self._beside(offer.name)
        if beside is None:
            reads_files = view is not None and view.get("table", ("",))[-1] not in self.contents.views
            why = "its rows are not files of its own folder" if reads_files or opening is None else opening
            raise NotServed(f"{why}; write them into data/{offer.name}.parquet")
        return local_table(offer.name, beside)

    def parquet(self, view: Mapping[str, Any], *, relative: bool = True) -> str:
        """The one file or pattern, below the source's folder, that a view reads; "" for any other.

        `relative`: a path that is not absolute is taken from the source's folder; DuckDB would take it from its own.
        """
        if "table" in view:
            catalog, schema, path = view["table"]
            paths = [path] if not catalog and not schema else []
        elif view["function"] in _PARQUET_FUNCTIONS and set(view["options"]) <= _PARQUET_OPTIONS:
            arguments = view["arguments"]
            paths = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list) else arguments
        else:
            paths = []
        if len(paths) != 1 or not isinstance(paths[0], str) or not paths[0].endswith(".parquet"):
            return ""
        if not relative and not os.path.isabs(paths[0]):
            return ""
        path = os.path.normpath(os.path.join(self.folder, paths[0]))
        return path if self._own_files(path) else ""

    def _own_files(self, path: str) -> bool:
        """Whether there are such files, and all of them, links followed, are below the source's folder."""
        if not is_inside(_fixed(path), self.folder):
            return False
        found = [path] if os.path.exists(path) else glob(path, recursive=True) if has_magic(path) else []
        return bool(found) and all(is_inside(file, self.folder) for file in found)

    def _beside(self, name: str) -> Path | None:
        """`data/<name>.parquet`, where an extract that was moved has its rows."""
        file = self.folder / "data" / f"{name}.parquet"
        return file if file.is_file() and is_inside(file, self.folder) else None

    def _remote(self, offer: Offer) -> Table:
        if not self.contents.attach:
            raise NotServed("the extract has no `_remote_attach` that says where its rows are")
        alias, place = self._place(offer.name)
        attached = next((row for row in self.contents.attach if not alias or row.alias == alias), None)
        if attached is None:
            raise NotServed(f"its view reads {alias!r}, which `_remote_attach` does not name")
        if problem := attached.refusal():
            raise NotServed(problem)
        if attached.extension != "bigquery":
            return self._attached(offer, attached, place)
        return self._bigquery(offer, attached, place)

    def _attached(self, offer: Offer, row: RemoteAttach, place: tuple[str, str, str] | None) -> Table:
        if place is None:
            raise NotServed(
                f"no view of it reads a table of {row.alias!r}; have its extractor write Parquet into data/"
            )
        url = row.url
        if row.reads_files:
            url = os.path.normpath(os.path.join(self.folder, row.url))
            if not is_inside(url, self.folder):
                raise NotServed("its url is not a file below the folder of its source")
        return Table(
            id=offer.name.lower(),
            source_type="attached",
            query_mode="remote",
            attach=(row.alias, row.extension, url, row.token_env),
            bucket=place[1],
            source_table=place[2],
            discovered=True,
        )

    def _bigquery(self, offer: Offer, attached: RemoteAttach, place: tuple[str, str, str] | None) -> Table:
        if not self.project:
            raise NotServed(f"it is in BigQuery; set data_source.bigquery.project ({attached.project})")
        if place is None:
            raise NotServed("its dataset is not in the extract; list it under `tables`, or run `agnes-mcp extract`")
        project, dataset, source_table = place
        project = project or attached.project
        if not (
            PROJECT.fullmatch(project) and PLACE.fullmatch(dataset) and PLACE.fullmatch(source_table.removesuffix("*"))
        ):
            raise NotServed("its project, dataset or table is not a name that BigQuery allows")
        return Table(
            id=offer.name.lower(),
            source_type="bigquery",
            query_mode="remote",
            project="" if project == self.project else project,
            bucket=dataset,
            source_table=source_table,
            discovered=True,
        )

    def _place(self, name: str) -> tuple[str, tuple[str, str, str] | None]:
        """Through which alias a remote table is read ("": any), and its project ("": the alias's), dataset and name."""
        view = self.contents.views.get(name)
        stored = self.contents.places.get(name)
        if view is not None and "table" in view and all(view["table"]):
            alias, dataset, source_table = view["table"]
            return alias, stored or ("", dataset, source_table)
        if view is not None and "table" in view and any(row.alias == view["table"][1] for row in self.contents.attach):
            return view["table"][1], stored or ("", "", view["table"][2])  # the schema is the source's first
        if view is not None and view.get("function") == "bigquery_query" and len(view["arguments"]) == 2:
            inner = _WRAPPED.fullmatch(str(view["arguments"][1]))
            parts = inner[1].split(".") if inner else []
            return "", stored or (tuple(parts) if len(parts) == 3 else None)
        return "", stored


def local_table(name: str, path: Path | str, source_table: str = "") -> Table:
    return Table(
        id=name.lower(),
        name=name,
        source_type="local",
        query_mode="local",
        path=str(path),
        source_table=source_table,
        discovered=True,
    )


def _fixed(path: str) -> str:
    """The part of a pattern before its first wildcard."""
    while has_magic(path):
        path = os.path.dirname(path)
    return path
