"""Rows made to fit an answer: as many whole rows as the budget holds, and what was cut is said.

Sizes are characters of compact JSON, which is what a client hands to its model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agnes_mcp.values import column_to_json

if TYPE_CHECKING:
    import pyarrow as pa

#: A cell longer than this is cut, so that one long text does not push every other row out.
MAX_CELL_CHARS = 4_000
_CUT = "… [cut: {} characters in all]"
_MIN_CELL_CHARS = 48
#: How many rows are turned into JSON at a time; a wide batch must not be converted whole to use its first rows.
_SLICE_ROWS = 256


def compact(value: Any) -> str:
    """JSON as short as it gets; the one form in which an answer is measured and sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class RowShaper:
    """Collects rows until the budget or `max_rows` is reached; then `full`, and `truncated_by` says why."""

    def __init__(self, columns: int, budget_chars: int, max_rows: int | None = None) -> None:
        self._columns = max(1, columns)
        self._left = budget_chars
        self._max_rows = max_rows
        self.rows: list[list[Any]] = []
        self.cut_cells = 0
        self.truncated_by: str | None = None

    @property
    def full(self) -> bool:
        return self.truncated_by is not None

    def add(self, batch: pa.RecordBatch) -> int:
        """Take rows off the front of `batch`; how many fitted."""
        taken = 0
        while taken < batch.num_rows and not self.full:
            piece = batch.slice(taken, _SLICE_ROWS)
            columns = [column_to_json(column) for column in piece.columns]
            for row in zip(*columns, strict=True) if columns else ():
                if not self._take(list(row)):
                    return taken
                taken += 1
            if not columns:
                break
        return taken

    def _take(self, row: list[Any]) -> bool:
        if self._max_rows is not None and len(self.rows) >= self._max_rows:
            self.truncated_by = "limit"
            return False
        size = self._fit_cells(row, MAX_CELL_CHARS)
        if size > self._left and not self.rows:
            # the first row alone is too long: better every cell's beginning than nothing
            size = self._fit_cells(row, max(_MIN_CELL_CHARS, self._left // self._columns - len(_CUT) - 16))
        if size > self._left:
            self.truncated_by = "answer_size"
            return False
        self._left -= size
        self.rows.append(row)
        return True

    def _fit_cells(self, row: list[Any], cell_chars: int) -> int:
        size = 3
        for index, value in enumerate(row):
            text = compact(value)
            if len(text) > cell_chars:
                row[index] = value[:cell_chars] if isinstance(value, str) else text[:cell_chars]
                row[index] += _CUT.format(f"{len(value) if isinstance(value, str) else len(text):,}")
                text = compact(row[index])
                self.cut_cells += 1
            size += len(text) + 1
        return size
