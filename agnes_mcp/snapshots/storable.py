"""Which Arrow types a snapshot holds, and what becomes of the others.

A snapshot is Parquet that DuckDB reads, so a type is kept only where both hold its values exactly. DuckDB 1.5 reads a
256-bit decimal from Parquet as DOUBLE, for instance: a BIGNUMERIC would silently lose digits, and is kept as text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.duckdb_types import MAX_PARQUET_LISTS

if TYPE_CHECKING:
    import pyarrow as pa

#: Digits of DuckDB's widest DECIMAL.
_DECIMAL_DIGITS = 38


def storable_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the file: names and types, every column nullable, without the source's own metadata.

    Raises `invalid_argument`, naming the column, for a type that cannot be kept.
    """
    import pyarrow as pa

    if len(schema) == 0:
        raise AgnesError("invalid_argument", "There is no column to keep.", "Select at least one column.")
    for field in schema:
        if _lists_in(field.type) > MAX_PARQUET_LISTS:
            raise _refused(field.name, field.type)
    return pa.schema([(field.name, _storable(field.type, field.name, top=True)) for field in schema])


def store_as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in a schema that `storable_schema` gave; `schema_changed` where it has other columns, and
    `invalid_argument` for a cell that is no value of its column's type."""
    import pyarrow as pa

    if batch.schema.metadata:
        from agnes_mcp.sql.cells import refuse_texts

        refuse_texts(batch.schema)
    if batch.schema.equals(schema):
        return batch
    try:
        if batch.schema.names != schema.names:
            raise pa.ArrowInvalid("other columns")
        columns = [_cast(array, field.type) for array, field in zip(batch.columns, schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    except pa.ArrowException as error:
        raise AgnesError(
            "schema_changed",
            "Rows arrived that do not have the columns which were announced.",
            "The table changed while it was read: look at its schema, then call again.",
        ) from error


def _storable(kind: pa.DataType, column: str, *, top: bool = False) -> pa.DataType:
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _storable(kind.value_type, column)
    if types.is_decimal(kind):
        return _storable_decimal(kind)
    if types.is_float16(kind):
        return pa.float32()
    if types.is_interval(kind) and top:
        return pa.string()
    if types.is_duration(kind):
        return pa.int64()
    return _storable_nested(kind, column) if types.is_nested(kind) or types.is_interval(kind) else kind


def _storable_decimal(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.decimal128(kind.precision, kind.scale) if kind.precision <= _DECIMAL_DIGITS else pa.string()


def _storable_nested(kind: pa.DataType, column: str) -> pa.DataType:
    import pyarrow as pa
    import pyarrow.types as types

    inner: Callable[[pa.DataType], pa.DataType] = lambda part: _storable(part, column)  # noqa: E731 - one line, used thrice
    if types.is_map(kind):
        return pa.map_(inner(kind.key_type), inner(kind.item_type))
    if types.is_struct(kind) and kind.num_fields > 0:
        return pa.struct([(field.name, inner(field.type)) for field in kind])
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(inner(kind.value_type))
    if hasattr(kind, "value_field"):  # a list of any other kind
        return pa.list_(inner(kind.value_type))
    raise _refused(column, kind)


def _lists_in(kind: pa.DataType) -> int:
    """How many lists and maps are in one another."""
    import pyarrow.types as types

    most, left = 0, [(kind, 0)]
    while left:
        part, around = left.pop()
        around += hasattr(part, "value_field") or types.is_map(part)
        most = max(most, around)
        left += [(part.field(place).type, around) for place in range(part.num_fields)]
    return most


def _refused(column: str, kind: pa.DataType) -> AgnesError:
    return AgnesError(
        "invalid_argument",
        f"Column {column!r} has a type that a snapshot cannot hold: {str(kind)[:80]}.",
        "Leave it out of `select`, or select the fields of it that are needed.",
        {"argument": "select", "column": column},
    )


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if array.type.equals(kind):
        return array
    if types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if types.is_interval(array.type):
        from agnes_mcp.sql.cells import iso_duration

        return pa.array([None if value is None else iso_duration(*value) for value in array.to_pylist()], kind)
    return array.cast(kind)
