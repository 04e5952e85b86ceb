"""What an agent is told about writing SQL for a table: literals of its dialect, predicates on its own columns."""

from __future__ import annotations

from agnes_mcp.models import Column, Dialect, TableSchema

#: How each dialect writes what is most often written wrongly.
DIALECT_HINTS: dict[Dialect, dict[str, str]] = {
    "bigquery": {
        "date_literal": "DATE '2026-01-01'",
        "timestamp_literal": "TIMESTAMP '2026-01-01 00:00:00 UTC'",
        "interval_subtract": "DATE_SUB(CURRENT_DATE(), INTERVAL 30 DAY)",
        "regex": "REGEXP_CONTAINS(field, r'pattern')",
        "cast": "CAST(x AS INT64)",
        "in_array": "'x' IN UNNEST(array_column)",
        "identifier": "`column name`",
    },
    "duckdb": {
        "date_literal": "DATE '2026-01-01'",
        "timestamp_literal": "TIMESTAMP '2026-01-01 00:00:00'",
        "interval_subtract": "current_date - INTERVAL 30 DAY",
        "regex": "regexp_matches(field, 'pattern')",
        "cast": "CAST(x AS BIGINT)",
        "in_array": "list_contains(array_column, 'x')",
        "identifier": '"column name"',
    },
}
_MAX_EXAMPLES = 3


def where_examples(schema: TableSchema, dialect: Dialect) -> list[str]:
    """Up to three predicates on columns that exist, the partition's first."""
    first = schema.partition.column if schema.partition else None
    columns = sorted(schema.columns, key=lambda c: (c.name != first, c.name not in schema.clustered_by))
    examples = [_example(column, dialect) for column in columns if column.mode != "REPEATED"]
    return [example for example in examples if example][:_MAX_EXAMPLES]


def _example(column: Column, dialect: Dialect) -> str:
    quotes = "`" if dialect == "bigquery" else '"'
    name = column.name if column.name.isidentifier() and column.name.isascii() else f"{quotes}{column.name}{quotes}"
    kind = column.type.upper()
    if kind == "DATE":
        return f"{name} >= DATE '2026-01-01'"
    if kind.startswith("TIMESTAMP"):
        return f"{name} >= {DIALECT_HINTS[dialect]['timestamp_literal']}"
    if kind in ("STRING", "VARCHAR"):
        return f"{name} = 'value'"
    if kind in ("BOOL", "BOOLEAN"):
        return f"{name} IS TRUE"
    if any(word in kind for word in ("INT", "FLOAT", "DOUBLE", "NUMERIC", "DECIMAL")) and "(" not in kind[:3]:
        return f"{name} > 0"
    return ""
