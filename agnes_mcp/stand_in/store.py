"""The DuckDB instance behind the stand-in: stored rows, and cursors that speak BigQuery's functions in UTC."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from agnes_mcp.stand_in.fields import Field, from_duckdb, quoted
from agnes_mcp.stand_in.googlesql.macros import called_by
from agnes_mcp.stand_in.jobs.sizes import measure
from agnes_mcp.stand_in.tables import Table

_BOUNDS_AT_ONCE = 500


class Store:
    """One DuckDB database. Every request works on its own cursor; `database` is a file, or ":memory:"."""

    def __init__(self, database: str = ":memory:", threads: int | None = None) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._root = duckdb.connect(database, config=config | ({"threads": threads} if threads else {}))
        self._creating = threading.Lock()
        self._names: dict[str, str] = {}
        self._macros: set[str] = set()

    def close(self) -> None:
        self._root.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._root.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    def knowing(self, sql: str) -> str:
        """`sql` itself, once the macros that it calls are there: all of them would take longer than most databases
        live, and few statements call any."""
        called = called_by(sql)
        with self._creating:
            if new := called.keys() - self._macros:
                with self.cursor() as cursor:
                    made = (f"CREATE OR REPLACE MACRO {called[name]}" for name in called if name in new)
                    cursor.execute(";".join(made))
                self._macros |= new
        return sql

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a rendered SELECT yields."""
        with self.cursor() as cursor:
            return cursor.execute(self.knowing(sql)).fetchall()

    def place(self, project: str, dataset: str, name: str) -> str:
        """The quoted DuckDB name of a table. DuckDB folds case where BigQuery does not: what collides is numbered."""
        schema = self._unfolded(f"{project}.{dataset}", "")
        return f"{quoted(schema)}.{quoted(self._unfolded(name, schema))}"

    def _unfolded(self, name: str, within: str) -> str:
        held = self._names.setdefault(f"{within}/{name}".lower(), name)
        return name if held == name else f"{name}#{name.encode().hex()}"

    def infer(self, source: str, bound: Mapping[str, pa.Table] | None = None) -> tuple[Field, ...]:
        """The columns that a DuckDB SELECT yields, as BigQuery would type them."""
        with self._bound(bound) as cursor:
            described = cursor.execute(f"SELECT * FROM ({source}) LIMIT 0").description  # noqa: S608 - the owner's SQL
        return tuple(from_duckdb(column[0], column[1]) for column in described or [])

    def fill(
        self, table: Table, source: str, ingested: str | None = None, bound: Mapping[str, pa.Table] | None = None
    ) -> None:
        """Store what the DuckDB SELECT `source` yields as `table`, cast to its columns, and measure it."""
        table.physical = self.place(table.project, table.dataset, table.name)
        columns = [f"{_stored(f)} AS {quoted(f.name)}" for f in table.fields]
        if table.pseudo_fields:
            unit = table.partition.type.lower() if table.partition else "day"
            columns.append(f"date_trunc('{unit}', CAST({ingested or 'now()'} AS TIMESTAMPTZ)) AS _PARTITIONTIME")
        with self._bound(bound) as cursor:
            self.create_schema(cursor, table.physical)
            # S608: identifiers are quoted, `source` and `ingested` are the owner's own SQL
            sql = f"CREATE OR REPLACE TABLE {table.physical} AS SELECT {', '.join(columns)} FROM ({source})"  # noqa: S608
            cursor.execute(self.knowing(sql))
            table.segments, bounds = measure(cursor, table.physical, table.fields, table.partition)
            if table.partition:
                self._keep_bounds(cursor, table, bounds)

    def _keep_bounds(
        self, cursor: duckdb.DuckDBPyConnection, table: Table, bounds: Sequence[tuple[str, object, object]]
    ) -> None:
        """Remember each partition's first and last value where pruning can ask DuckDB about them."""
        kept = bounds_of(table)
        self.create_schema(cursor, kept)
        kind = next((f.duckdb_type() for f in table.fields if is_partition_column(table, f)), "TIMESTAMPTZ")
        cursor.execute(f"CREATE OR REPLACE TABLE {kept} (id VARCHAR, low {kind}, high {kind})")
        for start in range(0, len(bounds), _BOUNDS_AT_ONCE):  # row by row, each costs a transaction of its own
            # written out: DuckDB looks for a library that is not there at each value that is bound
            listed = ", ".join(f"({', '.join(map(_literal, row))})" for row in bounds[start : start + _BOUNDS_AT_ONCE])
            cursor.execute(f"INSERT INTO {kept} VALUES {listed}")  # noqa: S608 - measured

    def create_schema(self, cursor: duckdb.DuckDBPyConnection, physical: str) -> None:
        """The schema of a table's DuckDB name, made once at a time: two that make one at once would collide."""
        with self._creating:
            cursor.execute(f'CREATE SCHEMA IF NOT EXISTS "{physical[1:-1].partition(chr(34) + "." + chr(34))[0]}"')

    def _bound(self, bound: Mapping[str, pa.Table] | None) -> duckdb.DuckDBPyConnection:
        cursor = self.cursor()
        for name, table in (bound or {}).items():
            cursor.register(name, table)
        return cursor


def _literal(value: object) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def _stored(field: Field) -> str:
    """A source's column as it is stored: cast, and an array never NULL, as BigQuery's arrays are."""
    cast = f"CAST({quoted(field.name)} AS {field.duckdb_type()})"
    return f"coalesce({cast}, [])" if field.repeated else cast


def bounds_of(table: Table) -> str:
    """The DuckDB table of `table`'s partition bounds: id, low, high."""
    schema, _, name = table.physical[1:-1].partition('"."')
    return f'"{schema}/bounds"."{name}"'


def is_partition_column(table: Table, field: Field) -> bool:
    named = table.partition.field if table.partition else None
    return named is not None and named.lower() == field.name.lower()


def parquet_source(paths: str | Path | Iterable[str | Path]) -> str:
    """A DuckDB SELECT over Parquet files or globs."""
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    literals = ", ".join("'" + str(path).replace("'", "''") + "'" for path in listed)
    return f"SELECT * FROM read_parquet([{literals}])"  # noqa: S608 - quoted literals


def rows_source(rows: Sequence[Mapping[str, Any]], fields: tuple[Field, ...]) -> str:
    """A DuckDB SELECT of Python rows: dates and times may be text, absent keys are NULL."""
    shape = json.dumps([_shape(fields)])
    text = json.dumps([_plain(row) for row in rows])
    columns = ", ".join(f"r.{quoted(f.name)}" for f in fields)
    literal = "'" + text.replace("'", "''") + "'"
    shaped = "'" + shape.replace("'", "''") + "'"
    return f"SELECT {columns} FROM (SELECT unnest(from_json({literal}, {shaped})) AS r)"  # noqa: S608 - quoted literals


def _shape(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {field.name: _field_shape(field) for field in fields}


def _field_shape(field: Field) -> Any:
    if field.type == "STRUCT":
        inner: Any = _shape(field.fields)
    elif field.type == "RANGE":
        inner = {"start": "VARCHAR", "end": "VARCHAR"}
    else:
        inner = {"INT64": "BIGINT", "BOOL": "BOOLEAN", "JSON": "JSON"}.get(field.type, "VARCHAR")
    return [inner] if field.repeated else inner


def _plain(value: Any) -> Any:
    """Without loss as JSON: whatever JSON lacks becomes the text that DuckDB casts back."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return "".join(f"\\x{byte:02X}" for byte in value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds()} seconds"
    return str(value) if isinstance(value, Decimal) else value
