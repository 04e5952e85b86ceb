"""The tables of an Agnes directory, as they are on the disk now.

What a source offers is read anew when its files have changed. While its extract cannot be read, what it offered before
stays; the first source in order of name keeps a table's name.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import Settings
from agnes_mcp.extracts.inspection import UnreadableExtract, inspect_extract
from agnes_mcp.extracts.layout import EXTRACT, IDENTIFIER, is_inside, source_folders, wal_of
from agnes_mcp.extracts.offers import NotServed, Source, local_table
from agnes_mcp.models import Table

_log = logging.getLogger(__name__)

_MAGIC = b"PAR1"
#: Name, time of change in ns, bytes and inode of each file of a source.
_Signature = tuple[tuple[str, int, int, int], ...]


class Problem(NamedTuple):
    """Something of a source that is not served; `table` is "" where it is the whole extract."""

    source: str
    table: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}{'.' if self.table else ''}{self.table}: {self.reason}"


@dataclass(frozen=True)
class _Known:
    signature: _Signature
    tables: tuple[Table, ...]
    problems: tuple[Problem, ...]


class AgnesDirectory:
    """Safe to share between threads. `project` is the BigQuery project that this instance is configured for."""

    def __init__(self, root: Path, project: str = "") -> None:
        self._root = root
        self._project = project
        self._lock = threading.Lock()
        # One an extract that is there now; true of the file with that signature alone.
        self._known: dict[str, _Known] = {}
        self._problems: tuple[Problem, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> AgnesDirectory | None:
        """The directory that is served beside the configured tables; None: there is none."""
        agnes, bigquery = settings.data_source.agnes, settings.data_source.bigquery
        return cls(agnes.data_dir, bigquery.project if bigquery else "") if agnes else None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What the last `tables` found not to be served, and why."""
        return self._problems

    def tables(self, call: Call) -> list[Table]:
        """Every table that can be served now, by source and name. Blocking: looks at the files' times, and reads the
        extracts that changed. Raises only what ends the call."""
        with self._lock:
            folders = {folder.name: folder for folder in source_folders(self._root)}
            self._known = {name: known for name, known in self._known.items() if name in folders}
            for name, folder in folders.items():
                signature = _signature(folder)
                known = self._known.get(name)
                if known is None or known.signature != signature:
                    self._known[name] = self._read(folder, signature, known, call)
            return self._owned()

    def _owned(self) -> list[Table]:
        owners: dict[str, str] = {}
        served: list[Table] = []
        problems: list[Problem] = []
        for source, known in sorted(self._known.items()):
            problems += known.problems
            for table in known.tables:
                owner = owners.setdefault(table.id, source)
                if owner == source:
                    served.append(table)
                else:
                    problems.append(Problem(source, table.name, f"the name belongs to the source {owner!r}"))
        self._tell(problems)
        return served

    def _tell(self, problems: list[Problem]) -> None:
        """Each problem is logged once, when it is new."""
        for problem in problems:
            if problem not in self._problems:
                _log.error("extract %s", problem)
        self._problems = tuple(problems)

    def _read(self, folder: Path, signature: _Signature, before: _Known | None, call: Call) -> _Known:
        tables: dict[str, Table] = {}
        problems: list[Problem] = []
        if (folder / EXTRACT).exists():
            try:
                contents = inspect_extract(folder / EXTRACT, call)
            except UnreadableExtract as error:
                problems.append(Problem(folder.name, "", f"{EXTRACT} is not served: {error}"))
                tables = {table.id: table for table in before.tables} if before else {}
            else:
                self._collect(Source(folder, contents, self._project), tables, problems)
        for table, reason in _file_tables(folder):
            if table is not None:
                tables.setdefault(table.id, table)
            if reason:
                problems.append(Problem(folder.name, table.name if table else "", reason))
        return _Known(signature, tuple(tables[key] for key in sorted(tables)), tuple(problems))

    def _collect(self, source: Source, tables: dict[str, Table], problems: list[Problem]) -> None:
        for offer in source.contents.offers:
            try:
                table = source.table(offer)
            except NotServed as error:
                problems.append(Problem(source.folder.name, offer.name[:80], str(error)))
            else:
                if tables.setdefault(table.id, table) is not table:
                    problems.append(Problem(source.folder.name, offer.name, "another table has the same id"))


def _signature(folder: Path) -> _Signature:
    """Of the extract, its log and the Parquet files beside it; a file that is gone meanwhile is not in it."""
    extract = folder / EXTRACT
    found = []
    for path in (extract, wal_of(extract), *_parquet_files(folder)):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _parquet_files(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder / "data"))
    except OSError:
        return []
    return [folder / "data" / name for name in names if name.endswith(".parquet") and not name.startswith((".", "_"))]


def _file_tables(folder: Path) -> Iterator[tuple[Table | None, str]]:
    """A table for each Parquet file, or None where it cannot be one; and what is wrong with it, "" for nothing.

    A damaged file stays a table: whoever reads it is told that it cannot be read, and not that there is none.
    """
    for path in _parquet_files(folder):
        if not IDENTIFIER.fullmatch(path.stem):
            yield None, f"a file of data/ is not served: its name ({path.stem[:80]!r}) is not letters, digits and `_`"
        elif not is_inside(path, folder):
            yield None, f"data/{path.name} is not served: it is a link to a file of somewhere else"
        else:
            sound = _is_parquet(path)
            yield local_table(path.stem, path), "" if sound else "it is damaged, or still being written"


def _is_parquet(path: Path) -> bool:
    """Whether the file begins and ends as Parquet does, and its footer fits into it."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < 12:
                return False
            file.seek(size - 8)
            tail = file.read(8)
            file.seek(0)
            footer = int.from_bytes(tail[:4], "little")
            return file.read(4) == _MAGIC and tail[4:] == _MAGIC and footer + 12 <= size
    except OSError:
        return False
