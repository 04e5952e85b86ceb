"""Schemas and samples as answers that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.models import AnsweredColumn, SampleAnswer, SchemaAnswer
from agnes_mcp.models import Column, Table, TableSchema
from agnes_mcp.sql.dialects import DIALECT_HINTS
from agnes_mcp.untrusted import clean

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMN_DESCRIPTION_CHARS = 1_000
_SAMPLE_OVERHEAD_CHARS = 500


def schema_answer(table: Table, schema: TableSchema, budget_chars: int) -> SchemaAnswer:
    """A schema within the budget: a wide table loses descriptions first, then columns, and says so."""
    answer = SchemaAnswer(
        table_id=table.id,
        source_type=table.source_type,
        sql_flavor=table.dialect,
        entity_type=schema.entity_type,
        description=clean(table.description or schema.description, 2_000),
        columns=[],
        pseudo_columns=[_answered(column) for column in schema.pseudo_columns],
        columns_total=len(schema.columns),
        partition=schema.partition,
        clustered_by=schema.clustered_by,
        primary_key=schema.primary_key or table.primary_key,
        rows=schema.rows,
        size_bytes=schema.size_bytes,
        modified=schema.modified,
        labels=schema.labels,
        where_dialect_hints=DIALECT_HINTS[table.dialect],
    )
    columns = [_answered(column) for column in schema.columns]
    _fit_columns(answer, columns, budget_chars - len(compact(answer.model_dump(mode="json"))) - 300)
    return answer


def _fit_columns(answer: SchemaAnswer, columns: list[AnsweredColumn], left: int) -> None:
    if sum(len(compact(c.model_dump())) + 1 for c in columns) > left:
        for column in columns:  # a wide table: its descriptions go first
            column.description = ""
        answer.note = "Column descriptions are left out, because the table is wide."
    for column in columns:
        left -= len(compact(column.model_dump())) + 1
        if left < 0:
            answer.columns_cut = len(columns) - len(answer.columns)
            answer.note = f"{answer.columns_cut} columns are left out. `sample` with select shows any column by name."
            return
        answer.columns.append(column)


def sample_answer(table: Table, rows: pa.Table, budget_chars: int) -> SampleAnswer:
    """Rows within the budget: whole rows, and of a very wide table its first columns."""
    from agnes_mcp.answers.fitting import RowShaper, frame_columns

    kinds = [str(kind) for kind in rows.schema.types]
    frame = frame_columns(list(rows.schema.names), kinds, budget_chars - _SAMPLE_OVERHEAD_CHARS)
    shaper = RowShaper(len(frame.columns), frame.cell_chars)
    for batch in rows.to_batches():
        shaper.add(batch)
    return SampleAnswer(
        table_id=table.id,
        columns=frame.columns,
        types=frame.types,
        rows=shaper.rows,
        row_count=len(shaper.rows),
        truncated=shaper.full,
        cut_cells=shaper.cut_cells,
        columns_cut=frame.columns_cut,
        note=note_cut_columns(frame.columns_cut),
    )


def note_cut_columns(cut: int) -> str | None:
    """What to say of columns that an answer had no room for."""
    return f"{cut} columns are left out. Name the ones you want in select." if cut else None


def _answered(column: Column) -> AnsweredColumn:
    return AnsweredColumn(
        name=column.name,
        type=column.type,
        mode=column.mode,
        description=clean(column.description, MAX_COLUMN_DESCRIPTION_CHARS),
        fields=[_answered(field) for field in column.fields],
    )
