"""BigQuery's schema fields as ours and as Arrow's, and the cells of a REST answer as Arrow arrays."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from agnes_mcp.models import Column, Mode
from agnes_mcp.sql.cells import with_texts

Field = Mapping[str, Any]  # a TableFieldSchema of the REST API

#: REST still says the names of legacy SQL.
GOOGLESQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}

#: https://cloud.google.com/bigquery/docs/reference/storage#arrow_schema_details
ARROW_TYPES: dict[str, pa.DataType] = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.decimal256(76, 38),
    "BOOL": pa.bool_(),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "JSON": pa.string(),
    "GEOGRAPHY": pa.string(),
    "INTERVAL": pa.month_day_nano_interval(),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTERVAL = re.compile(r"(-?)(\d+)-(\d+) (-?\d+) (-?)(\d+):(\d+):(\d+)(?:\.(\d{1,9}))?")


def type_name(field: Field) -> str:
    """GoogleSQL's name of a field's type: `INT64`, `STRUCT`, `RANGE<DATE>`."""
    name = str(field.get("type", "STRING")).upper()
    if name == "RANGE":
        return f"RANGE<{field.get('rangeElementType', {}).get('type', 'DATE')}>"
    return GOOGLESQL_NAMES.get(name, name)


#: 64 bits have 19; what has more is no figure.
_MAX_DIGITS = 20


def columns_of(fields: Iterable[Field]) -> list[Column]:
    """Fields as columns, nested ones too."""
    return [
        Column(
            name=str(field["name"]),
            type=type_name(field),
            mode=_mode(field),
            description=str(field.get("description") or ""),
            fields=columns_of(field.get("fields") or ()),
        )
        for field in fields
    ]


def _mode(field: Field) -> Mode:
    mode = str(field.get("mode") or "NULLABLE").upper()
    return "REQUIRED" if mode == "REQUIRED" else "REPEATED" if mode == "REPEATED" else "NULLABLE"


def count_of(figure: object) -> int | None:
    """A figure of REST, which writes 64-bit integers as text; None: it is not there, or none that can be counted."""
    text = str(figure)
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The schema in which the Storage Read API would give these columns."""
    return pa.schema([arrow_field(column) for column in columns])


def arrow_field(column: Column) -> pa.Field:
    item = _item_type(column)
    kind = pa.list_(item) if column.mode == "REPEATED" else item
    return pa.field(column.name, kind, nullable=column.mode == "NULLABLE")


def _item_type(column: Column) -> pa.DataType:
    """The Arrow type of one value. A type that is not known here is read as the text that BigQuery sends."""
    if column.type == "STRUCT":
        return pa.struct([arrow_field(inner) for inner in column.fields])
    if element := _range_element(column.type):
        return pa.struct([pa.field("start", ARROW_TYPES[element]), pa.field("end", ARROW_TYPES[element])])
    return ARROW_TYPES.get(column.type, pa.string())


def _range_element(type_: str) -> str:
    """`DATE` of `RANGE<DATE>`, "" of anything else."""
    return type_[6:-1] if type_.startswith("RANGE<") else ""


def table_of_rows(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of `tabledata.list` (asked for with `useInt64Timestamp`) as an Arrow table of one chunk.

    A cell that is no value of its column's type is NULL there, and its text stands in the schema; see `with_texts`.
    """
    records = list(rows)
    schema = arrow_schema(columns)
    arrays, texts = [], {}
    for index, column in enumerate(columns):
        cells = [record["f"][index]["v"] for record in records]
        array, unread = _array_of(cells, decoder(column), schema.field(index).type)
        arrays.append(array)
        if unread:
            texts[column.name] = {row: _as_text(cells[row]) for row in unread}
    return with_texts(pa.Table.from_arrays(arrays, schema=schema), texts)


#: What a decoder or Arrow may raise for a cell that is no value of its type.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, pa.ArrowException)


def _array_of(cells: list[Any], decode: Callable[[Any], Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """The cells as an array, and the rows of those that could not be read, which are NULL in it."""
    try:
        return pa.array([decode(cell) for cell in cells], kind), []
    except _UNREADABLE:
        values = [_value_of(cell, decode, kind) for cell in cells]
    unread = [row for row, value in enumerate(values) if value is _NO_VALUE]
    return pa.array([None if value is _NO_VALUE else value for value in values], kind), unread


_NO_VALUE = object()


def _value_of(cell: Any, decode: Callable[[Any], Any], kind: pa.DataType) -> Any:
    try:
        value = decode(cell)
        pa.array([value], kind)
    except _UNREADABLE:
        return _NO_VALUE
    return value


def _as_text(cell: Any) -> str:
    """A cell as BigQuery sent it: its text, of records and lists their JSON without REST's wrapping."""
    plain = _unwrapped(cell)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _unwrapped(cell: Any) -> Any:
    if isinstance(cell, Mapping):
        return _unwrapped(cell["f"] if "f" in cell else cell.get("v"))
    return [_unwrapped(part) for part in cell] if isinstance(cell, list) else cell


def decoder(column: Column) -> Callable[[Any], Any]:
    """What turns one JSON cell of this column into the value that Arrow takes. NULL stays None."""
    one = _value_decoder(column)
    if column.mode == "REPEATED":
        return lambda cell: [one(entry["v"]) for entry in cell or ()]
    return one


def _value_decoder(column: Column) -> Callable[[Any], Any]:
    if column.type == "STRUCT":
        return _struct_decoder(column.fields)
    if element := _range_element(column.type):
        return _range_decoder(_CELLS[element])
    decode = _CELLS.get(column.type, str)
    return lambda cell: None if cell is None else decode(cell)


def _struct_decoder(fields: Sequence[Column]) -> Callable[[Any], Any]:
    decoders = [(field.name, decoder(field)) for field in fields]

    def decode(cell: Any) -> dict[str, Any] | None:
        if cell is None:
            return None
        return {name: one(part["v"]) for (name, one), part in zip(decoders, cell["f"], strict=True)}

    return decode


def _range_decoder(bound: Callable[[str], Any]) -> Callable[[Any], Any]:
    """`[2020-01-01, UNBOUNDED)`; an open end is NULL."""

    def decode(cell: Any) -> dict[str, Any] | None:
        if cell is None:
            return None
        start, end = (part.strip() for part in str(cell).strip("[)").split(",", 1))
        open_ends = ("UNBOUNDED", "NULL")
        return {
            "start": None if start.upper() in open_ends else bound(start),
            "end": None if end.upper() in open_ends else bound(end),
        }

    return decode


def _number(cell: str) -> str:
    """Python would read `1_000` as a number, and ` 1`."""
    if "_" in cell or cell != cell.strip():
        raise ValueError(f"not a number: {cell[:40]!r}")
    return cell


def _timestamp(cell: str) -> datetime:
    """Microseconds since the epoch; a RANGE writes its bounds so too."""
    return _EPOCH + timedelta(microseconds=int(cell))


def _interval(cell: str) -> tuple[int, int, int]:
    """BigQuery's canonical `Y-M D H:M:S.F`, as months, days and nanoseconds."""
    match = _INTERVAL.fullmatch(cell)
    if match is None:
        raise pa.lib.ArrowInvalid(f"not an INTERVAL: {cell[:40]!r}")
    sign, years, months, days, time_sign, hours, minutes, seconds, fraction = match.groups()
    whole = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 10**9 + int((fraction or "").ljust(9, "0"))
    month_count = int(years) * 12 + int(months)
    return (-month_count if sign else month_count, int(days), -whole if time_sign else whole)


_CELLS: dict[str, Callable[[str], Any]] = {
    "INT64": lambda cell: int(_number(cell)),
    "FLOAT64": lambda cell: float(_number(cell)),  # also "NaN", "Infinity", "-Infinity"
    "NUMERIC": lambda cell: Decimal(_number(cell)),
    "BIGNUMERIC": lambda cell: Decimal(_number(cell)),
    "BOOL": lambda cell: {"true": True, "false": False}[str(cell).lower()],
    "STRING": str,
    "BYTES": lambda cell: base64.b64decode(cell, validate=True),
    "DATE": date.fromisoformat,
    "TIME": time.fromisoformat,
    "DATETIME": datetime.fromisoformat,
    "TIMESTAMP": _timestamp,
    "INTERVAL": _interval,
}
