"""DuckDB files, open only while somebody reads them: a file that stays attached keeps its writer out.

What a file holds is somebody else's text. A view in it is read here only where every name in it is a table or view of
the same file and nothing in it can open another one or tell of this process; `query` looks at it in the same way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.local.files import Files, Signature
from agnes_mcp.sql.duckdb_errors import unavailable
from agnes_mcp.sql.names import identifier, literal

if TYPE_CHECKING:
    import duckdb

#: How long a file that is being written is waited for, and how often it is tried.
LOCK_WAIT_S = 2.0
_TRY_EVERY_S = 0.05


class Held(NamedTuple):
    """Where a table is while its file is attached. `is_view`: or one with computed columns, which are read alike."""

    database: str
    schema: str
    table: str
    is_view: bool = False

    @property
    def relation(self) -> str:
        return identifier(self.database, self.schema, self.table)


@dataclass
class _Database:
    alias: str
    readers: int = 0
    signature: Signature | None = None
    generation: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Databases:
    """Attached while held, read-only, once for a file however many calls and tables read it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Database] = {}  # one a file; another signature, and it is attached under another name
        self._made = 0

    @contextmanager
    def held(
        self, cursor: duckdb.DuckDBPyConnection, generation: int, table: Table, files: Files, call: Call
    ) -> Iterator[Held]:
        """The table in its file, attached for as long as the block runs.

        Raises `table_locked` where another process writes the file, `table_unavailable`, `unsupported_format`.
        """
        database = self._find(files, generation)
        with database.lock:
            if database.readers == 0:
                self._attach(cursor, database, files, table, call)
            database.readers += 1
        try:
            yield self._look_up(cursor, database, table)
        finally:
            with database.lock:
                database.readers -= 1
                if database.readers == 0:
                    _detach(cursor, database.alias)

    def _find(self, files: Files, generation: int) -> _Database:
        """A file that has been replaced gets another name, so that those who still read the old one go on."""
        key = os.path.realpath(files.paths[0])
        with self._lock:
            known = self._known.get(key)
            if known is None or known.signature != files.signature or known.generation != generation:
                self._made += 1
                known = _Database(f"file_{self._made}", signature=files.signature, generation=generation)
                self._known[key] = known
            return known

    def _attach(
        self, cursor: duckdb.DuckDBPyConnection, database: _Database, files: Files, table: Table, call: Call
    ) -> None:
        import duckdb

        statement = f"ATTACH IF NOT EXISTS {literal(files.paths[0])} AS {identifier(database.alias)} (READ_ONLY)"
        give_up = time.monotonic() + LOCK_WAIT_S
        while True:
            call.check()
            try:
                cursor.execute(statement)
                return
            except duckdb.Error as error:
                if call.stopped:
                    raise
                if not _is_locked(error):
                    raise unavailable(_reason(error), table.id) from None
                if time.monotonic() >= give_up:
                    raise locked(table) from None
            time.sleep(_TRY_EVERY_S)

    def _look_up(self, cursor: duckdb.DuckDBPyConnection, database: _Database, table: Table) -> Held:
        schema, name = table.source_schema, table.source_table or table.id
        found = cursor.execute(
            "SELECT CASE WHEN sql LIKE '%GENERATED ALWAYS%' THEN 'computed' ELSE 'table' END FROM duckdb_tables() "
            "WHERE database_name = $1 AND schema_name = $2 AND table_name = $3 "
            "UNION ALL SELECT 'view' FROM duckdb_views() "
            "WHERE database_name = $1 AND schema_name = $2 AND view_name = $3 AND NOT internal",
            [database.alias, schema, name],
        ).fetchall()
        if not found:
            raise self._missing(cursor, database, table)
        is_view = found[0][0] != "table"
        if is_view:
            from agnes_mcp.sql.stored_views import closed_over

            if not closed_over(cursor, database.alias, schema, name):
                raise unavailable(
                    "it is a view, or has a computed column, that may read more than its own file, which only "
                    "whoever keeps this instance may grant",
                    table.id,
                )
        return Held(database.alias, schema, name, is_view)

    def _missing(self, cursor: duckdb.DuckDBPyConnection, database: _Database, table: Table) -> AgnesError:
        """Says where the file has a table of that name, and names no other table of it."""
        schemas = cursor.execute(
            "SELECT DISTINCT schema_name FROM duckdb_tables() WHERE database_name = ? AND table_name = ? ORDER BY 1",
            [database.alias, table.source_table or table.id],
        ).fetchall()
        where = f"; there is one in the schema {schemas[0][0]!r}: set source_schema" if schemas else ""
        return unavailable(f"its DuckDB file has no table of that name in {table.source_schema!r}{where}", table.id)


def locked(table: Table) -> AgnesError:
    return AgnesError(
        "table_locked",
        f"The table {table.id!r} cannot be read just now: another process is writing its DuckDB file.",
        "Call again in a moment. Other tables are not affected.",
    )


def _is_locked(error: Exception) -> bool:
    text = str(error)
    return "Could not set lock" in text or "Conflicting lock" in text or "already attached by" in text


def _reason(error: Exception) -> str:
    text = str(error)
    if "read a database file with version" in text or "newer version of DuckDB" in text or "storage version" in text:
        return "its DuckDB file was written by a newer version of DuckDB than this server has"
    if "encrypt" in text.lower():
        return "its DuckDB file is encrypted, and there is no key for it"
    return "its DuckDB file is missing, damaged, or cannot be read"


def _detach(cursor: duckdb.DuckDBPyConnection, alias: str) -> None:
    import duckdb

    with suppress(duckdb.Error):  # the instance may be gone, and the file with it
        cursor.execute(f"DETACH DATABASE IF EXISTS {identifier(alias)}")
