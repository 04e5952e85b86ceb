"""What a statement may read, as DuckDB sees it: views over files. The list of files is the grant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agnes_mcp.sql import names
from agnes_mcp.sql.names import identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ViewKind = Literal["parquet", "csv", "json", "duckdb_table"]


@dataclass(frozen=True)
class View:
    """One table as a statement sees it.

    `name` is the table's id, matched without regard to case. `paths` are absolute paths of existing files, never globs;
    it may be a function, which is then called only when the SQL reads this view. Every path listed becomes readable for
    the one call, and no other.

    kind `parquet`, `csv` and `json`: `options` are named arguments of DuckDB's `read_parquet`, `read_csv`, `read_json`
    (`{"hive_partitioning": True, "union_by_name": True}`, `{"delim": ";", "columns": {"a": "INTEGER"}}`).
    kind `duckdb_table`: `paths[0]` is the DuckDB file and `source_table` (in `source_schema`) a table or view in it;
    further paths are files that the view reads. `columns`, where given, are the only columns that are seen.
    """

    name: str
    kind: ViewKind
    paths: Sequence[str] | Callable[[], Sequence[str]]
    options: Mapping[str, names.Literal] = field(default_factory=dict)
    columns: Sequence[str] | None = None
    source_table: str = ""
    source_schema: str = "main"

    def files(self) -> list[str]:
        """The files that reading this view needs, listed now."""
        return list(self.paths() if callable(self.paths) else self.paths)

    def as_message(self) -> dict[str, Any]:
        """What a worker process is told, JSON-ready."""
        return {
            "name": self.name,
            "kind": self.kind,
            "paths": self.files(),
            "options": dict(self.options),
            "columns": None if self.columns is None else list(self.columns),
            "source_table": self.source_table,
            "source_schema": self.source_schema,
        }


def attach_statement(path: str, database: str) -> str:
    """The statement that opens a DuckDB file for reading under a name; once for each file of an instance."""
    return f"ATTACH {literal(path)} AS {identifier(database)} (READ_ONLY)"


def make_view(connection: DuckDBPyConnection, view: View, database: str = "") -> None:
    """Create the view, or replace it; `database` is the name under which its DuckDB file is attached.

    Raises what DuckDB raises.
    """
    connection.execute(_statement(view, database))
    blobs = _blobs(connection, view) if view.kind == "parquet" else []
    if blobs:
        connection.execute(_statement(view, database, blobs))


def _statement(view: View, database: str, blobs: Sequence[str] = ()) -> str:
    columns = "*" if view.columns is None else ", ".join(identifier(column) for column in view.columns)
    relation = relation_of(view, database)
    if blobs:
        copied = ", ".join(f"{identifier(blob)} || ''::BLOB AS {identifier(blob)}" for blob in blobs)
        relation = f"(SELECT * REPLACE ({copied}) FROM {relation})"  # noqa: S608 - quoted parts only
    return f"CREATE OR REPLACE VIEW {identifier(view.name)} AS SELECT {columns} FROM {relation}"  # noqa: S608 - quoted parts only


def relation_of(view: View, database: str = "") -> str:
    """What the view reads, as it stands in FROM."""
    if view.kind == "duckdb_table":
        return identifier(database, view.source_schema, view.source_table)
    options = "".join(f", {identifier(name)} := {literal(value)}" for name, value in view.options.items())
    return f"read_{view.kind}({literal(view.files())}{options})"


def _blobs(connection: DuckDBPyConnection, view: View) -> list[str]:
    """The BLOB columns of a view over Parquet, where this DuckDB compares them wrongly.

    DuckDB 1.5 up to 1.5.6 takes a comparison with a constant that is not plain ASCII down into the dictionary of a
    Parquet file and finds nothing there. What is computed is not pushed down; a copy is the cheapest computation.
    """
    import duckdb

    if not duckdb.__version__.startswith("1.5."):
        return []
    return [name for name, kind in _columns(connection, view.name) if kind == "BLOB"]


def _columns(connection: DuckDBPyConnection, name: str) -> list[tuple[str, str]]:
    """Names and types of a view, as they were bound when it was made; DESCRIBE would open every file once more."""
    if '"' in name:  # which the pragma, whatever the quoting, takes for the quote of a dotted name
        found = connection.execute(f"DESCRIBE {identifier(name)}").fetchall()
        return [(str(column), str(kind)) for column, kind, *_ in found]
    found = connection.execute(f"PRAGMA table_info({literal(identifier(name))})").fetchall()
    return [(str(column), str(kind)) for _, column, kind, *_ in found]


def probe_statement(view: View) -> str:
    """A statement that opens the files of the view and reads no row."""
    return f"SELECT 1 FROM {identifier(view.name)} LIMIT 0"  # noqa: S608 - a quoted name only
