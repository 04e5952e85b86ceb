"""Which files a local table stands for, and how DuckDB is told to read them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from glob import escape, glob, has_magic
from typing import NamedTuple

from agnes_mcp.models import Table
from agnes_mcp.sql.duckdb_errors import unavailable
from agnes_mcp.sql.views import View

_DUCKDB_SUFFIXES = (".duckdb", ".db", ".ddb")
_CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst")


#: Path, time of change in ns and bytes of each file: equal while nothing has changed.
Signature = tuple[tuple[str, int, int], ...]


class Files(NamedTuple):
    """What a table's `path` stands for just now. `kind` is parquet, csv or duckdb."""

    kind: str
    paths: list[str]
    size_bytes: int
    modified: datetime
    hive: bool
    signature: Signature


def find_files(table: Table) -> Files:
    """The files that a local table's path stands for now. Raises `table_unavailable` where there are none."""
    try:
        paths, hive = _expand(table.path)
        stats = [os.stat(path) for path in paths]
    except OSError:
        raise unavailable("its files are missing or cannot be read", table.id) from None
    if not paths:
        raise unavailable("its files are missing", table.id)
    newest = max(stat.st_mtime for stat in stats)
    return Files(
        kind=_kind(paths[0]),
        paths=paths,
        size_bytes=sum(stat.st_size for stat in stats),
        modified=datetime.fromtimestamp(newest, UTC),
        hive=hive or "=" in os.path.relpath(paths[0], _fixed_part(table.path)),
        signature=tuple((p, s.st_mtime_ns, s.st_size) for p, s in zip(paths, stats, strict=True)),
    )


def _expand(path: str) -> tuple[list[str], bool]:
    if os.path.isdir(path):
        found = sorted(p for p in glob(os.path.join(escape(path), "**", "*"), recursive=True) if _is_table_file(p))
        return found, any("=" in os.path.relpath(p, path).rpartition(os.sep)[0] for p in found[:1])
    if has_magic(path) and not os.path.exists(path):
        return sorted(p for p in glob(path, recursive=True) if os.path.isfile(p)), False
    return [path], False


def _is_table_file(path: str) -> bool:
    name = os.path.basename(path)
    return os.path.isfile(path) and not name.startswith((".", "_")) and name.endswith((".parquet", *_CSV_SUFFIXES))


def _fixed_part(path: str) -> str:
    while has_magic(path):
        path = os.path.dirname(path)
    return path


def _kind(path: str) -> str:
    lowered = path.lower()
    if lowered.endswith(_DUCKDB_SUFFIXES):
        return "duckdb"
    return "csv" if lowered.endswith(_CSV_SUFFIXES) else "parquet"


def hive_keys(files: Files) -> list[str]:
    """The columns that the folders' names give, outermost first."""
    if not files.hive:
        return []
    folders = files.paths[0].split(os.sep)[:-1]
    return [part.split("=", 1)[0] for part in folders if "=" in part]


def view_of(table: Table, files: Files) -> View:
    """The table as a statement names it, over these files."""
    if files.kind == "duckdb":
        return View(table.id, "duckdb_table", files.paths, source_table=table.source_table or table.id)
    options = {"union_by_name": True, "hive_partitioning": files.hive}
    return View(table.id, "csv" if files.kind == "csv" else "parquet", files.paths, options)
