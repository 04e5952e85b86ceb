"""Workbooks and Arrow files as Parquet, which is what DuckDB reads; once for each state of the file."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes, Question
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local import arrow_files, workbooks
from agnes_mcp.sources.local.arrow_files import ARROW, too_much
from agnes_mcp.sources.local.as_parquet import OVERWORKED, damaged
from agnes_mcp.sources.local.files import Files, Signature, of_file
from agnes_mcp.sources.local.refusals import Attempt, Refusals
from agnes_mcp.sources.local.workbooks import SHEET
from agnes_mcp.sql.duckdb_errors import unavailable

#: What a process has to be handed to read them.
JOBS = {
    SHEET: "agnes_mcp.sources.local.workbooks:Sheets",
    ARROW: "agnes_mcp.sources.local.arrow_files:ArrowFiles",
}
#: A conversion for a call without a deadline ends after an hour.
_LONGEST_S = 3600.0
#: How a process ends that could not have the memory it asked for: the library that reads workbooks aborts.
_ABORTED = -6
#: An Arrow file that takes more than this part of a process' memory is mapped.
_PART_IN_MEMORY = 8
#: The Parquet of a file may take so many times its size, or this; and half of what is free on the disk.
_MOST_TIMES, _LEAST_BYTES = 16, 2**30
#: Processor time that an Arrow file may take, and a second more for each megabyte: to read, check and encode one of an
#: honest file takes some 0.03 s, and of one that is compressed fiftyfold a second.
_LEAST_WORK_S = 20
_PIECE_BYTES = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_WORKBOOK = "its workbook is damaged, or not one"


class Conversions:
    """Thread-safe. Files are read in a process that may use `memory_bytes`, one at a time; one more reads those that
    are large beside that."""

    def __init__(self, memory_bytes: int) -> None:
        self._processes = Processes(JOBS, size=1, memory_bytes=memory_bytes, threads=1)
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        # One a table at most, of the files of that signature, and of that sheet, alone: what each became, by path.
        self._made: dict[str, tuple[Signature, str, dict[str, str]]] = {}
        self._refusals = Refusals()

    def parquet(self, table: Table, files: Files, folder: Path, call: Call) -> list[str]:
        """The Parquet files that hold the same rows, one for each of the table's; in `folder`, which is this process's
        own, and goes with it. What a call has no time for, the next goes on with. Raises AgnesError."""
        state = (files.signature, table.source_table)
        with self._alone(table.id, call):
            known = self._made.get(table.id)
            if known is None or known[:2] != state:
                for old in known[2].values() if known is not None else ():
                    Path(old).unlink(missing_ok=True)
                known = self._made[table.id] = (*state, {})
            made = known[2]
            for path in files.paths:
                if path not in made:
                    made[path] = self._convert(table, files, path, folder, call)
            return [made[path] for path in files.paths]

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
        state = (path, files.signature, table.source_table)
        digest = hashlib.sha256(repr(state).encode("utf-8", "surrogateescape")).hexdigest()
        target = folder / f"{table.id}-{digest[:16]}.parquet"
        with self._refusals.attempt(table.id, state, call, for_good=True) as attempt:
            attempt.end()  # until a process is there
            try:
                self._write(table, files, path, target, call, attempt)
                found = os.stat(path)
                if (path, found.st_mtime_ns, found.st_size, found.st_ino) not in files.signature:
                    raise damaged(table.id)  # written anew meanwhile: a stream that is cut short ends like a whole one
            except AgnesError as error:
                target.unlink(missing_ok=True)
                raise of_file(error, path, files.paths) from None
            except OSError as error:
                target.unlink(missing_ok=True)
                told = _no_room(table.id) if error.errno in _FULL else damaged(table.id)
                raise of_file(told, path, files.paths) from None
        return str(target)

    def _write(self, table: Table, files: Files, path: str, target: Path, call: Call, attempt: Attempt) -> None:
        """The file as Parquet. Raises AgnesError; OSError, of the target."""
        size = os.path.getsize(path)
        limit_s = _LONGEST_S if call.remaining_s is None else call.remaining_s
        with self._process(files, size, call) as (processes, mapped):
            question = _question(table, files, path, mapped, _LEAST_WORK_S + size // 2**20)
            question = replace(question, begun=attempt.begin)
            with processes.ask(question, _grant_nothing, call, limit_s) as answer, open(target, "wb") as file:
                most, room = max(_LEAST_BYTES, _MOST_TIMES * size), shutil.disk_usage(target.parent).free // 2
                written = 0
                while piece := answer.read(_PIECE_BYTES):
                    call.check()
                    written = file.write(piece) + written
                    if written > most:
                        raise too_much(table.id)
                    if written > room:
                        raise _no_room(table.id)

    @contextmanager
    def _process(self, files: Files, size: int, call: Call) -> Iterator[tuple[Processes, bool]]:
        """Where to read a file of that size, and whether it is mapped there: a large one may be a single batch."""
        memory_bytes = self._processes.memory_bytes
        if files.kind == "xlsx" or size <= memory_bytes // _PART_IN_MEMORY:
            yield self._processes, False
            return
        with self._alone("", call):  # an id is never empty
            processes = Processes(JOBS, size=1, memory_bytes=memory_bytes + size, threads=1)
            try:
                yield processes, True
            finally:
                processes.close()


def _question(table: Table, files: Files, path: str, mapped: bool, work_s: int) -> Question:
    told: dict[str, Any] = {"path": path, "table": table.id}
    if files.kind == "xlsx":
        large, other = partial(workbooks.too_large, table.id), unavailable(_NO_WORKBOOK, table.id)
        return Question(SHEET, {**told, "sheet": table.source_table}, large, partial(_died, large, other, table.id))
    large = partial(arrow_files.too_large, table.id)
    return Question(
        ARROW, {**told, "mapped": mapped, "work_s": work_s}, large, partial(_died, large, damaged(table.id), table.id)
    )


def _died(large: Callable[[], AgnesError], other: AgnesError, table_id: str, code: int) -> AgnesError:
    if code == OVERWORKED:
        return too_much(table_id)
    return large() if code == _ABORTED else other


def _grant_nothing(needed: dict[str, Any]) -> dict[str, Any]:
    """The question names all that it needs."""
    return {}


def _no_room(table_id: str) -> AgnesError:
    return AgnesError(
        "disk_full",
        f"The disk is full: the table {table_id!r} is read from a copy as Parquet, for which there is no room.",
        "Whoever keeps this instance can free space where temporary files are. Other tables are not affected.",
    )
