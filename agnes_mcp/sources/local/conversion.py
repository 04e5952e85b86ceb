"""Workbooks and Arrow files as Parquet, which is what DuckDB reads; once for each state of the file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local.files import Files, Signature
from agnes_mcp.sql.duckdb_errors import unavailable

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of a workbook's sheet; the format itself allows no more.
_MAX_SHEET_ROWS = 1_048_576


class Conversions:
    """Thread-safe. `folder` is this process's own, and goes with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, tuple[Signature, str, list[str]]] = {}

    def parquet(self, table: Table, files: Files, folder: Path, call: Call) -> list[str]:
        """The Parquet files that hold the same rows, one for each of the table's. Raises AgnesError."""
        with self._lock:
            known = self._made.get(table.id)
            if known is not None and known[:2] == (files.signature, table.source_table):
                return known[2]
            made = [_convert(table, files, path, folder, call) for path in files.paths]
            self._made[table.id] = (files.signature, table.source_table, made)
            for old in set(known[2] if known is not None else ()) - set(made):
                Path(old).unlink(missing_ok=True)
            return made


def _convert(table: Table, files: Files, path: str, folder: Path, call: Call) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    state = repr((path, files.signature, table.source_table)).encode("utf-8", "surrogateescape")
    target = folder / f"{table.id}-{hashlib.sha256(state).hexdigest()[:16]}.parquet"
    try:
        batches = _sheet(table, path) if files.kind == "xlsx" else _arrow(path)
        first = next(batches)
        with pq.ParquetWriter(target, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                call.check()
                writer.write_batch(batch)
    except (pa.ArrowException, OSError, StopIteration, ValueError) as error:
        target.unlink(missing_ok=True)
        reason = "no rows and no columns" if isinstance(error, StopIteration) else "it is damaged or not what it was"
        raise unavailable(f"its file could not be converted to Parquet: {reason}", table.id) from None
    return str(target)


def _arrow(path: str) -> Iterator[pa.RecordBatch]:
    """Arrow's file format, its stream format, or Feather of version 1; an empty batch where there are no rows."""
    import pyarrow as pa
    from pyarrow import feather

    with open(path, "rb") as file:
        head = file.read(6)
    if head[:4] == b"FEA1":
        yield from _batches(feather.read_table(path))
        return
    with pa.memory_map(path) as source:
        reader = pa.ipc.open_file(source) if head == b"ARROW1" else pa.ipc.open_stream(source)
        count = getattr(reader, "num_record_batches", None)
        found: Iterable[pa.RecordBatch] = reader if count is None else map(reader.get_batch, range(count))
        yield from _storable(reader.schema, found)


def _storable(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        yield from _batches(schema.empty_table()) or [pa.RecordBatch.from_pylist([], schema=schema)]


def _batches(rows: pa.Table) -> list[pa.RecordBatch]:
    import pyarrow as pa

    return rows.to_batches() or [pa.RecordBatch.from_pylist([], schema=rows.schema)]


def _sheet(table: Table, path: str) -> Iterator[pa.RecordBatch]:
    """The first sheet, or the one that `source_table` names; its first row holds the columns' names."""
    import pyarrow as pa
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_path(path)
        name = table.source_table or next(iter(book.sheet_names), "")
        if name not in book.sheet_names:
            raise _no_sheet(table, book.sheet_names)
        rows = book.get_sheet_by_name(name).to_python(nrows=_MAX_SHEET_ROWS)
    except CalamineError:
        raise unavailable("its workbook is damaged, protected by a password, or not one", table.id) from None
    if not rows:
        return
    names = _names(rows[0])
    columns = [_column([row[index] for row in rows[1:]]) for index in range(len(names))]
    yield from _batches(pa.table(columns, names=names))


def _no_sheet(table: Table, sheets: Sequence[str]) -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f"The table {table.id!r} cannot be read: its workbook has no sheet {table.source_table[:80]!r}.",
        f"Whoever keeps this instance can set `source_table` to one of: {', '.join(sheets)[:300]}.",
    )


def _names(header: Sequence[Any]) -> list[str]:
    """Distinct names; a cell without one is called by its place."""
    names: list[str] = []
    taken: set[str] = set()
    for place, cell in enumerate(header, start=1):
        plain = str(cell).strip() or f"column_{place}"
        name, again = plain, 2
        while name.casefold() in taken:
            name, again = f"{plain}_{again}", again + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _column(cells: list[Any]) -> pa.Array:
    """One type for a column: that of all its cells, or else their text. Blank cells are nulls."""
    import pyarrow as pa

    given = [None if cell == "" else cell for cell in cells]
    kinds = {type(cell) for cell in given if cell is not None}
    if kinds and kinds <= {int, float}:
        whole = all(cell is None or (float(cell).is_integer() and abs(cell) < 2**53) for cell in given)
        numbers = [None if cell is None else int(cell) if whole else float(cell) for cell in given]
        return pa.array(numbers, pa.int64() if whole else pa.float64())
    for kind, arrow in _TYPES.items():
        if kinds == {kind}:
            return pa.array(given, arrow())
    if kinds and kinds <= {date, datetime}:
        moments = [datetime(c.year, c.month, c.day) if type(c) is date else c for c in given]
        return pa.array(moments, pa.timestamp("us"))
    return pa.array([None if cell is None else _text(cell) for cell in given], pa.string())


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _timestamp() -> pa.DataType:
    import pyarrow as pa

    return pa.timestamp("us")


def _make(name: str, *arguments: Any) -> Any:
    def make() -> pa.DataType:
        import pyarrow as pa

        return getattr(pa, name)(*arguments)

    return make


_TYPES: dict[type, Any] = {
    bool: _make("bool_"),
    str: _make("string"),
    date: _make("date32"),
    datetime: _timestamp,
    time: _make("time64", "us"),
    timedelta: _make("duration", "us"),
}
