"""What a shell offers while somebody types: ids of tables, configured and discovered, and names of snapshots.

Only files are looked at: neither DuckDB nor the protocol's library is loaded, and nobody is asked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.config.settings import Settings


def complete_table(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the tables that instance.yaml lists, and of those that its datasets were last seen to hold."""
    content = _content(context)
    found = content.get("tables")
    ids = [entry.get("id") for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    named = {name for name in ids if isinstance(name, str)} | discovered(_data_dir(content)) | _mirrored(content)
    return sorted(name for name in named if name.startswith(incomplete))


def complete_snapshot(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the snapshots that lie in the data directory, whoever's they are."""
    folder = _data_dir(_content(context)) / "snapshots"
    names = {path.name.split(".", 1)[0] for path in folder.glob("*/*.json")}
    return sorted(name for name in names if name.startswith(incomplete))


def _data_dir(content: dict[str, object]) -> Path:
    return Path(os.path.expanduser(str(content.get("data_dir") or "~/.agnes")))


def _mirrored(content: dict[str, object]) -> set[str]:
    """Ids of the files that lie in the Agnes directory; what extracts offer beside them only DuckDB can tell."""
    from agnes_mcp.extracts.layout import IDENTIFIER, extracts_folder

    sources = content.get("data_source")
    agnes = sources.get("agnes") if isinstance(sources, dict) else None
    named = agnes.get("data_dir") if isinstance(agnes, dict) else None
    if not isinstance(named, str):
        return set()
    folder = Path(str(content["folder"]), os.path.expanduser(named))
    files = extracts_folder(folder).glob("*/data/*.parquet")
    return {path.stem.lower() for path in files if IDENTIFIER.fullmatch(path.stem)}


def known_tables(settings: Settings) -> tuple[set[str], set[str]]:
    """Ids of the tables, and names of the datasets, that an instance is known to have, nobody being asked."""
    from agnes_mcp.access.grants import os_user
    from agnes_mcp.calls.call import Call
    from agnes_mcp.extracts.directory import AgnesDirectory

    bigquery, directory = settings.data_source.bigquery, AgnesDirectory.from_settings(settings)
    found = _found(settings.data_dir)
    offered = directory.tables(Call("complete", os_user())) if directory else []
    tables = {table.id for table in settings.tables} | found.keys() | {table.id for table in offered}
    datasets = {table.bucket for table in settings.tables} | {table.bucket for table in offered}
    datasets |= set(bigquery.datasets if bigquery else ())
    return tables, datasets | {place.split(".")[-2] for place in found.values()} - {""}


def discovered(folder: Path) -> set[str]:
    """Ids of the register whose tables are still there; none where that is not known."""
    return set(_found(folder))


def _found(folder: Path) -> dict[str, str]:
    """The places of those tables by id."""
    from agnes_mcp.catalog.ids import Ids
    from agnes_mcp.catalog.index import FILE_NAME, listed_places

    listed, ids = listed_places(folder / FILE_NAME), Ids(folder / "ids.json")
    try:
        return {table_id: place for table_id, place in ids.read().items() if place in listed} if listed else {}
    except AgnesError:
        return {}


def _content(context: typer.Context) -> dict[str, object]:
    """The instance file's mapping, paths as they are seen from it; empty where there is none that can be read."""
    from agnes_mcp.config.loading import find_config, read_mapping

    try:
        path = find_config(context.params.get("config"))
        content = read_mapping(path) if path else {}
    except AgnesError:
        return {}
    if path is not None:
        content["folder"] = str(path.parent)
        if isinstance(content.get("data_dir"), str):
            content["data_dir"] = str(path.parent / os.path.expanduser(content["data_dir"]))
    return content
