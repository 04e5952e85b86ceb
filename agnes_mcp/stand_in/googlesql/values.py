"""One compiled expression: its DuckDB text, its type, and what it reads; and how it turns into another type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.googlesql.literals import temporal_literal
from agnes_mcp.stand_in.googlesql.types import (
    BIGNUMERIC,
    FLOAT64,
    INT64,
    NULL,
    NUMERIC,
    STRING,
    Type,
    coercion_cost,
    supertype,
)
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query

#: A leaf or a whole column of one place in FROM: (number of the place, dotted path in lower case).
Read = tuple[int, str]


@dataclass(frozen=True)
class Value:
    """`reads` are the columns it needs; `path` is set where it is nothing but a column, or a field of one.

    `literal` is "int", "float" or "string" with its `text`, for literals and parameters. `origins` are the columns of
    stored tables that it passes on unchanged, which lets a condition on it prune their partitions.
    """

    sql: str
    type: Type
    reads: frozenset[Read] = frozenset()
    path: Read | None = None
    origins: tuple[Read, ...] = ()
    literal: str = ""
    text: str = ""
    aggregated: bool = False
    windowed: bool = False
    volatile: bool = False

    @property
    def constant(self) -> bool:
        return not (self.reads or self.aggregated or self.windowed)

    @property
    def kind(self) -> str:
        return self.type.kind


def made(sql: str, kind: Type, *parts: Value) -> Value:
    """A value computed from `parts`."""
    return Value(
        sql,
        kind,
        frozenset().union(*(part.reads for part in parts)),
        aggregated=any(part.aggregated for part in parts),
        windowed=any(part.windowed for part in parts),
        volatile=any(part.volatile for part in parts),
    )


def null_of(kind: Type = NULL) -> Value:
    return Value(f"CAST(NULL AS {kind.duckdb()})", kind)


def text(value: str) -> str:
    """As a DuckDB string literal."""
    return "'" + value.replace("'", "''") + "'"


def string(value: str) -> Value:
    return Value(text(value), STRING, literal="string", text=value)


def integer(value: int) -> Value:
    if not -(2**63) <= value < 2**63:
        raise invalid_query(f"Invalid integer literal: {value}")
    return Value(f"CAST({value} AS BIGINT)", INT64, literal="int", text=str(value))


def floating(written: str) -> Value:
    return Value(f"CAST('{written}' AS DOUBLE)", FLOAT64, literal="float", text=written)


def unsupported(what: str) -> ApiError:
    """What BigQuery does and the stand-in does not: said, never guessed."""
    return invalid_query(f"The stand-in does not answer {what}")


def coerced(value: Value, wanted: Type) -> Value:
    """`value` as `wanted`, for a pair that `coercion_cost` allows."""
    given = value.type
    if given == wanted or (given.kind == wanted.kind and not (given.fields or given.element)):
        return value
    if given.kind == "NULL":
        return replace(null_of(wanted), reads=value.reads)
    if value.literal == "string":
        return replace(temporal_literal(value.text, wanted.kind, Value), reads=value.reads)
    if given.kind == "STRUCT":
        return _struct_coerced(value, wanted)
    if given.kind == "ARRAY":
        inner = coerced(Value("e", given.of), wanted.of).sql
        if given.of.kind == "NULL":
            return replace(value, sql=f"CAST({value.sql} AS {wanted.duckdb()})", type=wanted)
        return made(f"list_transform({value.sql}, lambda e: {inner})", wanted, value)
    if value.literal in ("int", "float") and wanted in (NUMERIC, BIGNUMERIC):
        return _exact(value, wanted)
    return made(_number(value.sql, given, wanted), wanted, value)


def _exact(value: Value, wanted: Type) -> Value:
    """A literal as NUMERIC keeps all of its digits that NUMERIC has."""
    if wanted == BIGNUMERIC:
        return made(f"bq_big_text(CAST('{value.text}' AS DECIMAL(38, 18)))", BIGNUMERIC, value)
    return made(f"CAST('{value.text}' AS DECIMAL(38, 9))", NUMERIC, value)


def _number(sql: str, given: Type, wanted: Type) -> str:
    if wanted == BIGNUMERIC:
        return f"bq_big_text(CAST({sql} AS DECIMAL(38, 18)))"
    if given == BIGNUMERIC:
        return f"CAST({sql} AS DOUBLE)"
    if wanted.kind == "DATETIME":
        return f"CAST({sql} AS TIMESTAMP)"
    return f"CAST({sql} AS {wanted.duckdb()})"


def _struct_coerced(value: Value, wanted: Type) -> Value:
    names = value.type.duckdb_names()
    fields = [
        coerced(Value(f"({value.sql}).{quoted(name)}", given), kind).sql
        for name, (_, given), (_, kind) in zip(names, value.type.fields, wanted.fields, strict=True)
    ]
    return made(f"CASE WHEN {value.sql} IS NULL THEN NULL ELSE {packed(wanted, fields)} END", wanted, value)


def packed(kind: Type, fields: Sequence[str]) -> str:
    """A DuckDB STRUCT of `kind` from the texts of its fields."""
    pairs = zip(kind.duckdb_names(), fields, strict=True)
    return "struct_pack(" + ", ".join(f"{quoted(name)} := {sql}" for name, sql in pairs) + ")"


def common(values: Sequence[Value], what: str) -> list[Value]:
    """All of `values` as one type. Raises in BigQuery's words for `what` (an operator or function) where none fits."""
    kind = supertype([(value.type, value.literal) for value in values])
    if kind is None:
        raise no_signature(what, values)
    return [coerced(value, kind) for value in values]


def no_signature(what: str, values: Sequence[Value]) -> ApiError:
    kinds = ", ".join(str(value.type) for value in values)
    return invalid_query(f"No matching signature for {what} for argument types: {kinds}")


def as_type(value: Value, wanted: Type, what: str) -> Value:
    """`value` where `wanted` is required."""
    if coercion_cost(value.type, wanted, value.literal) is None:
        raise invalid_query(f"{what} should return type {wanted}, but returns {value.type}")
    return coerced(value, wanted)


#: und:ci is ICU's root order without case: https://cloud.google.com/bigquery/docs/reference/standard-sql/collation-concepts
_CASE_ASIDE = "'und@colStrength=secondary'"


def folded(value: Value) -> str:
    """The text to compare and order by: the key of ICU's order where the value has the collation und:ci."""
    return case_aside(value) if value.type.collation else value.sql


def case_aside(value: Value) -> str:
    """The key by which und:ci compares a text, whatever the value's own collation."""
    return f"icu_sort_key({value.sql}, {_CASE_ASIDE})"


def comparable(value: Value) -> str:
    """The text whose order and equality in DuckDB are those of the value in GoogleSQL, NaN apart."""
    return f"bq_big({value.sql})" if value.kind == "BIGNUMERIC" else folded(value)


_PLAIN = re.compile(r'[\w."]+|CAST\(\'?[\w.]+\'? AS (BIGINT|DOUBLE)\)')


def simple(value: Value) -> bool:
    """Whether its text may stand several times without cost."""
    return _PLAIN.fullmatch(value.sql) is not None
