"""How values become JSON: each row of these tables was read through the server just now."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio

from agnes_mcp.access.grants import os_user
from agnes_mcp.answers.values import column_to_json
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Column

from .markdown import code, literal, table

DUCKDB = (
    "true", "42", "9007199254740993", "170141183460469231731687303715884105727::HUGEINT", "0.5::DOUBLE",
    "'NaN'::DOUBLE", "'-Infinity'::DOUBLE", "12.50::DECIMAL(9,2)", "12::DECIMAL(9,0)", "'text'", "'abc'::BLOB",
    "DATE '2026-01-31'", "DATE 'infinity'", "TIME '12:30:00.5'", "TIMESTAMP '2026-01-31 12:30:00'",
    "TIMESTAMPTZ '2026-01-31 12:30:00.25+01:00'", "TIMESTAMP_NS '2026-01-31 12:30:00.123456789'",
    "INTERVAL '1 month 2 days 3 seconds'", "'7c5e9a3e-0a4e-4f43-8d3c-0d4e6c1f2a3b'::UUID", "'{\"a\": 1}'::JSON",
    "['a', 'b']", "{'a': 1, 'b': [2]}", "MAP {'k': 1}", "MAP {1: 'v'}", "NULL",
)  # fmt: skip
#: Type, mode, and the cell as BigQuery's REST API sends it.
BIGQUERY: tuple[tuple[str, str, Any], ...] = (
    ("INT64", "NULLABLE", "42"), ("INT64", "NULLABLE", "9007199254740993"), ("FLOAT64", "NULLABLE", "0.5"),
    ("FLOAT64", "NULLABLE", "NaN"), ("FLOAT64", "NULLABLE", "-Infinity"), ("NUMERIC", "NULLABLE", "12.5"),
    ("BIGNUMERIC", "NULLABLE", "12.5"), ("BOOL", "NULLABLE", "true"), ("STRING", "NULLABLE", "text"),
    ("BYTES", "NULLABLE", "YWJj"), ("DATE", "NULLABLE", "2026-01-31"), ("TIME", "NULLABLE", "12:30:00.5"),
    ("DATETIME", "NULLABLE", "2026-01-31T12:30:00"), ("TIMESTAMP", "NULLABLE", "1769862600250000"),
    ("INTERVAL", "NULLABLE", "0-1 2 0:0:3"), ("JSON", "NULLABLE", '{"a":1}'),
    ("GEOGRAPHY", "NULLABLE", "POINT(16.6 49.2)"), ("RANGE<DATE>", "NULLABLE", "[2026-01-01, UNBOUNDED)"),
    ("STRING", "REPEATED", [{"v": "a"}, {"v": "b"}]), ("STRING", "NULLABLE", None),
)  # fmt: skip


def duckdb_values() -> str:
    names, values = anyio.run(_query, f"SELECT {', '.join(DUCKDB)}")
    rows = [(code(sql), code(name), literal(value)) for sql, name, value in zip(DUCKDB, names, values, strict=True)]
    return table(("value", "type", "JSON"), rows)


async def _query(sql: str) -> tuple[list[str], list[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        async with Gateway(Settings(data_dir=Path(folder))) as gateway:
            answer = await gateway.queries.query(os_user(), sql)
            return answer.types, answer.rows[0]


def bigquery_values() -> str:
    from agnes_mcp.sources.bigquery.fields import table_of_rows

    rows = []
    for kind, mode, cell in BIGQUERY:
        column = Column.model_validate({"name": "x", "type": kind, "mode": mode})
        read = table_of_rows([column], [{"f": [{"v": cell}]}])
        shown = f"ARRAY<{kind}>" if mode == "REPEATED" else kind
        rows.append((code(shown), literal(column_to_json(read.column(0))[0])))
    return table(("type", "JSON"), rows)
