"""CAST and SAFE_CAST."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.literals import temporal_literal
from agnes_mcp.stand_in.googlesql.macros import RAISING, safe_text
from agnes_mcp.stand_in.googlesql.values import Value, coerced, made, null_of, packed, unsupported
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query

#: From one kind to another, as DuckDB text over {0}; what is not here is no cast of GoogleSQL's.
_CASTS: dict[tuple[str, str], str] = {
    ("INT64", "STRING"): "CAST({0} AS VARCHAR)",
    ("INT64", "FLOAT64"): "CAST({0} AS DOUBLE)",
    ("INT64", "NUMERIC"): "CAST({0} AS DECIMAL(38, 9))",
    ("INT64", "BIGNUMERIC"): "bq_big_text({0})",
    ("INT64", "BOOL"): "({0} <> 0)",
    ("FLOAT64", "INT64"): "bq_whole({0})",
    ("FLOAT64", "STRING"): "bq_float_text({0})",
    ("FLOAT64", "NUMERIC"): "bq_narrow({0})",
    ("FLOAT64", "BIGNUMERIC"): "bq_big_text({0})",
    ("NUMERIC", "INT64"): "CAST({0} AS BIGINT)",
    ("NUMERIC", "FLOAT64"): "CAST({0} AS DOUBLE)",
    ("NUMERIC", "STRING"): "bq_numeric_text({0})",
    ("NUMERIC", "BIGNUMERIC"): "bq_big_text({0})",
    ("BIGNUMERIC", "INT64"): "CAST(bq_big({0}) AS BIGINT)",
    ("BIGNUMERIC", "FLOAT64"): "CAST({0} AS DOUBLE)",
    ("BIGNUMERIC", "NUMERIC"): "CAST(bq_big({0}) AS DECIMAL(38, 9))",
    ("BIGNUMERIC", "STRING"): "bq_trimmed({0})",
    ("BOOL", "INT64"): "CAST({0} AS BIGINT)",
    ("BOOL", "STRING"): "CAST({0} AS VARCHAR)",
    ("STRING", "INT64"): "bq_int({0})",
    ("STRING", "FLOAT64"): "bq_double({0})",
    ("STRING", "NUMERIC"): "bq_exact({0})",
    ("STRING", "BIGNUMERIC"): "bq_big_text({0})",
    ("STRING", "BOOL"): "bq_bool({0})",
    ("STRING", "BYTES"): "encode({0})",
    ("STRING", "DATE"): "bq_date({0})",
    ("STRING", "TIME"): "bq_time({0})",
    ("STRING", "DATETIME"): "bq_datetime({0})",
    ("STRING", "TIMESTAMP"): "bq_timestamp({0}, 'UTC')",
    ("BYTES", "STRING"): "bq_text({0})",
    ("DATE", "STRING"): "CAST({0} AS VARCHAR)",
    ("DATE", "DATETIME"): "CAST({0} AS TIMESTAMP)",
    ("DATE", "TIMESTAMP"): "CAST({0} AS TIMESTAMPTZ)",
    ("DATETIME", "STRING"): "bq_datetime_text({0})",
    ("DATETIME", "DATE"): "CAST({0} AS DATE)",
    ("DATETIME", "TIME"): "CAST({0} AS TIME)",
    ("DATETIME", "TIMESTAMP"): "CAST({0} AS TIMESTAMPTZ)",
    ("TIMESTAMP", "STRING"): "bq_timestamp_text({0}, 'UTC')",
    ("TIMESTAMP", "DATE"): "CAST(CAST({0} AS TIMESTAMP) AS DATE)",
    ("TIMESTAMP", "DATETIME"): "CAST({0} AS TIMESTAMP)",
    ("TIMESTAMP", "TIME"): "CAST(CAST({0} AS TIMESTAMP) AS TIME)",
    ("TIME", "STRING"): "bq_time_text({0})",
}


def cast(value: Value, kind: t.Type, safe: bool, form: Value | None, written: exp.DataType) -> Value:
    """`value` as `kind`; `form` is what FORMAT says, `written` the type with its parameters."""
    if form is not None:
        raise unsupported("CAST with FORMAT")
    if safe and value.literal == "string" and kind.kind in t.TEMPORAL:
        return _tried(value, kind)
    found = _cast(value, kind, safe)
    return _narrowed(found, kind, written) if written.expressions and not kind.fields else found


def _tried(value: Value, kind: t.Type) -> Value:
    try:
        return temporal_literal(value.text, kind.kind, Value)
    except ApiError:
        return null_of(kind)


def _cast(value: Value, kind: t.Type, safe: bool) -> Value:
    given = value.type
    if given.kind == "NULL":
        return null_of(kind)
    if given.kind == kind.kind and given.kind not in ("ARRAY", "STRUCT"):
        return value if not value.literal else made(value.sql, kind, value)
    if value.literal == "string" and kind.kind in t.TEMPORAL:
        return temporal_literal(value.text, kind.kind, Value)
    if value.literal in ("int", "float") and kind.kind in ("NUMERIC", "BIGNUMERIC"):
        return made(coerced(value, kind).sql, kind, value)
    if given.kind == kind.kind == "ARRAY":
        if given.of.kind == "NULL":
            return coerced(value, kind)
        inner = _cast(Value("e", given.of), kind.of, safe).sql
        return made(f"list_transform({value.sql}, lambda e: {inner})", kind, value)
    if given.kind == kind.kind == "STRUCT" and len(given.fields) == len(kind.fields):
        return _struct(value, kind, lambda part, wanted: _cast(part, wanted, safe))
    template = _CASTS.get((given.kind, kind.kind))
    if template is None:
        raise invalid_query(f"Invalid cast from {given} to {kind}")
    if safe:
        template = f"TRY({safe_text(template, RAISING)})"
    return made(template.format(value.sql), kind, value)


def _struct(value: Value, kind: t.Type, inner: Callable[[Value, t.Type], Value]) -> Value:
    names = value.type.duckdb_names()
    parts = [
        inner(Value(f"({value.sql}).{quoted(name)}", given), wanted).sql
        for name, (_, given), (_, wanted) in zip(names, value.type.fields, kind.fields, strict=True)
    ]
    return made(f"CASE WHEN {value.sql} IS NULL THEN NULL ELSE {packed(kind, parts)} END", kind, value)


def _narrowed(value: Value, kind: t.Type, written: exp.DataType) -> Value:
    """`NUMERIC(10, 2)` rounds to its scale and refuses more digits than its precision."""
    if kind.kind == "ARRAY":
        return value
    numbers = [int(parameter.name) for parameter in written.expressions]
    if kind.kind == "STRING":
        told = f"error('maximum length of the STRING is {numbers[0]}')"
        return made(f"CASE WHEN length({value.sql}) > {numbers[0]} THEN {told} ELSE {value.sql} END", kind, value)
    if kind.kind != "NUMERIC":
        raise unsupported(f"CAST to {kind} with parameters")
    scale = numbers[1] if len(numbers) > 1 else 0
    return made(f"CAST(CAST({value.sql} AS DECIMAL({numbers[0]}, {scale})) AS DECIMAL(38, 9))", kind, value)
