"""Local tables: Parquet (a file, a glob, a hive-partitioned folder), CSV, and tables inside a DuckDB file.

Each table is a view on the shared DuckDB connection, so that statements name a table and never a path. Schema, rows and
sizes come from footers and catalogs; nothing is scanned to learn them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Partition, Price, Receipt, Statement, Table, TableSchema
from agnes_mcp.sources.local.files import Files, Signature, find_files, hive_keys, view_of
from agnes_mcp.sources.local.types import columns_of, loses_in_arrow, safe_type
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.sql.duckdb_errors import unavailable
from agnes_mcp.sql.names import identifier
from agnes_mcp.sql.views import attach_statement, make_view

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_ROWS = 8_192


class _Attached(NamedTuple):
    generation: int
    files: Files
    alias: str


class LocalSource:
    """Serves local tables through `warehouse`. See `Source` for the contract."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = threading.Lock()
        self._views: dict[str, tuple[int, Files]] = {}
        self._attached: dict[str, _Attached] = {}
        self._attachments = 0
        self._columns: dict[str, tuple[Signature, dict[str, Column]]] = {}

    def schema(self, table: Table, call: Call) -> TableSchema:
        files = find_files(table)
        with self._cursor(table, call) as cursor:
            self._ensure_view(cursor, table, files)
            cursor.execute(f"SELECT * FROM {identifier(table.id)} LIMIT 0")  # noqa: S608 - an id is [a-z0-9_]+
            columns = columns_of(cursor.description or [])
            rows, size_bytes = self._measure(cursor, table, files)
        hive = hive_keys(files)
        return TableSchema(
            table_id=table.id,
            columns=columns,
            partition=Partition(column=hive[0], type="HIVE") if hive else None,
            primary_key=table.primary_key,
            description=table.description,
            rows=rows,
            size_bytes=size_bytes,
            modified=files.modified,
        )

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        """Rows of a local table are always free."""
        selected = ", ".join(identifier(column) for column in columns)
        with self._cursor(table, call) as cursor:
            self._ensure_view(cursor, table, find_files(table))
            sql = f"SELECT {selected} FROM {identifier(table.id)} LIMIT {int(n)}"  # noqa: S608 - quoted names of the schema
            return cursor.execute(_lossless(cursor, sql)).to_arrow_table()

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        return Price(scan_bytes=0, reserve_bytes=0, path="local")

    @contextmanager
    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> Iterator[LocalReading]:
        with self._cursor(table, call) as cursor:
            files = find_files(table)
            self._ensure_view(cursor, table, files)
            self._refuse_change(cursor, table, files, schema)
            reader = self._run(cursor, statement.sql, call)
            yield LocalReading(reader, call, lambda error: self._warehouse.explain(error, call, statement.sql))

    def _run(self, cursor: duckdb.DuckDBPyConnection, sql: str, call: Call) -> pa.RecordBatchReader:
        import duckdb

        try:
            return cursor.execute(_lossless(cursor, sql)).to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            raise self._warehouse.explain(error, call, sql) from None

    @contextmanager
    def _cursor(self, table: Table, call: Call) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._warehouse.cursor(call) as cursor:
                yield cursor
        except AgnesError as error:
            if error.kind == "table_unavailable":
                raise unavailable(error.message.rsplit(": ", 1)[-1].rstrip("."), table.id) from None
            raise

    def _ensure_view(self, cursor: duckdb.DuckDBPyConnection, table: Table, files: Files) -> None:
        """A view named as the table's id over the files as they are now."""
        with self._lock:
            known = self._views.get(table.id)
            if known and known[0] == self._warehouse.generation and known[1].signature == files.signature:
                return
            database = self._attach(cursor, files) if files.kind == "duckdb" else ""
            make_view(cursor, view_of(table, files), database)
            self._views[table.id] = (self._warehouse.generation, files)

    def _attach(self, cursor: duckdb.DuckDBPyConnection, files: Files) -> str:
        """Attach a DuckDB file once, read-only, however many of its tables are served; anew if it was replaced."""
        key = os.path.realpath(files.paths[0])
        known = self._attached.get(key)
        if known is not None and known.generation == self._warehouse.generation:
            if known.files.signature == files.signature:
                return known.alias
            cursor.execute(f"DETACH DATABASE IF EXISTS {identifier(known.alias)}")
        self._attachments += 1
        alias = f"file_{self._attachments}"
        cursor.execute(attach_statement(files.paths[0], alias))
        self._attached[key] = _Attached(self._warehouse.generation, files, alias)
        return alias

    def _columns_now(self, cursor: duckdb.DuckDBPyConnection, table: Table, files: Files) -> dict[str, Column]:
        """The columns of these very files; to ask DuckDB again for each statement of a profile would take longer."""
        known = self._columns.get(table.id)
        if known is not None and known[0] == files.signature:
            return known[1]
        cursor.execute(f"SELECT * FROM {identifier(table.id)} LIMIT 0")  # noqa: S608 - an id is [a-z0-9_]+
        now = {c.name: c for c in columns_of(cursor.description or [])}
        self._columns[table.id] = (files.signature, now)
        return now

    def _refuse_change(
        self, cursor: duckdb.DuckDBPyConnection, table: Table, files: Files, schema: TableSchema
    ) -> None:
        now = self._columns_now(cursor, table, files)
        changed = [c.name for c in schema.columns if now.get(c.name) != c]
        if changed:
            raise AgnesError(
                "schema_changed",
                f"The columns of {table.id!r} have changed since they were last read: {', '.join(changed[:5])}.",
                "Call `schema` for the columns as they are now, then repeat the call.",
                {"columns": changed[:20]},
            )

    def _measure(self, cursor: duckdb.DuckDBPyConnection, table: Table, files: Files) -> tuple[int | None, int | None]:
        """Rows and bytes from metadata. The rows of a CSV are not known without reading it."""
        if files.kind == "csv":
            return None, files.size_bytes
        if files.kind == "parquet":
            cursor.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [files.paths])
            return int(cursor.fetchall()[0][0]), files.size_bytes
        alias = self._attached[os.path.realpath(files.paths[0])].alias
        name = table.source_table or table.id
        found = cursor.execute(
            "SELECT estimated_size FROM duckdb_tables() WHERE database_name = ? AND table_name = ?", [alias, name]
        ).fetchall()
        return (int(found[0][0]), files.size_bytes) if found else (None, None)


class LocalReading:
    """A running read of the shared connection, as record batches."""

    def __init__(self, reader: pa.RecordBatchReader, call: Call, explain: Callable[[Exception], AgnesError]) -> None:
        self._reader = reader
        self._call = call
        self._explain = explain
        self.schema: pa.Schema = reader.schema
        self.receipt = Receipt(bytes_billed=0, bytes_processed=0)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        while True:
            try:
                batch = self._reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:  # how DuckDB fails in the middle of a stream
                raise self._explain(error) from None
            self._call.check()
            yield batch


def _lossless(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The same statement with every column that Arrow cannot carry whole cast to one that it can."""
    cursor.execute(f"DESCRIBE {sql}")
    outputs = [(str(name), str(kind)) for name, kind, *_ in cursor.fetchall()]
    if not any(loses_in_arrow(kind) for _, kind in outputs):
        return sql
    casts = [
        f"CAST({identifier(name)} AS {safe_type(kind)}) AS {identifier(name)}"
        if loses_in_arrow(kind)
        else identifier(name)
        for name, kind in outputs
    ]
    return f"SELECT {', '.join(casts)} FROM ({sql})"  # noqa: S608 - names of the schema, quoted
