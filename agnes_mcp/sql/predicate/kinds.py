"""What kind of value an expression has: just enough to tell a condition from a value, and a record from a scalar."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agnes_mcp.models import Column

_WORDS = {
    "number": "INT64 INTEGER INT BIGINT SMALLINT TINYINT BYTEINT HUGEINT INT128 UBIGINT UINTEGER USMALLINT UTINYINT "
    "UHUGEINT FLOAT64 FLOAT DOUBLE REAL NUMERIC DECIMAL BIGNUMERIC BIGDECIMAL BIGNUM",
    "text": "STRING VARCHAR TEXT CHAR BPCHAR ENUM",
    "boolean": "BOOL BOOLEAN LOGICAL",
    "bytes": "BYTES BLOB",
    "date": "DATE",
    "time": "TIME TIMETZ",
    "datetime": "DATETIME",
    "timestamp": "TIMESTAMP TIMESTAMPTZ TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS TIMESTAMP_US",
    "interval": "INTERVAL",
    "json": "JSON",
    "record": "STRUCT RECORD",
    "map": "MAP",
}
_FAMILIES = {word: family for family, words in _WORDS.items() for word in words.split()}
_FIRST_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DUCKDB_LIST = re.compile(r"\[\d*\]\Z")


@dataclass(frozen=True)
class Kind:
    """`family` is a word of the table above, `list`, `null` or `other`. A list has an `element`, a record `fields`."""

    family: str
    element: Kind | None = None
    fields: tuple[Column, ...] = ()


BOOLEAN, NUMBER, TEXT, NULL, OTHER = (Kind(f) for f in ("boolean", "number", "text", "null", "other"))
INTERVAL = Kind("interval")


def list_of(element: Kind) -> Kind:
    return Kind("list", element)


def kind_of(column: Column) -> Kind:
    """The kind of a column as its schema spells it: BigQuery's mode REPEATED, DuckDB's `INTEGER[]`, both spellings of
    STRUCT."""
    word, depth = column.type.strip(), int(column.mode == "REPEATED")
    while suffix := _DUCKDB_LIST.search(word):
        word, depth = word[: suffix.start()], depth + 1
    kind = _scalar(word, tuple(column.fields))
    for _ in range(depth):
        kind = list_of(kind)
    return kind


def kind_named(word: str) -> Kind:
    """The kind of a type by its name (`INT64`, `VARCHAR`, `TIMESTAMP WITH TIME ZONE`)."""
    return _scalar(word, ())


def _scalar(word: str, fields: tuple[Column, ...]) -> Kind:
    match = _FIRST_WORD.match(word)
    family = _FAMILIES.get(match.group().upper(), "other") if match else "other"
    return Kind(family, None, fields if family == "record" else ())
