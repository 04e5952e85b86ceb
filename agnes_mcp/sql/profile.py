"""The statements that tell a table's columns in figures: nulls, distinct values, extremes, the most frequent.

One statement for the figures; in DuckDB, where it is free, one more per column for the most frequent values.
"""

from __future__ import annotations

from typing import Any

from agnes_mcp.models import Column, Dialect, Relation, Statement, TableSchema

MAX_PROFILED_COLUMNS = 60
TOP_VALUES = 5
_UNORDERED = ("STRUCT", "JSON", "GEOGRAPHY", "MAP", "UNION", "BLOB", "BYTES", "RANGE", "INTERVAL", "VARIANT")


def profiled_columns(schema: TableSchema) -> list[Column]:
    return schema.columns[:MAX_PROFILED_COLUMNS]


def is_ordered(column: Column) -> bool:
    """True where min, max and counting distinct values mean something."""
    return column.mode != "REPEATED" and not column.fields and not column.type.upper().startswith(_UNORDERED)


def figures_statement(schema: TableSchema, relation: Relation, dialect: Dialect) -> Statement:
    """One row: rows, then per column nulls and, where the column has an order, distinct, min and max."""
    from sqlglot import exp

    from agnes_mcp.sql.statement import identifier_path, select_from

    outputs: list[Any] = [exp.alias_(exp.Count(this=exp.Star()), "rows", quoted=True)]
    for index, column in enumerate(profiled_columns(schema)):
        value = identifier_path([column.name])
        figures: dict[str, Any] = {
            "nulls": exp.Count(this=exp.If(this=value.is_(exp.null()), true=exp.Literal.number(1)))
        }
        if is_ordered(column):
            figures |= {
                "distinct": exp.ApproxDistinct(this=value.copy()),
                "min": exp.Min(this=value.copy()),
                "max": exp.Max(this=value.copy()),
            }
        outputs += [exp.alias_(e, f"{name}_{index}", quoted=True) for name, e in figures.items()]
    sql = select_from(outputs, relation.apart_from(schema)).sql(dialect=dialect, comments=False)
    names = [column.name for column in profiled_columns(schema)]
    return Statement(sql=sql, dialect=dialect, columns=[o.alias for o in outputs], source_columns=names)


def top_values_statement(column: Column, relation: Relation, dialect: Dialect) -> Statement:
    """The most frequent values of one column, each with its rows."""
    from sqlglot import exp

    from agnes_mcp.sql.statement import identifier_path, select_from

    value = identifier_path([column.name])
    outputs = [exp.alias_(value, "value", quoted=True), exp.alias_(exp.Count(this=exp.Star()), "rows", quoted=True)]
    counted = exp.Ordered(this=identifier_path(["rows"]), desc=True)
    selected = select_from(outputs, relation).group_by(value.copy()).order_by(counted).limit(TOP_VALUES)
    sql = selected.sql(dialect=dialect, comments=False)
    return Statement(
        sql=sql, dialect=dialect, columns=["value", "rows"], source_columns=[column.name], limit=TOP_VALUES
    )
