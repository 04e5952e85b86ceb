"""What a caller may read: views over files. The list of files is the grant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ViewKind = Literal["parquet", "csv", "duckdb_table"]
#: A buffer of DuckDB's CSV reader, one for each thread, where the view says nothing: with its own 32 MB two scans
#: fill a worker. It must hold the longest line, which DuckDB bounds at 2 MB.
CSV_BUFFER_BYTES = 8 * 1024 * 1024

Option = str | int | float | bool | None | list[str] | dict[str, str]


@dataclass(frozen=True)
class View:
    """One table as the agent's SQL sees it.

    `name` is the table's id, matched without regard to case. `paths` are absolute paths of existing files, never globs;
    it may be a function, which is then called only when the SQL reads this view. Every path listed becomes readable for
    the one call, and no other.

    kind `parquet` and `csv`: `options` are named arguments of DuckDB's `read_parquet` and `read_csv`
    (`{"hive_partitioning": True, "union_by_name": True}`, `{"delim": ";", "columns": {"a": "INTEGER"}}`).
    kind `duckdb_table`: `paths[0]` is the DuckDB file and `source_table` (in `source_schema`) a table or view in it;
    further paths are files that the view reads. `columns`, where given, are the only columns the agent sees.
    """

    name: str
    kind: ViewKind
    paths: Sequence[str] | Callable[[], Sequence[str]]
    options: Mapping[str, Option] = field(default_factory=dict)
    columns: Sequence[str] | None = None
    source_table: str = ""
    source_schema: str = "main"

    def files(self) -> list[str]:
        """The files that reading this view needs, listed now."""
        return list(self.paths() if callable(self.paths) else self.paths)

    def as_message(self) -> dict[str, Any]:
        """What the worker process is told, JSON-ready."""
        return {
            "name": self.name,
            "kind": self.kind,
            "paths": self.files(),
            "options": dict(self.options),
            "columns": None if self.columns is None else list(self.columns),
            "source_table": self.source_table,
            "source_schema": self.source_schema,
        }


def identifier(name: str) -> str:
    """`name` as a quoted DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Option) -> str:
    """`value` as a DuckDB literal."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "NULL"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"


def attach_statement(path: str, database: str) -> str:
    """The statement that opens a DuckDB file for reading under a name; once for each file of an instance."""
    return f"ATTACH {literal(path)} AS {identifier(database)} (READ_ONLY)"


def create_statement(view: View, database: str = "") -> str:
    """The statement that makes this view; `database` is the name under which its DuckDB file is attached."""
    if view.kind == "duckdb_table":
        relation = ".".join(identifier(part) for part in (database, view.source_schema, view.source_table))
    else:
        defaults: dict[str, Option] = {"buffer_size": CSV_BUFFER_BYTES} if view.kind == "csv" else {}
        named = {**defaults, **view.options}.items()
        options = "".join(f", {identifier(name)} := {literal(value)}" for name, value in named)
        relation = f"read_{view.kind}({literal(view.files())}{options})"
    columns = "*" if view.columns is None else ", ".join(identifier(column) for column in view.columns)
    return f"CREATE VIEW {identifier(view.name)} AS SELECT {columns} FROM {relation}"  # noqa: S608 - quoted parts only


def probe_statement(view: View) -> str:
    """A statement that opens the files of the view and reads no row."""
    return f"SELECT 1 FROM {identifier(view.name)} LIMIT 0"  # noqa: S608 - a quoted name only
