"""What the figures of a profile say, made to fit an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agnes_mcp.answers.fitting import chars_of, compact, fit
from agnes_mcp.answers.models import ColumnProfile, ProfileAnswer
from agnes_mcp.answers.values import column_to_json, type_name
from agnes_mcp.models import Column, Dialect, TableSchema
from agnes_mcp.sql.profile import is_ordered, profiled_columns
from agnes_mcp.untrusted import revealed

if TYPE_CHECKING:
    import pyarrow as pa

#: A column with more distinct values than this has no frequent ones worth a second pass.
MAX_DISTINCT_FOR_TOP = 10_000
MAX_VALUE_CHARS = 120


def read_figures(schema: TableSchema, dialect: Dialect, answer: pa.Table) -> ProfileAnswer:
    figures = {name: _shown(answer[name])[0] for name in answer.column_names}
    columns = [
        ColumnProfile(
            name=column.name,
            type=type_name(column, dialect),
            nulls=figures.get(f"nulls_{index}"),
            approx_distinct=figures.get(f"distinct_{index}"),
            min=shorten(figures.get(f"min_{index}")),
            max=shorten(figures.get(f"max_{index}")),
        )
        for index, column in enumerate(profiled_columns(schema))
    ]
    return ProfileAnswer(rows=figures["rows"], columns=columns, columns_cut=len(schema.columns) - len(columns))


def read_top_values(answer: pa.Table) -> list[list[list[Any]]]:
    """Per column `[value, rows]` of its most frequent values."""
    return [[pair for chunk in column.chunks for pair in _pairs(chunk)] for column in answer.columns]


def _pairs(tops: pa.Array) -> list[list[Any]]:
    from agnes_mcp.sql.cells import cut_cells

    records = tops.flatten()
    values, rows = cut_cells(records.field("value"))[0], records.field("rows")
    return [[shorten(value), count] for value, count in zip(*map(column_to_json, (values, rows)), strict=True)]


def _shown(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column, no cell longer than anything that is shown of it."""
    from agnes_mcp.sql.cells import cut_cells

    return [value for chunk in column.chunks for value in column_to_json(cut_cells(chunk)[0])]


def worth_counting(column: Column, profile: ColumnProfile) -> bool:
    return is_ordered(column) and (profile.approx_distinct or 0) <= MAX_DISTINCT_FOR_TOP


def shorten(value: Any) -> Any:
    text = value if isinstance(value, str) else compact(value)
    return value if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def fit_profile(profile: ProfileAnswer, budget_chars: int) -> None:
    """Make a profile fit: of a wide table the most frequent values go first, then columns from the end.

    What is hidden in a value is shown and counted before it is measured.
    """
    for column in profile.columns:
        shown, hidden = revealed([column.min, column.max, column.top_values])
        column.min, column.max, column.top_values = shown
        profile.hidden_characters += hidden
    if chars_of(profile) > budget_chars:
        for column in profile.columns:
            column.top_values = []
    columns, profile.columns = profile.columns, []
    left_out = profile.columns_cut
    profile.columns_cut += len(columns)  # the longest that it can become
    profile.columns = fit(columns, budget_chars - chars_of(profile))
    profile.columns_cut = left_out + len(columns) - len(profile.columns)
