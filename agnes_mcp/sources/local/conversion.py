"""Workbooks and Arrow files as Parquet, which is what DuckDB reads; once for each state of the file."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes, Question
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local.files import Files, Signature
from agnes_mcp.sources.local.workbooks import JOB, SHEET, too_large
from agnes_mcp.sql.duckdb_errors import unavailable

if TYPE_CHECKING:
    import pyarrow as pa

#: A conversion for a call without a deadline ends after an hour.
_LONGEST_S = 3600.0
#: A larger Arrow file is mapped, as all of it may be one batch.
_IN_MEMORY_BYTES = 2**30
#: How a process ends that could not have the memory it asked for: the library that reads workbooks aborts.
_ABORTED = -6


class Conversions:
    """Thread-safe. Workbooks are read in one process that may use `memory_bytes`, one at a time."""

    def __init__(self, memory_bytes: int) -> None:
        self._processes = Processes(JOB, size=1, memory_bytes=memory_bytes, threads=1)
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        # Both one a table at most; true of the files of that signature, and of that sheet, alone.
        self._made: dict[str, tuple[Signature, str, list[str]]] = {}
        self._refused: dict[str, tuple[Signature, str, AgnesError]] = {}

    def parquet(self, table: Table, files: Files, folder: Path, call: Call) -> list[str]:
        """The Parquet files that hold the same rows, one for each of the table's; in `folder`, which is this process's
        own, and goes with it. Raises AgnesError."""
        state = (files.signature, table.source_table)
        with self._alone(table.id, call):
            known, refused = self._made.get(table.id), self._refused.get(table.id)
            if refused is not None and refused[:2] == state:
                raise refused[2]
            if known is not None and known[:2] == state:
                return known[2]
            made = [self._convert(table, files, path, folder, call) for path in files.paths]
            self._made[table.id] = (*state, made)
            for old in set(known[2] if known is not None else ()) - set(made):
                Path(old).unlink(missing_ok=True)
            return made

    def close(self) -> None:
        self._processes.close()

    @contextmanager
    def _alone(self, table_id: str, call: Call) -> Iterator[None]:
        """One call converts a table; whoever else wants it waits, no longer than it may."""
        with call.interruptible(self._wake), self._changed:
            while table_id in self._busy:
                call.check()
                self._changed.wait(call.remaining_s)
            self._busy.add(table_id)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(table_id)
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _convert(self, table: Table, files: Files, path: str, folder: Path, call: Call) -> str:
        import pyarrow as pa
        import pyarrow.parquet as pq

        state = repr((path, files.signature, table.source_table)).encode("utf-8", "surrogateescape")
        target = folder / f"{table.id}-{hashlib.sha256(state).hexdigest()[:16]}.parquet"
        try:
            with ExitStack() as held:
                source = self._sheet(table, files, path, call) if files.kind == "xlsx" else _arrow(path)
                schema, batches = held.enter_context(source)
                writer = held.enter_context(pq.ParquetWriter(target, schema))
                for batch in batches:
                    call.check()
                    writer.write_batch(batch)
            found = os.stat(path)
            if (path, found.st_mtime_ns, found.st_size, found.st_ino) not in files.signature:
                raise OSError  # written anew meanwhile: a stream that is cut short ends like a whole one
        except AgnesError:
            target.unlink(missing_ok=True)
            raise
        except (pa.ArrowException, OSError, ValueError):
            target.unlink(missing_ok=True)
            reason = "its file could not be converted to Parquet: it is damaged or not what it was"
            raise unavailable(reason, table.id) from None
        return str(target)

    @contextmanager
    def _sheet(
        self, table: Table, files: Files, path: str, call: Call
    ) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        content = {"path": path, "sheet": table.source_table, "table": table.id}
        question = Question(SHEET, content, partial(too_large, table.id), partial(_died, table.id))
        limit_s = _LONGEST_S if call.remaining_s is None else call.remaining_s
        try:
            with self._processes.ask(question, _grant_nothing, call, limit_s) as answer:
                yield answer.schema_and_batches()
        except AgnesError as error:
            if error.kind == "table_unavailable":  # of this state of the file, and next time again
                self._refused[table.id] = (files.signature, table.source_table, error)
            raise


def _died(table_id: str, code: int) -> AgnesError:
    if code == _ABORTED:
        return too_large(table_id)
    return unavailable("its workbook is damaged, or not one", table_id)


def _grant_nothing(needed: dict[str, Any]) -> dict[str, Any]:
    """The question names all that it needs."""
    return {}


@contextmanager
def _arrow(path: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Arrow's file format, its stream format, or Feather of version 1."""
    import pyarrow as pa
    from pyarrow import feather

    with open(path, "rb") as file:
        head = file.read(6)
    if head[:4] == b"FEA1":
        rows = feather.read_table(path)
        yield rows.schema, iter(rows.to_batches())
        return
    # What is mapped and cut short meanwhile, as by a writer that begins anew in place, ends the process.
    small = os.path.getsize(path) <= _IN_MEMORY_BYTES
    with pa.OSFile(path) if small else pa.memory_map(path) as source:
        reader = pa.ipc.open_file(source) if head == b"ARROW1" else pa.ipc.open_stream(source)
        count = getattr(reader, "num_record_batches", None)
        found: Iterable[pa.RecordBatch] = reader if count is None else map(reader.get_batch, range(count))
        yield reader.schema, _sound(found)


def _sound(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a damaged file says of the lengths of its text is not followed out of its memory."""
    for batch in batches:
        batch.validate(full=True)
        yield batch
