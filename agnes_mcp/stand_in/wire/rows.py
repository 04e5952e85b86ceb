"""Stored rows on their way out: as Arrow batches of BigQuery's own schema, and as the f/v rows of REST."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from agnes_mcp.stand_in.fields import Field, arrow_schema, quoted
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import ApiError, tag_denied

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: BigQuery cuts a page of REST rows at about this many bytes ("Paging through results": 10 MB).
PAGE_BYTES = 10 * 1024 * 1024


def batches(
    store: Store,
    table: Table,
    fields: Sequence[Field],
    start: int,
    end: int,
    batch_rows: int,
    restriction: str = "",
) -> Iterator[pa.RecordBatch]:
    """Rows [start, end) of a stored table in order, cut into batches; `restriction` is a DuckDB condition."""
    schema = arrow_schema(fields)
    columns = ", ".join(_column(field) for field in fields) or "1"
    condition = f" AND ({restriction})" if restriction else ""
    # S608: identifiers are quoted, the restriction was rendered from a parsed condition
    sql = f"SELECT {columns} FROM {table.physical} WHERE rowid >= {start} AND rowid < {end}{condition}"  # noqa: S608
    with closing(store.cursor()) as cursor:
        for batch in cursor.sql(store.knowing(sql)).to_arrow_reader(batch_rows):
            if batch.num_rows:
                yield _conform(batch, schema)


def _column(field: Field) -> str:
    return f"CAST({quoted(field.name)} AS {_shown_type(field)}) AS {quoted(field.name)}"


def _shown_type(field: Field) -> str:
    """The stored type, with JSON as its text."""
    return field.duckdb_type().replace("JSON", "VARCHAR") if field.type in ("JSON", "STRUCT") else field.duckdb_type()


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with exactly the types, names and metadata of `schema`."""
    columns = [
        column if column.type.equals(field.type) else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=False)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def rest_rows(
    store: Store, table: Table, fields: Sequence[Field], start: int, limit: int, int_timestamps: bool
) -> list[dict[str, Any]]:
    """Up to `limit` rows from row `start` on as f/v objects, cut short at about `PAGE_BYTES`."""
    rows: list[dict[str, Any]] = []
    size = 0
    encoders = [encoder(field, int_timestamps) for field in fields]
    for batch in batches(store, table, fields, start, start + limit, 2048):
        columns = [
            [encode(value) for value in column.to_pylist()]
            for encode, column in zip(encoders, batch.columns, strict=True)
        ]
        rows.extend({"f": [{"v": value} for value in row]} for row in zip(*columns, strict=True))
        size += batch.nbytes * 2
        if size > PAGE_BYTES:
            break
    return rows


def encoder(field: Field, int_timestamps: bool) -> Callable[[Any], Any]:
    """A function from a Python value, as pyarrow gives it, to the value that REST answers write."""
    one = _scalar_encoder(field, int_timestamps)
    if field.repeated:
        return lambda values: [{"v": one(value)} for value in values or ()]
    return lambda value: None if value is None else one(value)


def _scalar_encoder(field: Field, int_timestamps: bool) -> Callable[[Any], Any]:
    if field.type == "STRUCT":
        inner = [(f.name, encoder(f, int_timestamps)) for f in field.fields]
        return lambda value: {"f": [{"v": encode(value[name])} for name, encode in inner]}
    if field.type == "RANGE":
        bound = _scalar_encoder(Field("", field.element), True)
        return lambda value: f"[{_bound(value['start'], bound)}, {_bound(value['end'], bound)})"
    if field.type == "TIMESTAMP" and not int_timestamps:
        return lambda value: _java_double(_micros(value) / 1_000_000)
    return _SCALARS.get(field.type, str)


def _bound(value: Any, encode: Callable[[Any], Any]) -> str:
    return "UNBOUNDED" if value is None else str(encode(value))


def _micros(value: datetime) -> int:
    elapsed = value - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _java_double(value: float) -> str:
    """As Java prints a double: BigQuery's own form, `1.5`, `1.0E10`, `NaN`, `Infinity`."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    mantissa, exponent = f"{value!r}".lower().split("e") if "e" in repr(value) else _scientific(value)
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}"


def _scientific(value: float) -> tuple[str, str]:
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    power = len(digits) - 1 + int(exponent)
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}", str(power)


def _plain_decimal(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _interval(value: Any) -> str:
    """Canonical `Y-M D H:M:S[.F]`, signs on each part."""
    months, days, nanos = value
    sign = "-" if months < 0 else ""
    years, left = divmod(abs(months), 12)
    clock = "-" if nanos < 0 else ""
    micros = abs(nanos) // 1000
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}"
    tail = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{sign}{years}-{left} {days} {clock}{text}{tail}"


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "INT64": str,
    "FLOAT64": _java_double,
    "BOOL": lambda value: "true" if value else "false",
    "NUMERIC": _plain_decimal,
    "BIGNUMERIC": _plain_decimal,
    "BYTES": lambda value: base64.b64encode(value).decode("ascii"),
    "DATE": lambda value: value.isoformat(),
    "TIME": lambda value: value.isoformat(),
    "DATETIME": lambda value: value.isoformat(),
    "TIMESTAMP": lambda value: str(_micros(value)),
    "INTERVAL": _interval,
}


def refuse_tagged(table: Table, fields: Sequence[Field]) -> None:
    """Raise 403 for the first of `fields` that carries a policy tag."""
    for field in fields:
        if field.name in table.policy_tags:
            raise tag_denied(table.policy_tags[field.name], f"{table.dotted}.{field.name}")


def selected(fields: Sequence[Field], names: Sequence[str]) -> tuple[Field, ...]:
    """The fields that `selectedFields` names, in the table's order; `a.b` selects within a STRUCT. Empty is all."""
    if not names:
        return tuple(fields)
    wanted: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = name.partition(".")
        wanted.setdefault(first.lower(), []).append(rest)
    known = {field.name.lower() for field in fields}
    for name in wanted:
        if name not in known:
            raise ApiError(400, "invalid", f"No such field: {name}.")
    return tuple(_narrowed(field, wanted[field.name.lower()]) for field in fields if field.name.lower() in wanted)


def _narrowed(field: Field, inner: list[str]) -> Field:
    if "" in inner or not inner:
        return field
    kept = selected(field.fields, inner)
    return Field(field.name, field.type, field.mode, field.description, kept, field.element)
