"""Where the parts of an Agnes directory are, and which names may stand in it. Every name is matched whole.

<root>/extracts/<source>/extract.duckdb     what a source offers: `_meta`, `_remote_attach`, views
<root>/extracts/<source>/data/*.parquet     its rows, where they are local
<root>/analytics/server.duckdb              one view for each of them, over all sources
"""

from __future__ import annotations

import os
import re
from pathlib import Path

EXTRACT = "extract.duckdb"
#: The source that `agnes-mcp extract` writes.
BIGQUERY_SOURCE = "bigquery"

#: A folder below `extracts`; a mirrored server's is its host name.
SOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
#: A table's name in `_meta`, and an alias or extension in `_remote_attach`.
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: A dataset, and a table in it, as an extract may hold them.
PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
#: A project, as an extract may hold it: BigQuery's rule, without the domains of old.
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")


def extracts_folder(root: Path) -> Path:
    return root / "extracts"


def server_file(root: Path) -> Path:
    return root / "analytics" / "server.duckdb"


def source_folders(root: Path) -> list[Path]:
    """The sources' folders by name; a folder whose name is not one, or is hidden, is nobody's source."""
    try:
        found = sorted(Path(entry.path) for entry in os.scandir(extracts_folder(root)) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder for folder in found if SOURCE_NAME.fullmatch(folder.name)]


def wal_of(database: Path) -> Path:
    """DuckDB's write-ahead log of that file."""
    return database.with_name(f"{database.name}.wal")


def is_inside(path: str | Path, folder: Path) -> bool:
    """Whether that path, links followed, is below that folder, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
