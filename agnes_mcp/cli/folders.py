"""Which tables a folder of files is meant to be: patterns, hive folders, and what a CSV needs to be read right."""

from __future__ import annotations

import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnes_mcp.catalog.ids import table_id_of
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.calls.call import Call
    from agnes_mcp.models import TableSchema
    from agnes_mcp.sources.local.source import LocalSource

#: What follows the name of a table in the names of its files: part-0, 2026-01, 20260131T1200.
_SERIAL = re.compile(r"[-_.]?(?:part[-_.]?)?\d[\dT\-_.]*$", re.IGNORECASE)
_NULLS = ("NA", "N/A", "n/a", "null", "NULL", "None", "-")
_MAX_FOLDERS = 2_000
_STORED = (
    "SELECT table_name, 'table' FROM duckdb_tables() WHERE database_name = 'f' AND schema_name = 'main' UNION ALL "
    "SELECT view_name, 'view' FROM duckdb_views() WHERE database_name = 'f' AND schema_name = 'main' AND NOT internal "
    "ORDER BY ALL"
)


@dataclass
class Found:
    """One table: `path` is a file, a pattern or a folder; `seen` says in words what was found there."""

    id: str
    path: str
    source_table: str = ""
    csv: dict[str, Any] = field(default_factory=dict)
    seen: str = ""


@dataclass
class Left:
    """A file, or a pattern of files, that could not be read, and why in words."""

    path: str
    reason: str


def find_tables(folder: Path) -> tuple[list[Found], list[Left]]:
    """Blocking: reads footers, and each CSV once or a few times. With the tables, what was left out."""
    with _reader() as source:
        found: dict[str, Found] = {}
        left: list[Left] = []
        for path in _places(folder):
            tables = _look(source, path)
            if isinstance(tables, str):
                left.append(Left(path, tables))
                continue
            for table in tables:
                table.id = _free(table.id, found)
                found[table.id] = table
        return list(found.values()), left


@contextmanager
def _reader() -> Iterator[LocalSource]:
    from agnes_mcp.calls.processes.processes import Processes
    from agnes_mcp.sources.local import JOB
    from agnes_mcp.sources.local.source import LocalSource
    from agnes_mcp.sources.warehouse import Warehouse

    warehouse, processes = Warehouse(memory_limit_bytes=2**30, threads=2), Processes(JOB, size=1)
    source = LocalSource(warehouse, processes)
    try:
        yield source
    finally:
        source.close()
        processes.close()
        warehouse.close()


def look_at(path: str, table: str) -> Found | str:
    """What a table of this path would be, blocking: `table` is its name where the file is a database. In words why it
    cannot be read, where that may pass or an option may help.

    Raises `invalid_argument` where no reader serves what is there: a format that is none of ours, a folder without
    files, a database without such a table, a text that is no table.
    """
    from agnes_mcp.models import Table
    from agnes_mcp.sources.local.files import find_files
    from agnes_mcp.sources.local.formats import kind_by_name

    try:
        files = find_files(Table(id="found", source_type="local", path=path))
    except AgnesError as error:
        raise _not_served(error.message.partition(": ")[2].rstrip(".") or error.message) from None
    if files.kind == "duckdb":
        stored = _tables_in(path)
        if isinstance(stored, str):
            return stored
        named = next((found for found in stored if found.source_table.casefold() == table.casefold()), None)
        if named is None:
            there = ", ".join(found.source_table for found in stored[:5])
            raise _not_served(f"that database has no table {table!r}, but {there}", "Name it with --source-table.")
        return named
    if files.kind not in ("csv", "json"):
        return Found(table, path)
    with _reader() as source:
        looked = _look(source, path)
    if isinstance(looked, str):
        return looked
    if any(kind_by_name(file) is None for file in files.paths):  # taken for a table by its content alone
        if "," not in looked[0].seen:
            raise _not_served("its name says no format, and its text is one column: no table")
        looked[0].seen += f"; its name says no format, so it is taken for {files.kind.upper()}"
    return looked[0]


def _not_served(reason: str, hint: str = "") -> AgnesError:
    served = "Served are files, patterns and folders of Parquet, CSV, JSON or Arrow, a workbook, and a DuckDB file."
    return AgnesError("invalid_argument", f"--path cannot be served: {reason}.", hint or served)


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


def _look(source: LocalSource, path: str) -> list[Found] | str:
    """The tables of a place; or why there is none."""
    from agnes_mcp.access.grants import os_user
    from agnes_mcp.calls.call import Call
    from agnes_mcp.sources.local.formats import kind_by_name

    call = Call("init", os_user())
    if kind_by_name(os.path.basename(path)) == "duckdb" and os.path.isfile(path):
        return _tables_in(path)
    name = os.path.basename(path).partition(".")[0].replace("*", "") or os.path.basename(os.path.dirname(path))
    why = ""
    for options in ({}, *({"encoding": encoding} for encoding in _encodings(path))):
        schema = _schema(source, path, options, call)
        if isinstance(schema, AgnesError):
            why = why or schema.message.partition(": ")[2].rstrip(".")
        else:
            if kind_by_name(os.path.basename(path)) == "csv":
                options, schema = _with_nulls(source, path, options, schema, call)
            return [Found(_id(name), path, csv=options, seen=_seen(schema))]
        if "not UTF-8" not in why:
            break
    return why


def _encodings(path: str) -> list[str]:
    """What a text that is not UTF-8 may be in: of two bytes for each character where some are zero."""
    first = next(iter(glob(path)), path)
    try:
        with open(first, "rb") as file:
            return ["utf-16" if b"\0" in file.read(4096) else "latin-1"]
    except OSError:
        return []


def _schema(source: LocalSource, path: str, options: dict[str, Any], call: Call) -> TableSchema | AgnesError:
    from agnes_mcp.models import Table

    name = f"found_{zlib.crc32(repr((path, options)).encode()):x}"  # a source takes one id for one way of reading
    try:
        return source.schema(Table(id=name, source_type="local", path=path, csv=options), call)
    except AgnesError as error:
        return error


def _with_nulls(
    source: LocalSource, path: str, options: dict[str, Any], plain: TableSchema, call: Call
) -> tuple[dict[str, Any], TableSchema]:
    """The fewest texts that, read as null, turn columns of text into numbers or dates; none where none does."""
    best = _schema(source, path, {**options, "null_values": list(_NULLS)}, call)
    if isinstance(best, AgnesError) or best.columns == plain.columns:
        return options, plain
    needed = list(_NULLS)
    for text in _NULLS:
        fewer = [other for other in needed if other != text]
        without = _schema(source, path, {**options, "null_values": fewer}, call) if fewer else plain
        if not isinstance(without, AgnesError) and without.columns == best.columns:
            needed = fewer
    return {**options, "null_values": needed}, best


def _tables_in(path: str) -> list[Found] | str:
    """The tables of a DuckDB file, and its views that read nothing else."""
    import duckdb

    from agnes_mcp.sql.stored_views import closed_over
    from agnes_mcp.sql.views import attach_statement

    try:
        with duckdb.connect() as connection:
            connection.execute(attach_statement(path, "f"))
            stored = connection.execute(_STORED).fetchall()
            found = [row for row in stored if row[1] == "table" or closed_over(connection, "f", "main", row[0])]
    except duckdb.Error as error:
        locked = "lock" in str(error)
        return "another process is writing it" if locked else "it is damaged, encrypted, or of a newer DuckDB"
    if not found:
        return "it holds no table"
    return [Found(_id(name), path, name, seen=f"a {kind} of that database") for name, kind in found]


def _seen(schema: TableSchema) -> str:
    columns = ", ".join(column.name for column in schema.columns[:4])
    more = ", …" if len(schema.columns) > 4 else ""
    rows = f"{schema.rows:,} row{'' if schema.rows == 1 else 's'} of " if schema.rows is not None else ""
    return f"{rows}{columns}{more}".replace("\n", " ")


def _id(name: str) -> str:
    """In small letters of the alphabet, whatever script the file's name is in."""
    return re.sub(r"_+", "_", table_id_of(name)).strip("_")[:60]


def _free(wanted: str, taken: dict[str, Found]) -> str:
    return next(name for name in (wanted, *(f"{wanted}_{n}" for n in range(2, len(taken) + 3))) if name not in taken)
