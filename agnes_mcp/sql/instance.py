"""A DuckDB instance that reads the granted files and nothing else.

The order of the settings matters: `allowed_paths` cannot be given at connect nor changed once external access is off,
views and attached files must exist before that, and the lock comes last. What the settings then promise is tried out,
by statements that must fail, before the agent's SQL is run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.duckdb_lines import settings
from agnes_mcp.sql.names import literal
from agnes_mcp.sql.views import Names, View, attach_statement, make_view, probe_statement

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


#: What DuckDB counts itself is stopped below the limit of the process, so that it ends in an error and not in an abort.
ENGINE_SHARE = 0.75
#: DuckDB's part of the memory beside an extension of it: the extension's streams and its libraries have the rest.
BESIDE_EXTENSION_SHARE = 0.5
#: A buffer of DuckDB's CSV reader, one for each thread, where the view says nothing: with its own 32 MB two scans
#: fill a worker. It must hold the longest line, which DuckDB bounds at 2 MB.
CSV_BUFFER_BYTES = 8 * 1024 * 1024
#: Of every instance that reads what others name: nothing is loaded unasked or kept, and no variable of Python's is a
#: table.
_SHUT: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}


def interrupt(connection: DuckDBPyConnection) -> None:
    """End what runs on it, from any thread; nothing where it was closed meanwhile, as what has just ended is."""
    import duckdb

    with suppress(duckdb.ConnectionException):
        connection.interrupt()


def open_instance(memory_bytes: int, threads: int) -> DuckDBPyConnection:
    """A fresh, empty, in-memory instance that loads no extension and sees no Python variable.

    `memory_bytes` is what the process may use; DuckDB's own limit is `ENGINE_SHARE` of it.
    """
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": threads,
            "memory_limit": f"{int(memory_bytes * ENGINE_SHARE)}B",
            "allow_community_extensions": False,
            "allow_unsigned_extensions": False,
            **_SHUT,
            **settings(),
        },
    )
    # Read back as given at connect but only enforced when SET (DuckDB 1.5.6).
    connection.execute("SET max_temp_directory_size = '0B'")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def open_beside_extension(memory_bytes: int, *, unsigned: bool, folder: str) -> DuckDBPyConnection:
    """A fresh, empty, in-memory instance for one extension, which its job names and loads.

    It has one thread until the job has denied its process to write: threads that are started later inherit that.
    `folder` is where extensions are kept. Raises what DuckDB raises.
    """
    import duckdb

    config: dict[str, Any] = {
        "threads": 1,
        "extension_directory": folder,
        "memory_limit": f"{int(memory_bytes * BESIDE_EXTENSION_SHARE) // 1024}KiB",
        "allow_unsigned_extensions": unsigned,
        **_SHUT,
    }
    return duckdb.connect(":memory:", config=config)


def lock_instance(
    connection: DuckDBPyConnection, views: Sequence[View], statement_names: Names = lambda: None
) -> dict[str, str]:
    """Grant exactly the files of `views`, make the views, close every other door, and try the doors.

    `statement_names`: as in `make_view`. Returns what `make_views` does.

    Raises AgnesError: `table_unavailable` (a file is missing or damaged), `internal_error` (a door is open).
    """
    files = [view.files() for view in views]
    paths = [path for of_view in files for path in of_view]
    connection.execute(f"SET allowed_paths = {literal(paths)}")
    if all(len(of_view) == 1 for of_view in files):  # of many, footers would take memory that DuckDB does not count
        connection.execute("SET parquet_metadata_cache = true")  # each is read once, and not at every binding
    left_out = make_views(connection, views, statement_names)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    _try_doors(connection, views)
    return left_out


class OneAnswer:
    """A job's instance of its own for each question: one that was given views can be given no others."""

    def __init__(self, memory_bytes: int, threads: int) -> None:
        self._size = memory_bytes, threads
        self._instance = open_instance(*self._size)
        self._granted = False
        self.left_out: dict[str, str] = {}

    def grant(self, views: Sequence[View], statement_names: Names = lambda: None) -> None:
        """As `lock_instance`, once for each question."""
        self._granted = True  # before it can fail: half of the views are enough
        self.left_out = lock_instance(self._instance, views, statement_names)

    def renew(self) -> bool:
        """Be ready for another question. True: that took a new instance, and the memory of the old one is free."""
        if not self._granted:
            return False
        self._instance.close()
        self._instance, self._granted = open_instance(*self._size), False
        return True


def make_views(
    connection: DuckDBPyConnection, views: Sequence[View], statement_names: Names = lambda: None
) -> dict[str, str]:
    """Create the views; a DuckDB file is attached once, however many of its tables are read. Returns the columns that
    they leave out, with the reasons."""
    attached: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for view in views:
        with _of(view):
            database = ""
            if view.kind == "duckdb_table":
                path = view.files()[0]
                if path not in attached:
                    attached[path] = f"file_{len(attached)}"
                    connection.execute(attach_statement(path, attached[path]))
                database = attached[path]
                _refuse_open_view(connection, view, database)
            small = {"buffer_size": CSV_BUFFER_BYTES, **view.options} if view.kind == "csv" else view.options
            left_out |= make_view(connection, replace(view, options=small), database, statement_names)
    return left_out


def _refuse_open_view(connection: DuckDBPyConnection, view: View, database: str) -> None:
    """What somebody stored to be evaluated may tell of this process: what it may read, and where that is."""
    stored = connection.execute(
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal "
        "AND lower(schema_name) = lower($2) AND lower(view_name) = lower($3) "
        "UNION ALL SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 "
        "AND lower(schema_name) = lower($2) AND lower(table_name) = lower($3) AND sql LIKE '%GENERATED ALWAYS%'",
        [database, view.source_schema, view.source_table],
    ).fetchone()
    if stored is not None:
        from agnes_mcp.sql.stored_views import closed_over

        if not closed_over(connection, database, *stored):
            raise table_unavailable(view.name)


@contextmanager
def _of(view: View) -> Iterator[None]:
    """Tell what DuckDB complains of as a fault of this view's files."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise table_unavailable(view.name) from error


def table_unavailable(name: str) -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f'The files of the table "{name}" cannot be read: missing, damaged, or not of the configured format.',
        "Refresh or drop the snapshot; for a configured table tell its owner.",
        {"table": name},
    )


def _try_doors(connection: DuckDBPyConnection, views: Sequence[View]) -> None:
    """Six statements that must fail, and the views that must answer."""
    import duckdb

    other = literal(sys.executable)
    probes = (
        f"SELECT size FROM read_blob({other})",  # noqa: S608 - a literal of ours
        f"SELECT count(*) FROM glob({literal(sys.prefix + '/*')})",  # noqa: S608 - a literal of ours
        f"ATTACH {other} AS probe",
        f"COPY (SELECT 1) TO {literal(sys.prefix + '/probe')}",
        "LOAD httpfs",
        "SET enable_external_access = true",
    )
    for probe in probes:
        try:
            connection.execute(probe)
        except (duckdb.PermissionException, duckdb.InvalidInputException):
            continue
        raise AgnesError(
            "internal_error",
            "The query engine could not be locked; nothing was run.",
            "Run `agnes-mcp doctor` and check the version of DuckDB.",
        )
    for view in views:
        with _of(view):
            connection.execute(probe_statement(view))
