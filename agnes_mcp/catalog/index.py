"""What is known of the tables without asking: names of columns, descriptions, sizes; found again after a restart.

Of remote tables it is kept beside the register of ids, in `tables.jsonl`: one line a table, by its place, so that an id
that is moved never shows another table's columns. The file is only what was learned and may be deleted; a damaged one
is begun anew.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from agnes_mcp.models import Model, Table, TableSchema

logger = logging.getLogger(__name__)

FORMAT = 2
FILE_NAME = "tables.jsonl"
#: BigQuery allows 1,024 characters for each of 10,000 columns; of a table whose columns are told at such length, the
#: first ones are searched.
MAX_DESCRIBED_CHARS = 200_000


class Known(Model):
    """What the catalog says of a table, as of `as_of`.

    For searches: `columns` are its dotted paths in small letters, `column_descriptions` what is said of all of them, of
    nested fields too, up to `MAX_DESCRIBED_CHARS`.
    """

    as_of: datetime
    entity_type: str
    description: str = ""
    rows: int | None = None
    size_bytes: int | None = None
    partition_by: str | None = None
    clustered_by: list[str] = Field(default_factory=list)
    primary_key: list[str] = Field(default_factory=list)
    where_examples: list[str] = Field(default_factory=list)
    columns: str = ""
    column_descriptions: str = ""

    @property
    def age_s(self) -> float:
        return (datetime.now(UTC) - self.as_of).total_seconds()


def known_of(table: Table, schema: TableSchema) -> Known:
    """What of a schema that was just read is kept; thousands of tables are kept at once."""
    from agnes_mcp.sql.dialects import where_examples

    partition = schema.partition
    return Known(
        as_of=datetime.now(UTC),
        entity_type=schema.entity_type,
        description=schema.description,
        rows=schema.rows,
        size_bytes=schema.size_bytes,
        partition_by=(partition.column or "_PARTITIONTIME") if partition else None,
        clustered_by=schema.clustered_by,
        primary_key=schema.primary_key,
        where_examples=where_examples(schema, table.dialect),
        columns=" ".join(path for path, _ in schema.walk()).casefold(),
        column_descriptions=" ".join(c.description for _, c in schema.walk() if c.description)[:MAX_DESCRIBED_CHARS],
    )


def key_of(table: Table) -> str:
    """What the table is, whatever its id: its place, or where its files are."""
    return table.place or f"{table.path}\0{table.source_schema}\0{table.source_table}\0{table.id}"


class Index:
    """Thread-safe. `path` None keeps nothing on the disk.

    `listed` are the places that the datasets were seen to hold; `changes` goes up with each change.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}  # one a table; every answer out of it says as of when
        self._signature: tuple[int, ...] = ()
        self._saved = 0
        self.listed: frozenset[str] = frozenset()
        self.changes = 0

    def get(self, table: Table) -> Known | None:
        return self._known.get(key_of(table))

    def put(self, table: Table, schema: TableSchema) -> None:
        known = known_of(table, schema)
        with self._lock:
            self._known[key_of(table)] = known
            self.changes += 1

    def count(self, tables: Iterable[Table]) -> int:
        """How many of these are known. Every one that is counted is in `changes` already, so that a search which
        begins now finds it."""
        with self._lock:
            return sum(key_of(table) in self._known for table in tables)

    def forget(self, table: Table) -> None:
        with self._lock:
            self._known.pop(key_of(table), None)
            self.changes += 1

    def note_listed(self, places: Iterable[str]) -> None:
        """The places that the datasets hold now."""
        found = frozenset(places)
        with self._lock:
            self.changes += found != self.listed
            self.listed = found

    def load(self) -> None:
        """Take over what the file holds and is newer than what is known here. Blocking."""
        if self._path is None:
            return
        try:
            found = os.stat(self._path)
            signature = (found.st_ino, found.st_mtime_ns, found.st_size)
            if signature == self._signature:
                return
            listed, known = _read(self._path)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("what was known of the tables is begun anew: %s", type(error).__name__)
            return
        with self._lock:
            for place, each in known.items():
                mine = self._known.get(place)
                if mine is None or mine.as_of < each.as_of:
                    self._known[place] = each
                    self.changes += 1
            if not self._signature and not self.listed:
                self.listed, self.changes = listed, self.changes + 1
            self._signature = signature
            self._saved = self.changes if known.keys() >= self._known.keys() else self._saved

    def save(self, places: Collection[str]) -> None:
        """Write what is known of these places, whole or not at all, where it has changed since. Blocking.

        For one process at a time: `learning.py` holds the lock. A disk that is full loses what a restart would know.
        """
        if self._path is None:
            return
        kept = sorted(places)
        with self._lock:
            if self._saved == self.changes:
                return
            saved, listed = self.changes, self.listed
            known = {place: self._known.get(place) for place in kept}
        try:
            self._signature = _write(self._path, known, listed)
        except OSError as error:
            logger.warning("what is known of the tables was not kept: %s", error.strerror)
            return
        self._saved = saved


def listed_places(path: Path) -> frozenset[str]:
    """The places that the datasets were last seen to hold; none where the file cannot be read. Blocking, and quick."""
    try:
        return frozenset(entry["place"] for entry in _entries(path) if entry["listed"])
    except (OSError, ValueError, RecursionError):
        return frozenset()


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The file's lines behind the first. Raises `ValueError` for what is no such file."""
    with open(path, encoding="utf-8") as file:
        head = json.loads(file.readline() or "null")
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise ValueError(path.name)
        for line in file:
            entry = json.loads(line)
            if not isinstance(entry, dict) or not isinstance(entry.get("place"), str) or "listed" not in entry:
                raise ValueError(path.name)
            yield entry


def _read(path: Path) -> tuple[frozenset[str], dict[str, Known]]:
    listed: set[str] = set()
    known: dict[str, Known] = {}
    for entry in _entries(path):
        place = str(entry["place"])
        if entry["listed"]:
            listed.add(place)
        if entry.get("known") is not None:
            known[place] = _known_from(entry["known"])
    return frozenset(listed), known


def _known_from(value: object) -> Known:
    try:
        return Known.model_validate(value)
    except ValidationError:
        raise ValueError("an entry of another version") from None


def _write(path: Path, known: dict[str, Known | None], listed: frozenset[str]) -> tuple[int, ...]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=".tables-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps({"format": FORMAT}) + "\n")
            for place, each in known.items():
                entry = {"place": place, "listed": place in listed}
                if each is not None:
                    entry["known"] = each.model_dump(mode="json")
                file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        found = os.stat(name)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    return (found.st_ino, found.st_mtime_ns, found.st_size)
