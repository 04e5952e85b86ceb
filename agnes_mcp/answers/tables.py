"""A table's schema as an answer that fits."""

from __future__ import annotations

from agnes_mcp.answers.fitting import chars_of, fit
from agnes_mcp.answers.models import AnsweredColumn, SchemaAnswer
from agnes_mcp.answers.values import type_name
from agnes_mcp.models import Column, Dialect, Table, TableSchema
from agnes_mcp.sql.dialects import DIALECT_HINTS
from agnes_mcp.untrusted import clean

MAX_COLUMN_DESCRIPTION_CHARS = 1_000
_MAX_NAMED = 5
_DESCRIPTIONS_CUT = "Column descriptions are left out, because the table is wide."
_COLUMNS_CUT = "{} columns are left out. `sample` with select shows any column by name."


def schema_answer(table: Table, schema: TableSchema, budget_chars: int) -> SchemaAnswer:
    """A schema within the budget: a wide table loses descriptions first, then columns, and says so."""
    answer = SchemaAnswer(
        table_id=table.id,
        source_type=table.source_type,
        sql_flavor=table.dialect,
        entity_type=schema.entity_type,
        description=clean(table.description or schema.description, 2_000),
        columns=[],
        pseudo_columns=[answered_column(column, table.dialect) for column in schema.pseudo_columns],
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
    unread = answer.note = _left_out(schema)
    columns = [answered_column(column, table.dialect) for column in schema.columns]
    answer.columns = fit(columns, budget_chars - chars_of(answer))
    if len(answer.columns) == len(columns):
        return answer
    for column in columns:
        column.description = ""
    answer.columns = []
    answer.columns_cut, answer.note = len(columns), _both(_COLUMNS_CUT.format(len(columns)), unread)  # the longest
    answer.columns = fit(columns, budget_chars - chars_of(answer))
    answer.columns_cut = len(columns) - len(answer.columns)
    cut = _COLUMNS_CUT.format(answer.columns_cut) if answer.columns_cut else _DESCRIPTIONS_CUT
    answer.note = _both(cut, unread)
    return answer


def _left_out(schema: TableSchema) -> str | None:
    """The columns that cannot be read at all, and why."""
    named = [f"{clean(name, 80)!r}: {reason}" for name, reason in list(schema.left_out.items())[:_MAX_NAMED]]
    more = len(schema.left_out) - len(named)
    return f"Not served: {'; '.join(named)}{f'; and {more} more' if more else ''}." if named else None


def _both(cut: str, unread: str | None) -> str:
    return f"{cut} {unread}" if unread else cut


def answered_column(column: Column, dialect: Dialect) -> AnsweredColumn:
    """A column as `schema` shows it: its type by the name that rows are told with; a field inside by type and mode."""
    field = _answered(column)
    field.type = type_name(column, dialect)
    return field


def _answered(column: Column) -> AnsweredColumn:
    return AnsweredColumn(
        name=column.name,
        type=column.type,
        mode=column.mode,
        description=clean(column.description, MAX_COLUMN_DESCRIPTION_CHARS),
        fields=[_answered(inner) for inner in column.fields],
    )
