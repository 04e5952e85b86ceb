"""`table add|remove|list`: the tables that instance.yaml names, kept with its comments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from agnes_mcp.cli.access import _check
from agnes_mcp.cli.options import Config, Json, instance_file, wrong
from agnes_mcp.cli.output import print_json, print_rows, say
from agnes_mcp.config.types import expanded

tables = typer.Typer(no_args_is_help=True, help="The tables of instance.yaml.")


def register(app: typer.Typer) -> None:
    app.add_typer(tables, name="table")


@tables.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Its id; other writing is brought into its form: `Web Sessions`.")],
    path: Annotated[str, typer.Option("--path", help="A file, glob or folder: Parquet, CSV, DuckDB.")] = "",
    dataset: Annotated[str, typer.Option("--dataset", help="BigQuery: the dataset.")] = "",
    source_table: Annotated[str, typer.Option("--source-table", help="Its name there, where that is not the id.")] = "",
    project: Annotated[str, typer.Option("--project", help="BigQuery: another project than the configured.")] = "",
    description: Annotated[str, typer.Option("--description", help="What one row is.")] = "",
    primary_key: Annotated[str, typer.Option("--primary-key", help="Columns that identify a row.")] = "",
    config: Config = None,
) -> None:
    """Register a table: a file of this machine, or a table of BigQuery."""
    from agnes_mcp.config.editing import append, editing, entry_of, section
    from agnes_mcp.config.settings import TableSettings

    table_id = name.strip().lower().replace(" ", "_")
    file = instance_file(config)
    entry = _entry(table_id, name, path, dataset, source_table, project, description, primary_key)
    _check(TableSettings, entry)
    if path:
        _look_at(path, file.parent, entry)
    with editing(file) as document:
        entries = section(document, "tables", list)
        if entry_of(entries, "id", table_id) is not None:
            raise wrong(f"There is a table {table_id!r} already.", "Remove it first, or choose another id.")
        bigquery = (document.get("data_source") or {}).get("bigquery")
        if dataset and not bigquery:
            raise wrong("BigQuery is not configured.", "Set data_source.bigquery.project in instance.yaml first.")
        append(entries, entry)
    say(f"Table {table_id} is registered. A server that runs sees it when it is started again.")


@tables.command("remove")
def remove_table(table_id: Annotated[str, typer.Argument(help="The table's id.")], config: Config = None) -> None:
    """Take a table out of instance.yaml. Its files and snapshots stay."""
    from agnes_mcp.config.editing import editing, entry_of, remove, section

    with editing(instance_file(config)) as document:
        entries = section(document, "tables", list)
        known = entry_of(entries, "id", table_id)
        if known is None:
            raise wrong(f"There is no table {table_id!r}.", "`agnes-mcp table list` shows those there are.")
        remove(document, "tables", known)
    say(f"Table {table_id} is not served any more once the server is started again.")


@tables.command("list")
def list_tables(config: Config = None, as_json: Json = False) -> None:
    """Show the tables of instance.yaml, without asking any source."""
    from agnes_mcp.config.loading import read_mapping

    found = read_mapping(instance_file(config)).get("tables") or []
    entries = [entry for entry in found if isinstance(entry, dict)]
    if as_json:
        print_json(entries)
        return
    rows = [[str(entry.get("id")), _place(entry), str(entry.get("description") or "")] for entry in entries]
    print_rows(["ID", "WHERE", "DESCRIPTION"], rows, empty="(no tables)")


def _entry(
    table_id: str,
    name: str,
    path: str,
    dataset: str,
    source_table: str,
    project: str,
    description: str,
    primary_key: str,
) -> dict[str, Any]:
    if bool(path) == bool(dataset):
        raise wrong("A table needs --path or --dataset, and not both.", "See `agnes-mcp table add --help`.")
    given = {
        "id": table_id,
        "name": name if name != table_id else "",
        "source_type": "bigquery" if dataset else "local",
        "project": project,
        "bucket": dataset,
        "source_table": source_table,
        "path": path,
        "description": description,
        "primary_key": [column.strip() for column in primary_key.split(",") if column.strip()],
    }
    return {key: value for key, value in given.items() if value}


def _look_at(path: str, folder: Path, entry: dict[str, Any]) -> None:
    """Refuse what cannot be served, add what is needed to read it right, and warn of what cannot be read just now."""
    from glob import has_magic, iglob

    from agnes_mcp.cli.folders import look_at

    there = os.path.join(folder, expanded(path))
    if not (os.path.exists(there) or (has_magic(there) and next(iglob(there, recursive=True), None))):
        raise wrong(f"--path {path!r} matches no file.", "It is relative to the folder of instance.yaml.")
    found = look_at(there, entry.get("source_table") or entry["id"])
    if isinstance(found, str):
        say(f"Warning: --path {path!r} cannot be read just now: {found}.")
        return
    if found.csv:
        entry["csv"] = found.csv
    if found.seen:
        say(f"Found: {found.seen}.")


def _place(entry: dict[str, Any]) -> str:
    if entry.get("path"):
        return str(entry["path"])
    parts = (entry.get("project"), entry.get("bucket"), entry.get("source_table") or entry.get("id"))
    return ".".join(str(part) for part in parts if part)
