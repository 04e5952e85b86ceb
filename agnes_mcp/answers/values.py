"""Arrow columns as JSON, without loss and without a crash.

Numbers that a JSON reader would round are strings: integers beyond 2^53, decimals with a fraction. NaN and the
infinities are the strings "NaN", "Infinity", "-Infinity"; BYTES are base64; TIMESTAMP is RFC 3339, with `Z` where the
type has a zone; STRUCT is an object, ARRAY an array, a MAP with text keys an object and any other MAP a list of
[key, value]; NULL is null.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agnes_mcp.models import Column, Dialect

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SAFE_INTEGER = 2**53
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAYS_TO_EPOCH = 719_468  # from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar
_ORDINAL_OF_EPOCH = date(1970, 1, 1).toordinal()
# How DuckDB stores the infinite dates and timestamps.
_INFINITE_DAYS = {2**31 - 1: "infinity", -(2**31 - 1): "-infinity"}
_INFINITE_TICKS = {2**63 - 1: "infinity", -(2**63 - 1): "-infinity"}


#: Arrow's names in each dialect's words; decimals, lists and structs are spelled by `arrow_type_name`.
_NAMES: dict[Dialect, dict[str, str]] = {
    "bigquery": {
        "bool": "BOOL", "int8": "INT64", "int16": "INT64", "int32": "INT64", "int64": "INT64", "float": "FLOAT64",
        "double": "FLOAT64", "string": "STRING", "large_string": "STRING", "binary": "BYTES", "date32[day]": "DATE",
        "time64[us]": "TIME", "timestamp[us]": "DATETIME", "timestamp[us, tz=UTC]": "TIMESTAMP",
        "month_day_nano_interval": "INTERVAL",
    },
    "duckdb": {
        "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
        "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT", "float": "FLOAT",
        "double": "DOUBLE", "string": "VARCHAR", "large_string": "VARCHAR", "binary": "BLOB", "date32[day]": "DATE",
        "time64[us]": "TIME", "timestamp[s]": "TIMESTAMP_S", "timestamp[ms]": "TIMESTAMP_MS",
        "timestamp[us]": "TIMESTAMP", "timestamp[ns]": "TIMESTAMP_NS", "month_day_nano_interval": "INTERVAL",
    },
}  # fmt: skip
_FIELDS = re.compile(r"(STRUCT)\(")


def type_name(column: Column, dialect: Dialect) -> str:
    """The one name of a column's type in answers: `INT64`, `ARRAY<STRUCT>`; of DuckDB `BIGINT`, `STRUCT[]`."""
    kind = column.type if dialect == "bigquery" else short_type(column.type)
    if column.mode != "REPEATED":
        return kind
    return f"ARRAY<{kind}>" if dialect == "bigquery" else f"{kind}[]"


def short_type(kind: str) -> str:
    """DuckDB's name of a type without the fields of a STRUCT and the lengths of arrays."""
    found = _FIELDS.match(kind)
    if found is None:
        return kind if "'" in kind or '"' in kind else re.sub(r"\[\d+\]", "[]", kind)
    lists = re.search(r"(?:\[\d*\])*$", kind)
    return found[1] + re.sub(r"\d", "", lists[0] if lists else "")


def arrow_type_name(kind: pa.DataType, dialect: Dialect) -> str:
    """The same of a column that only its rows tell the type of."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return arrow_type_name(kind.value_type, dialect)
    if types.is_decimal(kind):
        numeric = "NUMERIC" if kind.bit_width == 128 else "BIGNUMERIC"
        return numeric if dialect == "bigquery" else f"DECIMAL({kind.precision},{kind.scale})"
    if _is_list(kind):
        item = arrow_type_name(kind.value_type, dialect)
        return f"ARRAY<{item}>" if dialect == "bigquery" else f"{item}[]"
    if types.is_map(kind):
        return f"MAP({arrow_type_name(kind.key_type, dialect)}, {arrow_type_name(kind.item_type, dialect)})"
    if types.is_struct(kind):
        return "STRUCT"
    zoned = "TIMESTAMP" if dialect == "bigquery" else "TIMESTAMP WITH TIME ZONE"
    name = zoned if types.is_timestamp(kind) and kind.tz else str(kind)
    return _NAMES[dialect].get(name, name)


def column_to_json(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of one column, JSON-ready, in order."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in column_to_json(chunk)]
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return column_to_json(array.storage)
    if pa.types.is_dictionary(kind):
        return column_to_json(array.dictionary_decode())
    convert = _CONVERTERS.get(kind.id)
    if convert is None:
        convert = next((convert for recognises, convert in _kinds() if recognises(kind)), _scalars)
        _CONVERTERS[kind.id] = convert
    return convert(array)


#: By the number of a kind of types, of which Arrow has some forty; what is done with one depends on nothing else.
_CONVERTERS: dict[int, Callable[[Any], list[Any]]] = {}


def _kinds() -> list[tuple[Callable[[Any], bool], Callable[[Any], list[Any]]]]:
    from pyarrow import types

    return [
        (types.is_struct, _structs),
        (types.is_map, _maps),
        (_is_list, _lists),
        (types.is_union, lambda array: [to_json(value) for value in array.to_pylist()]),
        (types.is_timestamp, _timestamps),
        (types.is_date, _dates),
        (types.is_time, _times),
        (types.is_duration, lambda array: [None if v is None else v for v in _integers(array)]),
    ]


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return any(
        recognises(kind)
        for recognises in (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)
    )


def _scalars(array: pa.Array) -> list[Any]:
    from pyarrow import types

    values: list[Any] = array.to_pylist()
    if types.is_string(array.type) or types.is_boolean(array.type) or types.is_large_string(array.type):
        return values
    given = [value for value in values if value is not None] if array.null_count else values
    if types.is_integer(array.type):
        if not given or (min(given) >= -MAX_SAFE_INTEGER and max(given) <= MAX_SAFE_INTEGER):
            return values
        return [value if value is None or -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else str(value)
                for value in values]  # fmt: skip
    if types.is_floating(array.type):
        if math.isfinite(sum(given)):  # with one that is not in it no sum is
            return values
        return [value if value is None or math.isfinite(value) else _spell_float(value) for value in values]
    return [to_json(value) for value in values]


def to_json(value: Any) -> Any:
    """One Python value that is neither temporal nor nested in Arrow."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _spell_float(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if type(value).__name__ == "MonthDayNano":
        from agnes_mcp.sql.cells import iso_duration

        return iso_duration(value.months, value.days, value.nanoseconds)
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return str(value)


def _spell_float(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> int | str:
    exponent = value.as_tuple().exponent
    if exponent == 0 and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    return format(value, "f")


def _structs(array: pa.Array) -> list[Any]:
    names = [field.name or f"f{number}" for number, field in enumerate(array.type, start=1)]
    columns = [column_to_json(field) for field in array.flatten()]
    valid = array.is_valid().to_pylist()
    rows = zip(*columns, strict=True) if columns else (() for _ in valid)
    return [dict(zip(names, row, strict=True)) if ok else None for ok, row in zip(valid, rows, strict=True)]


def _lists(array: pa.Array) -> list[Any]:
    lengths = array.value_lengths().to_pylist()
    items = iter(column_to_json(array.flatten()))
    return [None if length is None else [next(items) for _ in range(length)] for length in lengths]


def _maps(array: pa.Array) -> list[Any]:
    import pyarrow as pa

    offsets = array.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    keys = column_to_json(array.keys.slice(first, last - first))
    items = column_to_json(array.items.slice(first, last - first))
    named = pa.types.is_string(array.type.key_type)
    answer: list[Any] = []
    for ok, start, end in zip(array.is_valid().to_pylist(), offsets, offsets[1:], strict=False):
        pairs = list(zip(keys[start - first : end - first], items[start - first : end - first], strict=True))
        answer.append(None if not ok else dict(pairs) if named else [list(pair) for pair in pairs])
    return answer


def _integers(array: pa.Array) -> list[int | None]:
    import pyarrow as pa

    width = pa.int32() if array.type.bit_width == 32 else pa.int64()
    return array.view(width).to_pylist()  # type: ignore[no-any-return]


def _timestamps(array: pa.Array) -> list[str | None]:
    per_second = _TICKS[array.type.unit]
    zone = "Z" if array.type.tz else ""
    return [_timestamp(ticks, per_second, zone) for ticks in _integers(array)]


def _timestamp(ticks: int | None, per_second: int, zone: str) -> str | None:
    if ticks is None:
        return None
    if ticks in _INFINITE_TICKS:
        return _INFINITE_TICKS[ticks]
    seconds, fraction = divmod(ticks, per_second)
    days, second = divmod(seconds, 86_400)
    return f"{_date(days)}T{_clock(second, fraction, per_second)}{zone}"


def _clock(second: int, fraction: int, per_second: int) -> str:
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if not fraction:
        return clock
    digits = len(str(per_second)) - 1
    return f"{clock}.{fraction:0{digits}}"


def _dates(array: pa.Array) -> list[str | None]:
    per_day, infinite = (1, _INFINITE_DAYS) if array.type.bit_width == 32 else (86_400_000, _INFINITE_TICKS)
    numbers = _integers(array)
    days = {v: None if v is None else infinite.get(v) or _date(v // per_day) for v in set(numbers)}  # they repeat
    return [days[v] for v in numbers]


def _date(days: int) -> str:
    """A day number as year-month-day, for every year that BIGINT can hold; Python's own dates end at 9999.

    For those before and after, the civil-from-days construction: shift the year to begin in March, so that the leap
    day is its last.
    """
    if 0 < days + _ORDINAL_OF_EPOCH <= date.max.toordinal():
        return date.fromordinal(days + _ORDINAL_OF_EPOCH).isoformat()
    days += _DAYS_TO_EPOCH
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day:02}" if year >= 0 else f"-{-year:04}-{month:02}-{day:02}"


def _times(array: pa.Array) -> list[str | None]:
    per_second = _TICKS[array.type.unit]
    return [None if t is None else _clock(t // per_second, t % per_second, per_second) for t in _integers(array)]
