"""Rows made to fit an answer: as many whole rows as the budget holds, and what was cut is said.

Sizes are characters of compact JSON, which is what a client hands to its model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from agnes_mcp.answers.models import QuotaBeside
from agnes_mcp.answers.values import column_to_json
from agnes_mcp.models import QuotaLeft
from agnes_mcp.untrusted import revealed

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
#: By row and column, how long a cell was that has been cut; None: more than anybody counted.
CutCells = Mapping[tuple[int, int], int | None]
NOTHING_CUT: CutCells = {}
#: A cell longer than this is cut, so that one long text does not push every other row out.
MAX_CELL_CHARS = 4_000
#: SQL and types beside rows are for orientation; of very long ones the beginning does.
MAX_SQL_CHARS = 2_000
MAX_TYPE_CHARS = 200
_CUT = "… [cut: {:,} characters in all]"
#: Of a list that has been cut before it was text nobody counts the characters; there are thousands more than are shown.
_CUT_UNCOUNTED = "… [cut: more than 16,384 characters in all]"
#: Room below which the words of `_CUT` would be longer than what is left of the cell.
_ROOM_FOR_WORDS = 80
#: What a short cell takes, for judging how many columns can be shown.
_SHORT_CELL_CHARS = 30
_HEADING_SHARE = 0.6
#: How many rows, and about how many bytes, are turned into JSON at a time: a wide batch must not be converted whole to
#: use its first rows, and what is converted at once keeps the interpreter.
_SLICE_ROWS = 256
#: So many rows with a cell that needs a look of its own are not halved again to find those that need none.
_LEAST_TOGETHER = 32
_SLICE_BYTES = 2**18


#: JSON as short as it gets; the one form in which an answer is measured and sent.
compact: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def shown(item: BaseModel) -> dict[str, Any]:
    """A model as it stands in an answer: what has its default is left out."""
    return item.model_dump(mode="json", exclude_defaults=True)


def chars_of(item: Any) -> int:
    """What a model, or anything that is JSON already, takes in an answer."""
    return len(compact(shown(item) if isinstance(item, BaseModel) else item))


def quota_beside(left: QuotaLeft) -> QuotaBeside:
    """What of a standing an answer says."""
    return QuotaBeside(daily_bytes_left=left.daily_bytes_left, shared=left.shared, warning=left.warning)


def clip(text: str, max_chars: int) -> str:
    """The text, or its beginning and how long it is in all."""
    return text if len(text) <= max_chars else text[:max_chars] + _CUT.format(len(text))


class Room:
    """Characters that are left of an answer."""

    def __init__(self, chars: int) -> None:
        self.left = chars

    def take(self, chars: int) -> bool:
        """Whether an item of so many characters, and its comma, still fits; then they are taken."""
        fits = chars + 1 <= self.left
        self.left -= (chars + 1) * fits
        return fits


def fit(items: Iterable[T], chars: int, *, at_least: int = 0, measure: Callable[[T], int] = chars_of) -> list[T]:
    """The first of `items` that take at most `chars` together; so many as `at_least` whatever they take."""
    room, taken = Room(chars), list[T]()
    for item in items:
        if not room.take(measure(item)):
            if len(taken) >= at_least:
                break
            room.left = 0
        taken.append(item)
    return taken


@dataclass
class Frame:
    """The columns of which an answer shows rows, and the characters that their cells may take together."""

    columns: list[str]
    types: list[str]
    columns_cut: int
    cell_chars: int


def frame_columns(names: list[str], kinds: list[str], budget_chars: int) -> Frame:
    """As many columns, from the first, as leave room for a short cell in each; at least one."""
    headings = [(name, clip(kind, MAX_TYPE_CHARS)) for name, kind in zip(names, kinds, strict=True)]
    room = int(budget_chars * _HEADING_SHARE)
    taken = len(compact(headings)) - 2 - max(0, len(headings) - 1)  # as if each were measured by itself
    if taken + (_SHORT_CELL_CHARS + 1) * len(headings) > room:
        headings = fit(headings, room, at_least=1, measure=lambda heading: chars_of(heading) + _SHORT_CELL_CHARS)
        taken = sum(chars_of(heading) for heading in headings)
    columns, types = [name for name, _ in headings], [kind for _, kind in headings]
    return Frame(columns, types, len(names) - len(columns), budget_chars - taken)


class WrittenRows(list[list[Any]]):
    """Rows with their text, which is compact JSON: it was made when they were measured."""

    def __init__(self, rows: list[list[Any]], text: str) -> None:
        super().__init__(rows)
        self.text = text


class RowShaper:
    """Collects rows until the budget or `max_rows` is reached; then `full`, and `truncated_by` says why.

    Of wider batches it takes the first `columns`.
    """

    def __init__(self, columns: int, budget_chars: int, max_rows: int | None = None) -> None:
        self._columns = max(1, columns)
        self._room = Room(budget_chars - 1)
        self._max_rows = max_rows
        self.rows: list[list[Any]] = []
        self._texts: list[str] | None = []  # of the rows, as they were measured; None: some of them one by one
        self.cut_cells = 0
        self.hidden_characters = 0
        self.truncated_by: str | None = None
        self.as_text: dict[str, None] = {}  # the columns with cells that are no values of their type, in order

    @property
    def full(self) -> bool:
        return self.truncated_by is not None

    @property
    def written(self) -> list[list[Any]]:
        """The rows, with their text where it has been made already."""
        return self.rows if self._texts is None else WrittenRows(self.rows, f"[{','.join(self._texts)}]")

    def add(self, batch: pa.RecordBatch, cut_cells: CutCells = NOTHING_CUT) -> int:
        """Take rows off the front of `batch`; how many fitted. `cut_cells`: those that have been cut before."""
        taken, rows_at_once = 0, _rows_at_once(batch)
        while taken < batch.num_rows and not self.full:
            piece = batch.slice(taken, rows_at_once)
            columns, lengths = _as_json(piece.columns[: self._columns])
            self._put_texts(columns, batch.schema, taken)
            lengths |= {(row - taken, column): chars for (row, column), chars in cut_cells.items()}
            rows = list(zip(*columns, strict=True))
            plain = 0 if lengths else self._take_plain(rows, self._all_short(columns, piece))
            taken += plain
            for place, row in enumerate(rows[plain:], plain):
                if not self._take(row, {c: chars for (r, c), chars in lengths.items() if r == place}):
                    return taken
                taken += 1
            if not columns:
                break
        return taken

    def _put_texts(self, columns: list[list[Any]], schema: pa.Schema, start: int) -> None:
        """The texts of cells that could not be read in their places, where the rows begin at `start` of the batch."""
        from agnes_mcp.sql.cells import texts_of

        for name, texts in texts_of(schema).items() if schema.metadata else ():
            place = schema.names.index(name)
            for row, text in texts.items() if place < len(columns) else ():
                if start <= row < start + len(columns[place]):
                    columns[place][row - start] = text
                    self.as_text[name] = None

    def _all_short(self, columns: list[list[Any]], piece: pa.RecordBatch) -> bool:
        """Whether no cell can have to be cut; those of numbers and times are not looked at, while none is a text."""
        from pyarrow.types import is_primitive

        looked_at = [cells for cells, array in zip(columns, piece.columns, strict=False)
                     if self.as_text or not is_primitive(array.type)]  # fmt: skip
        return not any(map(_holds_long, looked_at))

    def _take_plain(self, rows: list[tuple[Any, ...]], all_short: bool) -> int:
        """Take the first of them that fit, measured together, where no cell needs a look of its own; how many."""
        rows = rows if self._max_rows is None else rows[: max(0, self._max_rows - len(self.rows))]
        while rows:
            text = compact(rows)
            if _hides_nothing(text) and (all_short or not _may_be_cut(rows)):
                if self._room.take(len(text) - 2):  # what their brackets and commas take one by one
                    self.rows += map(list, rows)
                    if self._texts is not None:
                        self._texts.append(text[1:-1])
                    return len(rows)
            elif len(rows) <= _LEAST_TOGETHER:
                return 0
            rows = rows[: len(rows) // 2]
        return 0

    def _take(self, row: tuple[Any, ...], lengths: Mapping[int, int | None]) -> bool:
        if self._max_rows is not None and len(self.rows) >= self._max_rows:
            self.truncated_by = "limit"
            return False
        fitted, size, cut, hidden = _fit_cells(row, lengths, MAX_CELL_CHARS)
        if size >= self._room.left and not self.rows:
            # the first row alone is too long: better every cell's beginning than nothing
            fitted, size, cut, hidden = _fit_cells(row, lengths, max(3, (self._room.left - 3) // len(row) - 1))
        if not self._room.take(size):
            self.truncated_by = "answer_size"
            return False
        self.cut_cells += cut
        self.hidden_characters += hidden
        self.rows.append(fitted)
        self._texts = None
        return True


def first_shaped(schema: pa.Schema, chars: int) -> RowShaper:
    """For as many first rows of these columns as `chars` hold; of very many columns the first."""
    columns = max(1, min(len(schema.names), chars // _SHORT_CELL_CHARS))
    return RowShaper(columns, chars)


def _rows_at_once(batch: pa.RecordBatch) -> int:
    row_bytes = batch.nbytes // max(1, batch.num_rows)
    return int(max(1, min(_SLICE_ROWS, _SLICE_BYTES // max(1, row_bytes))))


def _as_json(columns: list[pa.Array]) -> tuple[list[list[Any]], dict[tuple[int, int], int | None]]:
    """The columns as JSON, no cell much longer than an answer shows; and how long those were that have been cut."""
    from agnes_mcp.sql.cells import cut_cells

    values: list[list[Any]] = []
    lengths: dict[tuple[int, int], int | None] = {}
    for index, column in enumerate(columns):
        cut, of_column = cut_cells(column)
        values.append(column_to_json(cut))
        lengths.update({(row, index): chars for row, chars in of_column.items()})
    return values, lengths


def _hides_nothing(text: str) -> bool:
    """Whether nothing can be hidden in a text of JSON."""
    return text.isascii() and "\\" not in text and "\x7f" not in text


def _may_be_cut(rows: list[tuple[Any, ...]]) -> bool:
    """Whether a cell of plain text may be longer than is shown; nested ones count as such."""
    return any(_holds_long(column) for column in zip(*rows, strict=True))


def _holds_long(cells: Sequence[Any]) -> bool:
    kinds = set(map(type, cells))
    if str in kinds and max(map(len, cells if len(kinds) == 1 else _texts(cells))) > MAX_CELL_CHARS - 2:
        return True
    return not kinds.isdisjoint((list, dict))


def _texts(cells: Sequence[Any]) -> list[str]:
    return [cell for cell in cells if type(cell) is str]


def _fit_cells(row: tuple[Any, ...], lengths: Mapping[int, int | None], room: int) -> tuple[list[Any], int, int, int]:
    """The row with no cell longer than `room` characters of JSON and nothing hidden; its own length, how many cells
    were cut, and how many characters are shown as numbers."""
    fitted: list[Any] = []
    size, cut, hidden = 1, 0, 0  # brackets, less the comma that the last cell has none of
    for index, value in enumerate(row):
        text = compact(value)
        if not _hides_nothing(text):
            value, found = revealed(value)
            hidden += found
            text = compact(value) if found else text
        if len(text) > room or index in lengths:  # a run that is shown once may make what was cut short
            whole = value if isinstance(value, str) else text
            value = _cut_cell(whole, room, lengths.get(index, len(whole)))
            text = compact(value)
            cut += 1
        fitted.append(value)
        size += len(text) + 1
    return fitted, size, cut, hidden


def _cut_cell(whole: str, room: int, chars: int | None) -> str:
    said = "…"
    if room >= _ROOM_FOR_WORDS:
        said = _CUT_UNCOUNTED if chars is None else _CUT.format(chars)
    keep = max(0, room - len(said) - 2)
    whole = whole[: keep + 1]
    while keep and len(compact(whole[:keep] + said)) > room:  # escapes take more room than what they stand for
        keep = keep * room // (len(compact(whole[:keep] + said)) + 1)
    return whole[:keep] + said
