"""Local tables: Parquet, CSV, JSON, Arrow, a sheet of a workbook, a table in a DuckDB file; files, globs and folders.

Each table is a view on the shared DuckDB connection, so that statements name a table and never a path. Schema, rows and
sizes come from footers and catalogs; nothing is scanned to learn them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes, Question
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Partition, Price, Relation, Statement, Table, TableSchema
from agnes_mcp.sources import Source
from agnes_mcp.sources.local.complaints import refuse_text
from agnes_mcp.sources.local.conversion import Conversions
from agnes_mcp.sources.local.databases import Databases, Held
from agnes_mcp.sources.local.files import Files, Signature, find_files, named_in, of_file
from agnes_mcp.sources.local.readers import Readers, of_files, of_text
from agnes_mcp.sources.local.refusals import Attempt, Refusals
from agnes_mcp.sources.local.renamed import told_of_names
from agnes_mcp.sources.local.sizes import ANY, MEASURED_VALUES, heavy_values, longest_text, longest_texts, measure
from agnes_mcp.sources.warehouse import FreeReading, Warehouse, batches, run
from agnes_mcp.sql.duckdb_errors import out_of_memory, unavailable
from agnes_mcp.sql.duckdb_types import (
    LEAST_ROWS_APART,
    MAX_VALUE_BYTES,
    batch_rows,
    columns_of,
    loses_in_arrow,
    lossless,
)
from agnes_mcp.sql.names import identifier
from agnes_mcp.sql.views import View, make_view

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from agnes_mcp.calls.processes.worker import Answer


#: A read of a call without a deadline ends after a day.
LONGEST_READ_S = 86_400.0


class LocalSource(Source):
    """Serves local tables through `warehouse`; what cannot be bounded there, in `processes`, which have to have been
    handed `JOB`. See `Source` for the contract."""

    def __init__(self, warehouse: Warehouse, processes: Processes) -> None:
        self._warehouse, self._processes = warehouse, processes
        self._lock = threading.Lock()
        # One a table; made anew where its files, its reading or the connection are others.
        self._views: dict[str, tuple[object, ...]] = {}
        self._left_out: dict[str, dict[str, str]] = {}  # as many, made with them
        self._databases = Databases()
        self._stored_views: set[str] = set()
        self._readers = Readers()
        self._conversions = Conversions(processes.memory_bytes)
        self._refusals = Refusals()
        # By id, like the views: one for each table. True of the files of that signature, read in that way, alone. With
        # them, whether Arrow can carry all of them.
        self._columns: dict[str, tuple[Signature, tuple[object, ...], tuple[dict[str, Column], bool]]] = {}
        # By id as well: whose values may be too heavy for this process.
        self._unpacking: set[str] = set()

    def schema(self, table: Table, call: Call) -> TableSchema:
        with self._opened(table, call) as (cursor, files, source):
            columns = list(self._columns_now(cursor, table, files, call)[0].values())
            rows, size_bytes = measure(cursor, files, source)
            mean_bytes = (size_bytes or 0) // rows if rows else 0
            heavy = heavy_values(cursor, source, identifier(table.id), columns, mean_bytes)
            if max(heavy.values(), default=0) > MAX_VALUE_BYTES and rows and rows * len(heavy) <= MEASURED_VALUES:
                heavy = longest_texts(cursor, identifier(table.id), columns, heavy)
            longest = longest_text(cursor, files, source, identifier(table.id), columns)
        return TableSchema(
            table_id=table.id,
            columns=columns,
            left_out=self._left_out.get(table.id, {}),
            partition=Partition(column=files.hive[0], type="HIVE") if files.hive else None,
            primary_key=table.primary_key,
            description=table.description,
            rows=rows,
            size_bytes=size_bytes,
            modified=files.modified,
            heavy_values=self._noted(table, heavy),
            longest_text=longest,
        )

    def _noted(self, table: Table, heavy: dict[str, int]) -> dict[str, int]:
        """Once more, and whether a value may be too heavy for this process."""
        if max(heavy.values(), default=0) > MAX_VALUE_BYTES:
            self._unpacking.add(table.id)
        else:
            self._unpacking.discard(table.id)
        return heavy

    def state(self, table: Table) -> object:
        """The signature of its files; another one, and what was learnt of them is not true any more."""
        try:
            return find_files(table).signature
        except AgnesError as error:
            return error.kind

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        """Rows of a local table are always free."""
        selected = ", ".join(identifier(column) for column in columns)
        sql = f"SELECT {selected} FROM {identifier(table.id)} LIMIT {int(n)}"  # noqa: S608 - quoted names of the schema
        with self._opened(table, call) as (cursor, files, source):
            if table.id not in self._stored_views | self._unpacking:
                return lossless(cursor, sql).to_arrow_table()
            view = _stored(table, files) if isinstance(source, Held) else source
            with self._read_apart(table, view, sql, call) as reading:
                return reading.whole()

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        return Price(scan_bytes=0, reserved_bytes=0, path="local")

    @contextmanager
    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> Iterator[FreeReading]:
        with self._opened(table, call) as (cursor, files, source):
            columns, plain = self._columns_now(cursor, table, files, call)
            self._refuse_change(columns, table, schema)
            named = {ANY, *statement.source_columns}
            row_bytes = sum(size for name, size in schema.heavy_values.items() if name in named)
            if self.reads_apart(table, statement):
                view = _stored(table, files) if isinstance(source, Held) else source
                with self._read_apart(table, view, statement.sql, call, row_bytes, _own(statement)) as reading:
                    yield reading
            else:
                explain = partial(self._explain, table, files, call, statement)
                reader = run(cursor, statement.sql, batch_rows(row_bytes), explain, plain=plain)
                yield FreeReading(reader.schema, batches(reader, explain), call)

    def reads_apart(self, table: Table, statement: Statement) -> bool:
        """Where the condition has no bound, or the table is a view that somebody stored, of which nobody knows; or its
        files may stand for far more than they hold."""
        return not statement.bounded or table.id in self._stored_views or table.id in self._unpacking

    @contextmanager
    def _read_apart(
        self, table: Table, view: View, sql: str, call: Call, row_bytes: int = 0, own: str = ""
    ) -> Iterator[FreeReading]:
        """The same rows, from a process that is killed where it overstays."""
        rows = max(LEAST_ROWS_APART, batch_rows(row_bytes))
        with self._ask(table, view, call, sql=sql, own=own, rows=rows) as answer:
            yield FreeReading(*answer.schema_and_batches(), call)

    @contextmanager
    def _ask(self, table: Table, view: View, call: Call, **more: str | int) -> Iterator[Answer]:
        content = {"table": table.id, "view": view.as_message(), "sql": "", "own": "", **more}
        question = Question("read", content, out_of_memory, _died)
        remaining_s = call.remaining_s
        limit_s = LONGEST_READ_S if remaining_s is None else remaining_s
        with self._processes.ask(question, _grant_nothing, call, limit_s) as answer:
            yield answer

    def close(self) -> None:
        self._conversions.close()

    def relation(self, table: Table) -> Relation:
        """By its id: the name of its view on the shared connection."""
        return Relation("", "", table.id)

    def view(self, table: Table, call: Call) -> View:
        """The table's files as they are now, for whoever reads them elsewhere. Raises AgnesError."""
        files = find_files(table)
        if files.kind == "duckdb":
            return _stored(table, files)
        with self._attempt(table, files, call), self._cursor(table, call) as cursor, of_files(table, files, call):
            return self._view(cursor, table, files, call)

    def _attempt(self, table: Table, files: Files, call: Call) -> AbstractContextManager[Attempt | None]:
        """Around all that is done with a text: to find out how it is read takes as long as it is."""
        if files.kind not in ("csv", "json"):
            return nullcontext()
        return self._refusals.attempt(table.id, (files.signature, _read_as(table)), call)

    def _view(self, cursor: duckdb.DuckDBPyConnection, table: Table, files: Files, call: Call) -> View:
        paths = None
        if files.kind in ("arrow", "xlsx"):
            paths = self._conversions.parquet(table, files, self._warehouse.scratch(), call)
        return self._readers.view(table, files, cursor, call, paths)

    @contextmanager
    def _opened(self, table: Table, call: Call) -> Iterator[tuple[duckdb.DuckDBPyConnection, Files, Held | View]]:
        """A cursor on which the table's id is a view over its files as they are now."""
        files = find_files(table)
        attempt, opened = self._attempt(table, files, call), self._cursor(table, call)
        with attempt as finding, opened as cursor, ExitStack() as held, of_text(table, files, call):
            source: Held | View
            with of_files(table, files, call):
                if files.kind == "duckdb":
                    database = self._databases.held(cursor, self._warehouse.generation, table, files, call)
                    source = held.enter_context(database)
                    if source.is_view:  # to bind it evaluates parts of it, and nobody knows what they take
                        self._stored_views.add(table.id)
                    else:
                        self._stored_views.discard(table.id)
                        self._ensure_view(cursor, _stored(table, files), files, source.database)
                else:
                    source = self._view(cursor, table, files, call)
                    self._ensure_view(cursor, source, files)
            if finding is not None:
                finding.end()
            yield cursor, files, source

    @contextmanager
    def _cursor(self, table: Table, call: Call) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._warehouse.cursor(call) as cursor:
                yield cursor
        except AgnesError as error:
            if error.kind == "table_unavailable" and repr(table.id) not in error.message:
                raise unavailable(error.message.rsplit(": ", 1)[-1].rstrip("."), table.id) from None
            raise

    def _explain(self, table: Table, files: Files, call: Call, statement: Statement, error: Exception) -> AgnesError:
        """What a failure of this statement means."""
        cause = self._warehouse.cause_of(error, call, statement.sql)
        if files.kind in ("csv", "json") and not call.stopped:
            refuse_text(table.id, files.kind, str(cause), files.paths)
        explained = self._warehouse.explain(cause, call, _own(statement))
        return of_file(explained, named_in(str(cause), files.paths), files.paths)

    def _ensure_view(self, cursor: duckdb.DuckDBPyConnection, view: View, files: Files, database: str = "") -> None:
        with self._lock:
            named = (view.source_schema, view.source_table)
            wanted = (self._warehouse.generation, files.signature, database, repr(view.options), *named)
            if self._views.get(view.name) != wanted:
                self._left_out[view.name] = make_view(cursor, view, database)
                self._views[view.name] = wanted

    def _columns_now(
        self, cursor: duckdb.DuckDBPyConnection, table: Table, files: Files, call: Call
    ) -> tuple[dict[str, Column], bool]:
        """The columns of these very files; to ask DuckDB again for each statement of a profile would take longer."""
        known, read_as = self._columns.get(table.id), _read_as(table)
        if known is not None and known[:2] == (files.signature, read_as):
            return known[2]
        plain = False
        if table.id in self._stored_views:
            with self._ask(table, _stored(table, files), call) as answer:
                answer.finish()
                columns = [Column.model_validate(column) for column in answer.done["columns"]]
        else:
            cursor.execute(f"SELECT * FROM {identifier(table.id)} LIMIT 0")  # noqa: S608 - an id is [a-z0-9_]+
            columns = told_of_names(files.kind, columns_of(cursor.description or []))
            plain = not any(loses_in_arrow(str(kind)) for _, kind, *_ in cursor.description or [])
        now = {column.name: column for column in columns}, plain
        self._columns[table.id] = (files.signature, read_as, now)
        return now

    def _refuse_change(self, now: dict[str, Column], table: Table, schema: TableSchema) -> None:
        changed = [c.name for c in schema.columns if now.get(c.name) != c]
        if changed:
            raise AgnesError(
                "schema_changed",
                f"The columns of {table.id!r} have changed since they were last read: {', '.join(changed[:5])}.",
                "Call `schema` for the columns as they are now, then repeat the call.",
                {"columns": changed[:20]},
            )


def _read_as(table: Table) -> tuple[object, ...]:
    """How the configuration says that its files are read. A reload may say it otherwise of the same files."""
    return table.source_schema, table.source_table, repr(table.csv), table.hive


def _stored(table: Table, files: Files) -> View:
    """A table inside a DuckDB file."""
    name = table.source_table or table.id
    return View(table.id, "duckdb_table", files.paths, source_table=name, source_schema=table.source_schema)


def _own(statement: Statement) -> str:
    """The part of a statement that is an agent's; "" where there is none."""
    return statement.sql if statement.predicate_sql else ""


def _grant_nothing(needed: dict[str, Any]) -> dict[str, Any]:
    """The question names all that it needs."""
    return {}


def _died(code: int) -> AgnesError:
    return AgnesError(
        "query_failed",
        "The statement ended the process that ran it.",
        "Write the condition another way, or select fewer columns.",
        {"exit_code": code},
    )
