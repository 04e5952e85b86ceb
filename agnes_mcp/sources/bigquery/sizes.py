"""How many bytes BigQuery counts for values: what a Storage Read bills.

https://cloud.google.com/bigquery/pricing#data-size-calculation: NULL is 0 bytes, a STRUCT the sum of its fields, an
ARRAY the sum of its elements, text 2 bytes and its UTF-8 length, JSON its length, GEOGRAPHY 16 bytes and 24 a vertex.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from agnes_mcp.models import Column

_FIXED = {
    "INT64": 8,
    "FLOAT64": 8,
    "NUMERIC": 16,
    "BIGNUMERIC": 32,
    "BOOL": 1,
    "DATE": 8,
    "DATETIME": 8,
    "TIME": 8,
    "TIMESTAMP": 8,
    "INTERVAL": 16,
}
_RANGE = 16
_TEXT = 2
_GEOGRAPHY, _VERTEX = 16, 24
_POSITION = r"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)? -?[0-9][0-9.]*"  # one longitude and latitude in WKT


def logical_bytes(batch: pa.RecordBatch, columns: list[Column]) -> int:
    """The bytes of a batch whose columns are `columns`, in that order."""
    return sum(_array_bytes(array, column) for array, column in zip(batch.columns, columns, strict=True))


def _array_bytes(array: pa.Array, column: Column) -> int:
    values = array.flatten() if column.mode == "REPEATED" else array
    present: int = len(values) - values.null_count
    if not present:
        return 0
    if column.type == "STRUCT":
        # flatten() gives each field with the struct's own NULLs in it.
        return sum(_array_bytes(part, field) for part, field in zip(values.flatten(), column.fields, strict=True))
    if column.type.startswith("RANGE<"):
        return _RANGE * present
    if column.type in _FIXED:
        return _FIXED[column.type] * present
    if column.type == "GEOGRAPHY":
        return _GEOGRAPHY * present + _VERTEX * int(pc.sum(pc.count_substring_regex(values, _POSITION)).as_py() or 0)
    prefix = 0 if column.type == "JSON" else _TEXT
    return prefix * present + int(pc.sum(pc.binary_length(values)).as_py() or 0)
