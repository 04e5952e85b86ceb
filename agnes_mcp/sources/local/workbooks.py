"""A sheet of a workbook as rows of typed columns, read in a process of its own: two kilobytes of a workbook may stand
for more cells than a machine has memory, and what reads them then ends its process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local import as_parquet
from agnes_mcp.sql.duckdb_errors import unavailable
from agnes_mcp.untrusted import tidy

if TYPE_CHECKING:
    import pyarrow as pa
    from python_calamine import CalamineSheet, CalamineWorkbook

    from agnes_mcp.calls.processes.child import Channel

#: The job's name.
SHEET = "sheet"

_BATCH_ROWS = 8192
#: Whole numbers that a cell, which is a binary double, tells apart.
_EXACT = 2**53
_MAX_NAMES_CHARS = 300


class Sheets:
    """The job: one sheet as Parquet. The process ends with its question, and with it all memory."""

    def __init__(self, memory_bytes: int, threads: int) -> None:
        pass

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        """`path` and `sheet` (empty: the first that is shown) of the table `table`."""
        path, wanted, table_id = question["path"], question["sheet"], question["table"]
        as_parquet.answer(channel, table_id, partial(read_sheet, path, wanted, table_id), too_large(table_id))
        return False

    def renew(self) -> bool:
        return False


def too_large(table_id: str) -> AgnesError:
    """`table_unavailable`, as every call about that state of the workbook would end."""
    return unavailable("its sheet has more cells than fit into the memory of a query (api.engine)", table_id)


def read_sheet(path: str, wanted: str, table_id: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The columns of a sheet and its rows; the first row that is not blank has the columns' names.

    A column has one type: that of all its cells, or else their text. Blank cells, errors such as #N/A, formulas that
    were never calculated, and all but the first cell of merged ones are nulls. Raises `table_unavailable`.
    """
    import pyarrow as pa
    from python_calamine import CalamineError, PasswordError

    try:
        sheet = _sheet(_open(path), wanted, table_id)
    except PasswordError:
        raise unavailable("its workbook is protected by a password", table_id) from None
    except (CalamineError, OSError):
        raise unavailable("its workbook is damaged, or not one", table_id) from None
    header = next(_rows(sheet), None)
    if header is None:
        raise unavailable("its sheet is empty, without as much as the names of columns", table_id)
    columns = _columns(sheet, len(header))
    schema = pa.schema([(name, column.type) for name, column in zip(_names(header), columns, strict=True)])
    return schema, _batches(sheet, columns, schema)


def _open(path: str) -> CalamineWorkbook:
    """As its name says, or else as its content does. Raises CalamineError."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        return CalamineWorkbook.from_path(path)
    except PasswordError:
        raise
    except CalamineError:
        with open(path, "rb") as file:
            return CalamineWorkbook.from_filelike(file)


def _sheet(book: CalamineWorkbook, wanted: str, table_id: str) -> CalamineSheet:
    """The one that is meant: by its name, in which case does not count; unnamed, the first that is shown."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    named = [each.name for each in book.sheets_metadata if each.typ is SheetTypeEnum.WorkSheet]
    shown = [each.name for each in book.sheets_metadata if each.visible is SheetVisibleEnum.Visible]
    if not wanted:
        found = next((name for name in named if name in shown), next(iter(named), None))
    elif wanted in named:
        found = wanted
    else:
        found = next((name for name in named if tidy(name).casefold() == tidy(wanted).casefold()), None)
    if found is None:
        raise _no_sheet(table_id, wanted, named)
    return book.get_sheet_by_name(found)


def _no_sheet(table_id: str, wanted: str, sheets: Sequence[str]) -> AgnesError:
    which = f"sheet {tidy(wanted)[:80]!r}" if wanted else "sheet of cells"
    return AgnesError(
        "table_unavailable",
        f"The table {table_id!r} cannot be read: its workbook has no {which}.",
        f"Whoever keeps this instance can set `source_table` to one of: {_listed(sheets)}."
        if sheets
        else "Whoever keeps this instance can look at the file. Other tables are not affected.",
    )


def _listed(sheets: Sequence[str]) -> str:
    listed = ", ".join(map(tidy, sheets))
    return listed if len(listed) <= _MAX_NAMES_CHARS else f"{listed[:_MAX_NAMES_CHARS]}…"


def _rows(sheet: CalamineSheet) -> Iterator[list[Any]]:
    """From the first row that is not blank."""
    return islice(iter(sheet.iter_rows()), sheet.start[0] if sheet.start else 0, None)


class _Column:
    """What the cells of a column are, found out before one of them is written."""

    def __init__(self) -> None:
        self.kinds: set[type] = set()
        self.whole = True

    @property
    def type(self) -> pa.DataType:
        import pyarrow as pa

        if self.kinds and self.kinds <= {int, float}:
            return pa.int64() if self.whole else pa.float64()
        if self.kinds == {date, datetime}:
            return pa.timestamp("us")
        types = {bool: pa.bool_(), date: pa.date32(), datetime: pa.timestamp("us"), time: pa.time64("us")}
        return types.get(next(iter(self.kinds)), pa.string()) if len(self.kinds) == 1 else pa.string()

    def array(self, cells: Sequence[Any]) -> pa.Array:
        import pyarrow as pa

        given = (None if cell == "" else cell for cell in cells)
        kind = self.type
        if pa.types.is_string(kind):
            return pa.array([None if cell is None else _text(cell) for cell in given], kind)
        if pa.types.is_int64(kind):
            return pa.array([None if cell is None else int(cell) for cell in given], kind)
        if pa.types.is_timestamp(kind):
            return pa.array([_moment(cell) for cell in given], kind)
        return pa.array(given, kind)


def _columns(sheet: CalamineSheet, width: int) -> list[_Column]:
    columns = [_Column() for _ in range(width)]
    for row in islice(_rows(sheet), 1, None):
        for column, cell in zip(columns, row, strict=True):
            if cell == "":
                continue
            column.kinds.add(type(cell))
            if type(cell) is float and column.whole:
                column.whole = cell.is_integer() and abs(cell) < _EXACT
    return columns


def _batches(sheet: CalamineSheet, columns: Sequence[_Column], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    rows = islice(_rows(sheet), 1, None)
    while some := list(islice(rows, _BATCH_ROWS)):
        arrays = [column.array([row[place] for row in some]) for place, column in enumerate(columns)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _names(header: Sequence[Any]) -> list[str]:
    """Distinct names; a cell without one is called by its place."""
    names: list[str] = []
    taken: set[str] = set()
    for place, cell in enumerate(header, start=1):
        plain = _text(cell).strip() or f"column_{place}"
        name, again = plain, 2
        while name.casefold() in taken:
            name, again = f"{plain}_{again}", again + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _moment(cell: Any) -> datetime | None:
    return datetime(cell.year, cell.month, cell.day) if type(cell) is date else cell


def _text(cell: Any) -> str:
    if isinstance(cell, timedelta):
        return _duration(cell)
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _duration(cell: timedelta) -> str:
    """Hours, minutes, seconds, as the sheet shows it and an INTERVAL takes it: DuckDB has no such type in Parquet."""
    seconds, micros = divmod(abs(cell) // timedelta(microseconds=1), 1_000_000)
    sign = "-" if cell < timedelta() else ""
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"
