"""What an agent is told about writing SQL for a table: literals of its dialect, predicates on its own columns."""

from __future__ import annotations

import itertools
import re

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Column, Dialect, TableSchema
from agnes_mcp.sql.names import identifier

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
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = """
    ALL ANALYSE ANALYZE AND ANTI ANY ARRAY AS ASC ASOF ASSERT_ROWS_MODIFIED ASYMMETRIC AT AUTHORIZATION BETWEEN BINARY
    BOTH BY CASE CAST CHECK COLLATE COLLATION COLUMN COLUMNS CONCURRENTLY CONSTRAINT CONTAINS CREATE CROSS CUBE CURRENT
    CURRENT_DATE CURRENT_DATETIME CURRENT_TIME CURRENT_TIMESTAMP DEFAULT DEFERRABLE DEFINE DESC DESCRIBE DISTINCT DO
    ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FOREIGN FREEZE FROM FULL GENERATED GLOB
    GROUP GROUPING GROUPS HASH HAVING IF IGNORE ILIKE IN INITIALLY INNER INTERSECT INTERVAL INTO IS ISNULL JOIN LAMBDA
    LATERAL LEADING LEFT LIKE LIMIT LOCALTIMESTAMP LOOKUP MAP MERGE NATURAL NEW NO NOT NOTNULL NULL NULLS OF OFFSET ON
    ONLY OR ORDER OUTER OVER OVERLAPS PARTITION PIVOT PIVOT_LONGER PIVOT_WIDER PLACING POSITIONAL PRECEDING PRIMARY
    PROTO QUALIFY RANGE RECURSIVE REFERENCES RESPECT RETURNING RIGHT ROLLUP ROWS SAFE_CAST SELECT SEMI SET SHOW SIMILAR
    SOME STRUCT SUMMARIZE SYMMETRIC TABLE TABLESAMPLE THEN TO TRAILING TREAT TRUE TRY_CAST UNBOUNDED UNION UNIQUE UNNEST
    UNPACK UNPIVOT USING VALUES VARIADIC VERBOSE WHEN WHERE WINDOW WITH WITHIN
"""
#: Words that mean something else, or nothing, where a column without quotes would stand, in either dialect.
QUOTED_WORDS = frozenset(_WORDS.split())
_SCALAR_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(?: WITH TIME ZONE|\([0-9, ]*\))?")
_NUMBERS = """
    INT64 INTEGER INT BIGINT SMALLINT TINYINT HUGEINT UBIGINT UINTEGER USMALLINT UTINYINT FLOAT64 FLOAT DOUBLE REAL
    NUMERIC DECIMAL BIGNUMERIC
"""


def where_examples(schema: TableSchema, dialect: Dialect) -> list[str]:
    """Up to three predicates on columns that exist, the partition's first, each of which a scan would take."""
    first = schema.partition.column if schema.partition else None
    columns = sorted(schema.columns, key=lambda c: (c.name != first, c.name not in schema.clustered_by))
    suffix = ["_TABLE_SUFFIX >= '20260101'"] if schema.partition and schema.partition.type == "SHARD" else []
    of_columns = (_example(column, schema, dialect) for column in columns if column.mode != "REPEATED")
    examples = itertools.chain(suffix, of_columns)
    return list(itertools.islice((example for example in examples if example), _MAX_EXAMPLES))


def _example(column: Column, schema: TableSchema, dialect: Dialect) -> str:
    """A condition on the column; "" where there is none to show, or its name can be written in none."""
    condition = _condition(column.type, dialect)
    if not condition:
        return ""
    if _PLAIN_NAME.fullmatch(column.name) and column.name.upper() not in QUOTED_WORDS:
        return f"{column.name} {condition}"
    quoted = f"`{column.name}`" if dialect == "bigquery" else identifier(column.name)
    return _if_taken(f"{quoted} {condition}", schema, dialect)


def _if_taken(example: str, schema: TableSchema, dialect: Dialect) -> str:
    """The example, unless the validator refuses it: not every name that a file may have can be written."""
    from agnes_mcp.sql.predicate import validate_predicate

    try:
        validate_predicate(example, schema, dialect)
    except PredicateError:
        return ""
    return example


def _condition(type_: str, dialect: Dialect) -> str:
    scalar = _SCALAR_TYPE.fullmatch(type_.strip())
    word = scalar[1].upper() if scalar else ""
    if word.startswith("TIMESTAMP"):
        return f">= {DIALECT_HINTS[dialect]['timestamp_literal']}"
    if word in _NUMBERS.split():
        return "> 0"
    return {
        "DATE": ">= DATE '2026-01-01'",
        "DATETIME": ">= DATETIME '2026-01-01 00:00:00'",
        "STRING": "= 'value'",
        "VARCHAR": "= 'value'",
        "BOOL": "IS TRUE",
        "BOOLEAN": "IS TRUE",
    }.get(word, "")
