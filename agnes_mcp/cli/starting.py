"""`init`: a commented instance.yaml, from a project of BigQuery or from a folder of files."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from agnes_mcp.cli.options import CommandError, wrong
from agnes_mcp.cli.output import say
from agnes_mcp.cli.words import counted
from agnes_mcp.config.editing import is_plain, replace_file
from agnes_mcp.config.types import expanded
from agnes_mcp.errors import EXIT_EXISTS

_HEAD = """\
# What this instance serves. Every key: docs/reference/configuration.md; `agnes-mcp doctor` checks the file.
# Each can be set in the environment as well: AGNES_ and the path, as in AGNES_API__SCAN__MAX_LIMIT.

# Snapshots, the audit and the day's books; relative paths are relative to this file.
data_dir: ~/.agnes
"""
_CAPS = """
api:
  scan:
    # Most bytes that one statement may scan, and one caller a day; above the third, a person is asked first.
    max_scan_bytes: 53687091200
    max_daily_bytes_per_user: 53687091200
    confirm_above_bytes: 5368709120
"""
_ACCESS = """
# Callers over HTTP; over stdio whoever starts the server reads every table.
# `agnes-mcp token add ana@example.com --tables "*"` adds one.
access:
  users: []
"""


def register(app: typer.Typer) -> None:
    app.command()(init)


def init(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of Parquet, CSV, JSON, Arrow or DuckDB files.")
    ] = None,
    project: Annotated[str, typer.Option("--project", help="BigQuery: the project that holds the tables.")] = "",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="A dataset to serve; several times.")] = None,
    billing_project: Annotated[str, typer.Option("--billing-project", help="The project that pays.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("instance.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented instance.yaml from a BigQuery project and datasets, or from a folder of files, or both."""
    output = Path(expanded(output))
    if not project and folder is None:
        raise wrong("There is nothing to begin with.", "Name a folder of files, or --project and --dataset.")
    if output.exists() and not force:
        raise CommandError(f"{output} is there already.", "Name another with -o, or give --force.", EXIT_EXISTS)
    text = _HEAD
    if project:
        text += _bigquery(project, dataset or [], billing_project) + _CAPS
    tables, left = _tables_of(Path(expanded(folder)), output.absolute().parent) if folder is not None else ([], [])
    text += "".join(["\ntables:\n", *tables]) if tables else "\ntables: []\n"
    replace_file(output, text + _ACCESS, "Name another place with -o.", str(output))
    for path, reason in left:
        say(f"Left out: {path}: {reason}.")
    served = [counted(len(tables), "table")] if folder is not None else []
    if dataset:
        served.append(f"{'the datasets' if len(dataset) > 1 else 'the dataset'} {', '.join(dataset)}")
    say(f"{output} serves {' and '.join(served) or 'no table yet: name datasets or tables in it'}.")
    say(f"Fill in the descriptions, then: agnes-mcp doctor -c {shlex.quote(str(output))}")


def _bigquery(project: str, datasets: list[str], billing_project: str) -> str:
    from pydantic import ValidationError

    from agnes_mcp.config.complaints import complaint_of
    from agnes_mcp.config.settings import BigQuerySettings

    given = {
        "project": project,
        "datasets": datasets,
        **({"billing_project": billing_project} if billing_project else {}),
    }
    try:
        BigQuerySettings.model_validate(given)
    except ValidationError as error:
        raise wrong(
            complaint_of(error, BigQuerySettings)[0], "Nothing was written; correct it and try again."
        ) from None
    payer = f"billing_project: {billing_project}" if billing_project else "# billing_project: not given, `project` pays"
    return (
        "\ndata_source:\n  bigquery:\n"
        f"    project: {project}\n    {payer}\n"
        "    location: US  # of the datasets; jobs run there\n"
        "    auth: auto  # the metadata server on Google Cloud, else `gcloud auth application-default login`\n"
        "    # Every table of these is served; single ones can be listed under `tables`.\n"
        f"    datasets: {json.dumps(datasets)}\n"
    )


def _tables_of(folder: Path, beside: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The entries of `tables` for what a folder holds, and what was left out, with the reason; paths as they are seen
    from the new file."""
    from agnes_mcp.cli.folders import find_tables

    if not folder.is_dir():
        raise wrong(f"There is no folder {str(folder)!r}.", "Name one that holds files.")
    found, unread = find_tables(folder)
    left = [(os.path.relpath(file.path, beside), file.reason) for file in unread]
    if not found:
        also = "".join(f" {path}: {reason}." for path, reason in left[:3])
        raise wrong(
            f"{str(folder)!r} holds no file that can be a table.{also}", "Parquet, CSV, JSON, Arrow and DuckDB can."
        )
    entries = []
    for table in found:
        path = os.path.relpath(table.path, beside)
        lines = [
            f"  - id: {table.id if is_plain(table.id) else json.dumps(table.id)}",
            f"    path: {json.dumps(path, ensure_ascii=False)}",
        ]
        if table.source_table:
            lines.append(f"    source_table: {json.dumps(table.source_table, ensure_ascii=False)}")
        if table.csv:
            lines.append(f"    csv: {json.dumps(table.csv, ensure_ascii=False)}  # needed to read it right")
        lines.append("    # primary_key: []")
        lines.append(f'    description: ""  # what one row is; {table.seen}')
        entries.append("\n".join(lines) + "\n")
    return entries, left
