"""Which tables a folder of files is meant to be: patterns, hive folders, and what a CSV needs to be read right."""

from __future__ import annotations

import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.calls.call import Call
    from agnes_mcp.models import TableSchema
    from agnes_mcp.sources.local.source import LocalSource

#: What follows the name of a table in the names of its files: part-0, 2026-01, 20260131T1200.
_SERIAL = re.compile(r"[-_.]?(?:part[-_.]?)?\d[\dT\-_.]*$", re.IGNORECASE)
_NULLS = ("NA", "N/A", "n/a", "null", "NULL", "None", "-")
_ENCODINGS = ("latin-1", "utf-16")
_MAX_FOLDERS = 2_000


@dataclass
class Found:
    """One table: `path` is a file, a pattern or a folder; `seen` says in words what was found there."""

    id: str
    path: str
    source_table: str = ""
    csv: dict[str, Any] = field(default_factory=dict)
    seen: str = ""


def find_tables(folder: Path) -> list[Found]:
    """Blocking: reads footers, and each CSV once or a few times. Files that cannot be read are left out."""
    from agnes_mcp.calls.processes.processes import Processes
    from agnes_mcp.sources.local.source import JOB, LocalSource
    from agnes_mcp.sources.warehouse import Warehouse

    warehouse, processes = Warehouse(memory_limit_bytes=2**30, threads=2), Processes(JOB, size=1)
    try:
        source = LocalSource(warehouse, processes)
        found: dict[str, Found] = {}
        for path in _places(folder):
            for table in _look(source, path):
                table.id = _free(table.id, found)
                found[table.id] = table
        return list(found.values())
    finally:
        processes.close()
        warehouse.close()


def _places(folder: Path) -> Iterator[str]:
    """Files, patterns and hive folders, each a table's."""
    from agnes_mcp.sources.local.formats import FOLDER_KINDS, kind_by_name

    for count, (place, folders, names) in enumerate(os.walk(folder)):
        if count >= _MAX_FOLDERS:
            return
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        if any("=" in name for name in folders):
            folders[:] = [name for name in folders if "=" not in name]
            yield place
            continue
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(names):
            kind = kind_by_name(name)
            if name.startswith((".", "_")) or kind not in (*FOLDER_KINDS, "duckdb"):
                continue
            stem, dot, suffixes = name.partition(".")
            groups[(name if kind == "duckdb" else _SERIAL.sub("", stem), dot + suffixes)].append(name)
        for (stem, suffixes), members in groups.items():
            yield from _group(place, stem, suffixes, members)


def _group(place: str, stem: str, suffixes: str, members: list[str]) -> Iterator[str]:
    """One pattern where it finds exactly these files, else each of them."""
    pattern = os.path.join(escape(place), f"{escape(stem)}*{escape(suffixes)}")
    if len(members) > 1 and sorted(os.path.basename(path) for path in glob(pattern)) == members:
        yield os.path.join(place, f"{stem}*{suffixes}")
    else:
        yield from (os.path.join(place, name) for name in members)


def _look(source: LocalSource, path: str) -> list[Found]:
    from agnes_mcp.access.grants import os_user
    from agnes_mcp.calls.call import Call
    from agnes_mcp.sources.local.formats import kind_by_name

    call = Call("init", os_user())
    if kind_by_name(os.path.basename(path)) == "duckdb" and os.path.isfile(path):
        return [Found(_id(name), path, name, seen="a table of that database") for name in _tables_in(path)]
    name = os.path.basename(path).partition(".")[0].replace("*", "") or os.path.basename(os.path.dirname(path))
    for options in ({}, *({"encoding": encoding} for encoding in _ENCODINGS)):
        schema = _schema(source, path, options, call)
        if schema is not None:
            if kind_by_name(os.path.basename(path)) == "csv":
                options, schema = _with_nulls(source, path, options, schema, call)
            return [Found(_id(name), path, csv=options, seen=_seen(schema))]
        if kind_by_name(os.path.basename(path)) != "csv":
            break
    return []


def _schema(source: LocalSource, path: str, options: dict[str, Any], call: Call) -> TableSchema | None:
    from agnes_mcp.models import Table

    name = f"found_{zlib.crc32(repr((path, options)).encode()):x}"  # a source takes one id for one way of reading
    try:
        return source.schema(Table(id=name, source_type="local", path=path, csv=options), call)
    except AgnesError:
        return None


def _with_nulls(
    source: LocalSource, path: str, options: dict[str, Any], plain: TableSchema, call: Call
) -> tuple[dict[str, Any], TableSchema]:
    """The fewest texts that, read as null, turn columns of text into numbers or dates; none where none does."""
    best = _schema(source, path, {**options, "null_values": list(_NULLS)}, call)
    if best is None or best.columns == plain.columns:
        return options, plain
    needed = list(_NULLS)
    for text in _NULLS:
        fewer = [other for other in needed if other != text]
        without = _schema(source, path, {**options, "null_values": fewer}, call) if fewer else plain
        if without is not None and without.columns == best.columns:
            needed = fewer
    return {**options, "null_values": needed}, best


def _tables_in(path: str) -> list[str]:
    import duckdb

    try:
        with duckdb.connect(path, read_only=True) as connection:
            found = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' AND NOT internal ORDER BY 1"
            ).fetchall()
    except duckdb.Error:
        return []
    return [str(name) for (name,) in found]


def _seen(schema: TableSchema) -> str:
    columns = ", ".join(column.name for column in schema.columns[:4])
    more = ", …" if len(schema.columns) > 4 else ""
    rows = f"{schema.rows:,} rows of " if schema.rows is not None else ""
    return f"{rows}{columns}{more}".replace("\n", " ")


def _id(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "_", name.strip().lower()).strip("_")[:60] or "table"


def _free(wanted: str, taken: dict[str, Found]) -> str:
    return next(name for name in (wanted, *(f"{wanted}_{n}" for n in range(2, len(taken) + 3))) if name not in taken)
