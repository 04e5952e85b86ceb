"""What a shell offers while somebody types: ids of tables, configured and discovered, and names of snapshots.

Only files are looked at: neither DuckDB nor the protocol's library is loaded, and nobody is asked.
"""

from __future__ import annotations

import os
from pathlib import Path

import typer

from agnes_mcp.errors import AgnesError


def complete_table(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the tables that instance.yaml lists, and of those that its datasets were last seen to hold."""
    content = _content(context)
    found = content.get("tables")
    ids = [entry.get("id") for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    named = {name for name in ids if isinstance(name, str)} | _discovered(_data_dir(content))
    return sorted(name for name in named if name.startswith(incomplete))


def complete_snapshot(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the snapshots that lie in the data directory, whoever's they are."""
    folder = _data_dir(_content(context)) / "snapshots"
    names = {path.name.split(".", 1)[0] for path in folder.glob("*/*.json")}
    return sorted(name for name in names if name.startswith(incomplete))


def _data_dir(content: dict[str, object]) -> Path:
    return Path(os.path.expanduser(str(content.get("data_dir") or "~/.agnes")))


def _discovered(folder: Path) -> set[str]:
    """Ids of the register whose tables are still there; none where that is not known."""
    from agnes_mcp.catalog.ids import Ids
    from agnes_mcp.catalog.index import FILE_NAME, listed_places

    listed, ids = listed_places(folder / FILE_NAME), Ids(folder / "ids.json")
    try:
        return {table_id for table_id, place in ids.read().items() if place in listed} if listed else set()
    except AgnesError:
        return set()


def _content(context: typer.Context) -> dict[str, object]:
    """The instance file's mapping, paths as they are seen from it; empty where there is none that can be read."""
    from agnes_mcp.config.loading import find_config, read_mapping

    try:
        path = find_config(context.params.get("config"))
        content = read_mapping(path) if path else {}
    except AgnesError:
        return {}
    if path is not None and isinstance(content.get("data_dir"), str):
        content["data_dir"] = str(path.parent / os.path.expanduser(content["data_dir"]))
    return content
