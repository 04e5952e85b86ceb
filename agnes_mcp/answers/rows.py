"""The one way to an answer with rows: what it says anyway is measured, and as many rows as fit stand beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agnes_mcp.answers.fitting import NOTHING_CUT, CutCells, RowShaper, chars_of, frame_columns
from agnes_mcp.answers.models import RowsAnswer, SampleAnswer
from agnes_mcp.answers.values import arrow_type_name, type_name
from agnes_mcp.models import Priced
from agnes_mcp.sources import Reading
from agnes_mcp.sql.columns import resolve

if TYPE_CHECKING:
    import pyarrow as pa

A = TypeVar("A", bound=RowsAnswer)
#: The most rows of an answer where the caller gave no limit.
DEFAULT_ROWS = 1_000
#: What an answer with rows says before it has any.
NO_ROWS: dict[str, Any] = {"columns": [], "types": [], "rows": [], "row_count": 0, "truncated": False}
#: What is only known once the rows are there: the job's id, the snapshot that keeps them, a note of three sentences,
#: what was billed and cut, that a budget is nearly gone. Never longer than this; a test fills them all.
LATE_FACTS_CHARS = 1_000
_NAMED = 2


class RowsFitting(Generic[A]):
    """Rows on their way into `answer`, which has none yet and says what is known before they are read.

    `truncated_by` is "limit" after `max_rows`, "answer_size" where rows or columns did not fit `chars`, else None.
    """

    def __init__(self, answer: A, names: list[str], kinds: list[str], chars: int, max_rows: int | None = None) -> None:
        self._answer = answer
        self._frame = frame_columns(names, kinds, chars - chars_of(answer) - LATE_FACTS_CHARS)
        self._shaper = RowShaper(len(self._frame.columns), self._frame.cell_chars, max_rows)

    @property
    def columns_cut(self) -> int:
        return self._frame.columns_cut

    @property
    def full(self) -> bool:
        """Whether another row would not be taken."""
        return self._shaper.full

    @property
    def lacking(self) -> bool:
        """Whether something did not fit, be it rows or columns."""
        return self.rows_cut_by == "answer_size" or self.columns_cut > 0

    @property
    def rows_cut_by(self) -> str | None:
        """What keeps further rows out."""
        return self._shaper.truncated_by

    @property
    def truncated_by(self) -> str | None:
        return self.rows_cut_by or ("answer_size" if self.columns_cut else None)

    def add(self, batch: pa.RecordBatch, cut_cells: CutCells = NOTHING_CUT) -> None:
        """Take the rows that fit. `cut_cells`: those of the batch that were cut where they were made."""
        self._shaper.add(batch, cut_cells)

    def finish(self, **facts: Any) -> A:
        """The answer with its rows, and what has become known meanwhile."""
        shown = {
            "columns": self._frame.columns,
            "types": self._frame.types,
            "rows": self._shaper.written,
            "row_count": len(self._shaper.rows),
            "truncated": self.truncated_by is not None,
            "cut_cells": self._shaper.cut_cells,
            "hidden_characters": self._shaper.hidden_characters,
            "columns_cut": self.columns_cut,
        }
        said = [facts.get("note"), _note_texts(list(self._shaper.as_text))]
        if any(said):
            facts["note"] = " ".join(note for note in said if note)
        return self._answer.model_copy(update={**shown, **facts})


def _note_texts(columns: list[str]) -> str | None:
    """What to say of columns with cells that are shown as text."""
    if not columns:
        return None
    named = ", ".join(repr(name[:40]) for name in columns[:_NAMED])
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return f"Some cells of {named}{more} are no values of the column's type; they are shown as the text that arrived."


def sample_answer(table_id: str, rows: pa.Table, types: list[str], chars: int) -> SampleAnswer:
    """Free rows of a table, as they fit; `types` are those of their columns."""
    names, kinds = columns_of(rows.schema, types)
    fitting = RowsFitting(SampleAnswer(**NO_ROWS, table_id=table_id), names, kinds, chars)
    for batch in rows.to_batches():
        fitting.add(batch)
    return fitting.finish(truncated=fitting.full, note=note_cut_columns(fitting.columns_cut))


def columns_of(schema: pa.Schema, types: list[str]) -> tuple[list[str], list[str]]:
    """The names of Arrow's columns, and their types."""
    return list(schema.names), types


def types_of(priced: Priced, reading: Reading) -> list[str]:
    """The types of a statement's columns, each under the name that its table's schema has for it."""
    dialect, known = priced.statement.dialect, reading.columns
    if known is not None:
        return [type_name(column, dialect) for column in known]
    request = priced.request
    if request.group_by is not None or request.aggregates is not None:
        plain = request.group_by or []
    else:
        starred = request.of_every_column and (request.select is None or priced.schema.column("*") is None)
        plain = [c.name for c in priced.schema.columns] if starred else request.select or []
    named = [type_name(priced.schema.column(name) or resolve(name, priced.schema)[1], dialect) for name in plain]
    return named + [arrow_type_name(kind, dialect) for kind in reading.schema.types[len(named) :]]


def note_cut_columns(cut: int) -> str | None:
    """What to say of columns that an answer had no room for."""
    return f"{cut} columns are left out. Name the ones you want in select." if cut else None
