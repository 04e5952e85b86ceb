"""The statements that tell a table's columns in figures: nulls, distinct values, extremes, the most frequent.

One statement for the figures; in DuckDB, where it is free, one more for the most frequent values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnes_mcp.models import Column, Dialect, Relation, Statement, TableSchema
from agnes_mcp.sql.names import identifier

MAX_PROFILED_COLUMNS = 60
TOP_VALUES = 5
_UNORDERED = ("STRUCT", "JSON", "GEOGRAPHY", "MAP", "UNION", "BLOB", "BYTES", "RANGE", "INTERVAL", "VARIANT")


def profiled_columns(schema: TableSchema) -> list[Column]:
    return schema.columns[:MAX_PROFILED_COLUMNS]


def is_ordered(column: Column) -> bool:
    """True where min, max and counting distinct values mean something."""
    return column.mode != "REPEATED" and not column.fields and not column.type.upper().startswith(_UNORDERED)


def figures_statement(
    schema: TableSchema, relation: Relation, dialect: Dialect, where: str = "", columns: list[Column] | None = None
) -> Statement:
    """One row: rows, then per column nulls and, where the column has an order, distinct, min and max; of the rows that
    the predicate `where` keeps. `columns` None: those that `profiled_columns` gives."""
    from sqlglot import exp

    from agnes_mcp.sql.statement import identifier_path, select_from

    outputs: list[Any] = [exp.alias_(exp.Count(this=exp.Star()), "rows", quoted=True)]
    for index, column in enumerate(profiled_columns(schema) if columns is None else columns):
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
    select = select_from(outputs, relation.apart_from(schema))
    if where:
        from agnes_mcp.sql.predicate import validate_predicate

        select = select.where(validate_predicate(where, schema, dialect))
    sql = select.sql(dialect=dialect, comments=False)
    names = [column.name for column in profiled_columns(schema)]
    return Statement(sql=sql, dialect=dialect, columns=[o.alias for o in outputs], source_columns=names)


def top_values_statement(columns: Sequence[Column], relation: Relation) -> Statement:
    """One row for all of them, in DuckDB's dialect: per column the most frequent values, each with its rows.

    The output `top_<n>`, for the n-th of `columns`, is a list of `{value, rows}`, most frequent first. The columns are
    read once, whatever the format of the files.
    """
    names = [identifier(column.name) for column in columns]
    read = f"SELECT {', '.join(names)} FROM {identifier(relation.name)}"  # noqa: S608 - quoted names only
    tops = [
        f"(SELECT list({{'value': v, 'rows': n}} ORDER BY n DESC, v) FROM (SELECT {name} AS v, count(*) AS n "  # noqa: S608 - quoted names only
        f'FROM "read once" GROUP BY ALL ORDER BY n DESC, v LIMIT {TOP_VALUES})) AS top_{index}'
        for index, name in enumerate(names)
    ]
    sql = f'WITH "read once" AS MATERIALIZED ({read}) SELECT {", ".join(tops)}'
    return Statement(
        sql=sql,
        dialect="duckdb",
        columns=[f"top_{index}" for index in range(len(names))],
        source_columns=[column.name for column in columns],
        limit=1,
    )
