"""What kind of value an expression has: just enough to tell a condition from a value, and a record from a scalar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

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
    family, depth = _family_of(column.type)
    kind = Kind(family, None, tuple(column.fields) if family == "record" else ())
    for _ in range(depth + (column.mode == "REPEATED")):
        kind = list_of(kind)
    return kind


@lru_cache(maxsize=1_024)
def _family_of(spelling: str) -> tuple[str, int]:
    """The family of a type, and of how many lists it is the element."""
    word, depth = spelling.strip(), 0
    while suffix := _DUCKDB_LIST.search(word):
        word, depth = word[: suffix.start()], depth + 1
    match = _FIRST_WORD.match(word)
    return _FAMILIES.get(match.group().upper(), "other") if match else "other", depth


def kind_named(word: str) -> Kind:
    """The kind of a type by its name (`INT64`, `VARCHAR`, `TIMESTAMP WITH TIME ZONE`)."""
    return Kind(_family_of(word)[0])
