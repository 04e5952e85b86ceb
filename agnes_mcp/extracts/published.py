"""Local tables as the one Parquet file each that others mirror, and the hash by which they know it.

A table that is one Parquet file is that file. Any other is written to Parquet once for as long as its files stay as
they are, under a folder of the instance. The hash is the hex MD5 of exactly the bytes that are served.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field, ValidationError

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Model, Price, QueryMode, Statement, Table
from agnes_mcp.snapshots.files import disk_errors, open_regular, remove, sync_folder
from agnes_mcp.sources.local.files import find_files
from agnes_mcp.sql.names import identifier

if TYPE_CHECKING:
    from agnes_mcp.sources import Source

#: Read and hashed so much at a time.
PIECE_BYTES = 1 << 20
#: A file that changes while it is hashed is hashed again so often.
_ATTEMPTS = 3

#: Time of change in ns, bytes and inode: equal while it is the same file.
_Stamp = tuple[int, int, int]


class ManifestEntry(Model):
    """One table of the manifest. `hash` "": the table is remote, or cannot be read just now."""

    hash: str = ""
    updated: AwareDatetime | None = None
    size_bytes: int | None = None
    rows: int | None = None
    query_mode: QueryMode = "local"
    source_type: str = "local"


class Manifest(Model):
    """The tables that the caller may read, by id."""

    tables: dict[str, ManifestEntry] = Field(default_factory=dict)
    server_time: AwareDatetime


class PublishedFile(Model):
    """The Parquet file of a table. Stays in the engine: `path` is of this machine."""

    path: str
    stamp: _Stamp
    signature: list[tuple[str, int, int, int]]  # of the table's own files
    hash: str
    rows: int
    updated: AwareDatetime
    own: bool  # written by us

    @property
    def size_bytes(self) -> int:
        return self.stamp[1]

    def entry(self, table: Table) -> ManifestEntry:
        return ManifestEntry(
            hash=self.hash,
            updated=self.updated,
            size_bytes=self.size_bytes,
            rows=self.rows,
            query_mode=table.query_mode,
            source_type=table.source_type,
        )


class Publisher:
    """`folder` is made when the first file is written; `source_of` gives the source that reads a table.

    Blocking; safe to share between threads and processes.
    """

    def __init__(self, folder: Path, source_of: Callable[[Table], Source]) -> None:
        self._folder = folder
        self._source_of = source_of
        self._lock = threading.Lock()
        # One a table; true while its files, and the one written of them, are what they were.
        self._known: dict[str, PublishedFile] = {}

    def publish(self, table: Table, call: Call) -> PublishedFile:
        """The table's file as it is now.

        Raises `table_unavailable`, `disk_full`, `storage_failed`, and what ends the call.
        """
        for _ in range(_ATTEMPTS):
            signature = _signature(table)
            known = self._known.get(table.id)
            if known is None or known.signature != signature or _stamp(known.path) != known.stamp:
                with self._alone(table.id, call):
                    known = self._recall(table.id, signature) or self._make(table, signature, call)
            if known is not None:
                with self._lock:
                    self._known[table.id] = known
                return known
        raise AgnesError(
            "table_unavailable",
            f"The table {table.id!r} cannot be read just now: its files keep changing.",
            "Call again when whoever writes them is done.",
        )

    def open(self, table: Table, call: Call) -> tuple[int, PublishedFile]:
        """A descriptor, for the caller to close, of exactly the file whose hash is told, whatever takes its place."""
        for _ in range(_ATTEMPTS):
            file = self.publish(table, call)
            descriptor = -1
            with disk_errors("open the table's file"), suppress(FileNotFoundError):  # written anew since, and removed
                descriptor = os.open(file.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            if descriptor < 0:
                continue
            if _stamp(descriptor) == file.stamp:
                return descriptor, file
            os.close(descriptor)
        raise AgnesError(
            "table_unavailable",
            f"The table {table.id!r} cannot be read just now: its file keeps changing.",
            "Call again when whoever writes it is done.",
        )

    def sweep(self, kept: Collection[str]) -> None:
        """Remove what was written for tables that are there no more."""
        with suppress(FileNotFoundError):
            for path in list(self._folder.iterdir()):
                if path.name.lstrip(".").split(".", 1)[0] not in kept:
                    remove(path)

    def _recall(self, table_id: str, signature: list[tuple[str, int, int, int]]) -> PublishedFile | None:
        """What an earlier call, perhaps of another process, found out of the same files."""
        try:
            known = PublishedFile.model_validate_json(self._note(table_id).read_bytes())
        except (OSError, ValidationError):
            return None
        return known if known.signature == signature and _stamp(known.path) == known.stamp else None

    def _make(self, table: Table, signature: list[tuple[str, int, int, int]], call: Call) -> PublishedFile | None:
        """Hash the table's one Parquet file, or write one and hash that. None: the files changed meanwhile."""
        files = find_files(table)
        single = files.kind == "parquet" and len(files.paths) == 1 and not files.hive
        path = Path(files.paths[0]) if single else self._write(table, call)
        stamp, digest, rows = _measure(path, table, call)
        if _signature(table) != signature or _stamp(path) != stamp:
            return None
        made = PublishedFile(
            path=str(path),
            stamp=stamp,
            signature=signature,
            hash=digest,
            rows=rows,
            updated=files.modified.astimezone(UTC),
            own=not single,
        )
        self._remember(table.id, made)
        return made

    def _remember(self, table_id: str, made: PublishedFile) -> None:
        """For other processes and the next start, and without the file that was served before."""
        with disk_errors("keep the table's hash"):
            building = self._note(table_id).with_suffix(".tmp")
            building.write_bytes(made.model_dump_json().encode())
            building.replace(self._note(table_id))
            for path in self._folder.glob(f"{table_id}.*.parquet"):
                if str(path) != made.path:
                    remove(path)

    def _note(self, table_id: str) -> Path:
        return self._folder / f"{table_id}.json"

    def _write(self, table: Table, call: Call) -> Path:
        import pyarrow.parquet as pq

        from agnes_mcp.snapshots.storable import storable_schema
        from agnes_mcp.snapshots.writing import DICTIONARY_BYTES, ROW_GROUP_ROWS, regroup

        source = self._source_of(table)
        schema = source.schema(table, call)
        columns = [column.name for column in schema.columns]
        sql = f"SELECT {', '.join(map(identifier, columns))} FROM {identifier(table.id)}"  # noqa: S608 - every name is quoted
        statement = Statement(sql=sql, dialect="duckdb", columns=columns, source_columns=columns, plain=True)
        free = Price(scan_bytes=0, reserved_bytes=0)
        building = self._folder / f".{table.id}.building"
        with disk_errors("write the table as Parquet"):
            remove(building)
            try:
                with source.read(table, schema, statement, free, call) as reading:
                    stored = storable_schema(reading.schema)
                    options = {"compression": "zstd", "dictionary_pagesize_limit": DICTIONARY_BYTES}
                    with pq.ParquetWriter(building, stored, **options) as writer:
                        for rows in regroup(reading, stored, call):
                            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
                written = self._folder / f"{table.id}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}.parquet"
                building.replace(written)
            finally:
                remove(building)
            sync_folder(self._folder)
        return written

    @contextmanager
    def _alone(self, table_id: str, call: Call) -> Iterator[None]:
        """One thread of one process at a time prepares a table; the others wait until it has, or their call ends."""
        from filelock import FileLock, Timeout

        with disk_errors("make the folder of published tables"):
            self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / f".{table_id}.lock", mode=0o600, thread_local=False)
        while True:
            call.check()
            with disk_errors("lock the table"), suppress(Timeout):  # a Timeout is an OSError too
                lock.acquire(timeout=0.1, poll_interval=0.02)
                break
        try:
            yield
        finally:
            lock.release()


def _signature(table: Table) -> list[tuple[str, int, int, int]]:
    """Of the table's files, and of how they are read."""
    reading = repr((sorted(table.csv.items()), table.hive, table.source_table, table.source_schema))
    return [*find_files(table).signature, (reading, 0, 0, 0)]


def _stamp(file: str | int | Path) -> _Stamp | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _measure(path: Path, table: Table, call: Call) -> tuple[_Stamp, str, int]:
    """Stamp, MD5 and rows of one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(open_regular(path.resolve()), "rb") as file:
            stamp = _stamp(file.fileno())
            while piece := file.read(PIECE_BYTES):
                call.check()
                digest.update(piece)
            rows = pq.ParquetFile(file).metadata.num_rows
    except (OSError, pa.ArrowException):
        raise AgnesError(
            "table_unavailable",
            f"The table {table.id!r} cannot be read just now: its file is missing or damaged.",
            "Other tables are not affected. Tell whoever keeps this instance; the file of the table needs a look.",
        ) from None
    assert stamp is not None  # noqa: S101 - an open file has one
    return stamp, digest.hexdigest(), int(rows)
