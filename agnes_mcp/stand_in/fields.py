"""BigQuery's column types, and what each is in REST, in Arrow, in DuckDB and in GoogleSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from agnes_mcp.stand_in.wire.replies import invalid

#: GoogleSQL name → the name that REST answers use.
REST_TYPES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_STANDARD_TYPES = {rest: standard for standard, rest in REST_TYPES.items()} | {
    "INT": "INT64",
    "BIGINT": "INT64",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}

#: DuckDB has no type of 76 digits and no geography, so those two are kept as their text.
DUCKDB_TYPES = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "NUMERIC": "DECIMAL(38,9)",
    "BIGNUMERIC": "VARCHAR",
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP": "TIMESTAMPTZ",
    "JSON": "JSON",
    "GEOGRAPHY": "VARCHAR",
    "INTERVAL": "INTERVAL",
}

#: As the Storage Read API's reference gives them ("Arrow schema details").
ARROW_TYPES: dict[str, pa.DataType] = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.decimal256(76, 38),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "BOOL": pa.bool_(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "JSON": pa.string(),
    "GEOGRAPHY": pa.string(),
    "INTERVAL": pa.month_day_nano_interval(),
}

#: The metadata that BigQuery puts on Arrow fields whose Arrow type alone does not name the SQL type.
ARROW_METADATA = {
    "DATETIME": {"ARROW:extension:name": "google:sqlType:datetime"},
    "JSON": {"ARROW:extension:name": "google:sqlType:json"},
    "GEOGRAPHY": {
        "ARROW:extension:name": "google:sqlType:geography",
        "ARROW:extension:metadata": '{"encoding": "WKT"}',
    },
}


@dataclass(frozen=True)
class Field:
    """One column or nested field. `type` is GoogleSQL's name; `element` is the bound's type of a RANGE."""

    name: str
    type: str
    mode: str = "NULLABLE"
    description: str = ""
    fields: tuple[Field, ...] = ()
    element: str = ""
    parameters: tuple[tuple[str, str], ...] = ()  # maxLength, precision, scale as REST writes them

    @property
    def repeated(self) -> bool:
        return self.mode == "REPEATED"

    def rest(self) -> dict[str, Any]:
        """As a TableFieldSchema."""
        answer: dict[str, Any] = {"name": self.name, "type": REST_TYPES.get(self.type, self.type), "mode": self.mode}
        answer |= dict(self.parameters)
        if self.description:
            answer["description"] = self.description
        if self.element:
            answer["rangeElementType"] = {"type": self.element}
        if self.fields:
            answer["fields"] = [field.rest() for field in self.fields]
        return answer

    def duckdb_type(self) -> str:
        if self.type == "STRUCT":
            inner = ", ".join(f"{quoted(f.name)} {f.duckdb_type()}" for f in self.fields)
            base = f"STRUCT({inner})"
        elif self.type == "RANGE":
            bound = DUCKDB_TYPES[self.element]
            base = f'STRUCT("start" {bound}, "end" {bound})'
        else:
            base = DUCKDB_TYPES[self.type]
        return base + "[]" if self.repeated else base

    def arrow_type(self) -> pa.DataType:
        if self.type == "STRUCT":
            base = pa.struct([f.arrow_field() for f in self.fields])
        elif self.type == "RANGE":
            base = pa.struct([pa.field(bound, ARROW_TYPES[self.element]) for bound in ("start", "end")])
        else:
            base = ARROW_TYPES[self.type]
        return pa.list_(pa.field("item", base)) if self.repeated else base

    def arrow_field(self) -> pa.Field:
        return pa.field(self.name, self.arrow_type(), self.mode != "REQUIRED", ARROW_METADATA.get(self.type))

    def sql_type(self) -> str:
        """In GoogleSQL, as sqlglot's schemas take it."""
        if self.type == "STRUCT":
            base = "STRUCT<" + ", ".join(f"`{f.name}` {f.sql_type()}" for f in self.fields) + ">"
        else:
            base = f"RANGE<{self.element}>" if self.type == "RANGE" else self.type
        return f"ARRAY<{base}>" if self.repeated else base

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Field]]:
        """The dotted path of every priced value under this field."""
        path = f"{prefix}{self.name}"
        if self.type != "STRUCT":
            yield path, self
        for inner in self.fields:
            yield from inner.leaves(f"{path}.")

    def without_requirement(self) -> Field:
        """As a column of a query's result, where nothing is REQUIRED and nothing is described."""
        inner = tuple(f.without_requirement() for f in self.fields)
        return Field(self.name, self.type, "REPEATED" if self.repeated else "NULLABLE", "", inner, self.element)


def quoted(name: str) -> str:
    """As a DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def arrow_schema(fields: Iterable[Field]) -> pa.Schema:
    return pa.schema([field.arrow_field() for field in fields])


def read_schema(schema: str | Sequence[Mapping[str, Any] | Field]) -> tuple[Field, ...]:
    """A table's columns from GoogleSQL column definitions, or from a list of REST TableFieldSchema objects."""
    if isinstance(schema, str):
        created = sqlglot.parse_one(f"CREATE TABLE t ({schema})", read="bigquery")
        return tuple(_from_definition(column) for column in created.this.expressions)
    return tuple(column if isinstance(column, Field) else _from_rest(column) for column in schema)


def _from_rest(column: Mapping[str, Any]) -> Field:
    named = str(column["type"]).upper()
    name = _STANDARD_TYPES.get(named, named)
    if name not in DUCKDB_TYPES and name not in ("STRUCT", "RANGE"):
        raise invalid(f"Invalid value for type: {named} is not a valid value")
    return Field(
        str(column["name"]),
        name,
        str(column.get("mode") or "NULLABLE").upper(),
        str(column.get("description") or ""),
        tuple(_from_rest(inner) for inner in column.get("fields", ())),
        str((column.get("rangeElementType") or {}).get("type", "")),
        tuple((key, str(column[key])) for key in ("maxLength", "precision", "scale") if key in column),
    )


def _from_definition(column: exp.ColumnDef) -> Field:
    required = column.find(exp.NotNullColumnConstraint) is not None
    described = next((p for p in column.find_all(exp.Property) if p.name.lower() == "description"), None)
    field = from_sql_type(column.name, column.args["kind"])
    mode = "REQUIRED" if required and not field.repeated else field.mode
    text = described.args["value"].name if described is not None else ""
    return Field(field.name, field.type, mode, text, field.fields, field.element, field.parameters)


def from_sql_type(name: str, kind: exp.DataType) -> Field:
    """The field that a GoogleSQL type, parsed by sqlglot, describes."""
    written = kind.sql("bigquery").split("<")[0].split("(")[0].upper()
    if written == "ARRAY":
        element = from_sql_type(name, kind.expressions[0])
        return Field(name, element.type, "REPEATED", "", element.fields, element.element)
    if written == "STRUCT":
        return Field(name, "STRUCT", fields=tuple(from_sql_type(f.name, f.args["kind"]) for f in kind.expressions))
    if written == "RANGE":
        return Field(name, "RANGE", element=kind.expressions[0].sql("bigquery").upper())
    keys = ("maxLength",) if written in ("STRING", "BYTES") else ("precision", "scale")
    given = tuple(zip(keys, (parameter.name for parameter in kind.expressions), strict=False))
    standard = _STANDARD_TYPES.get(written, written)
    if standard not in DUCKDB_TYPES:
        raise invalid(f"Type not found: {written}")
    return Field(name, standard, parameters=given)


def from_duckdb(name: str, kind: Any) -> Field:
    """The field that BigQuery would answer for a column that DuckDB computed; `kind` is a DuckDBPyType."""
    if kind.id in ("list", "array"):
        element = from_duckdb(name, kind.children[0][1])
        return Field(name, element.type, "REPEATED", "", element.fields)
    if kind.id == "struct":
        return Field(name, "STRUCT", fields=tuple(from_duckdb(inner, child) for inner, child in kind.children))
    if kind.id == "decimal":
        precision, scale = (int(value) for _, value in kind.children)
        return Field(name, "NUMERIC" if scale <= 9 and precision - scale <= 29 else "BIGNUMERIC")
    return Field(name, _FROM_DUCKDB.get(str(kind), "STRING"))


_FROM_DUCKDB = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT"), "INT64"),
    **dict.fromkeys(("UINTEGER", "UBIGINT", '"NULL"', "NULL"), "INT64"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "FLOAT64"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "DATETIME"),
    "BOOLEAN": "BOOL",
    "BLOB": "BYTES",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "JSON": "JSON",
    "INTERVAL": "INTERVAL",
}
