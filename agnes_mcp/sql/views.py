"""What a statement may read, as DuckDB sees it: views over files. The list of files is the grant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import names
from agnes_mcp.sql.duckdb_lines import compares_blobs_wrongly
from agnes_mcp.sql.duckdb_types import MAX_PARQUET_LISTS, bound, depth_of
from agnes_mcp.sql.names import identifier, literal
from agnes_mcp.untrusted import is_plain, tidy

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Columns above which a view is wide: there the pragma and a new binding take as long as each other, some 30 ms.
_WIDE = 2_000
#: So many files are opened sooner than the catalog's views, of which DuckDB's own are hundreds, are looked through.
_FEW_FILES = 8
#: Levels in one another that Arrow's interface hands on: 64, less what a result may put around a column.
_MAX_LEVELS = 60

#: Columns above which a view shows a statement only those that it names: a view of fewer is bound as quickly whole.
_MANY_COLUMNS = 500

#: What helps with a column that is left out.
WRITTEN_ANEW = "Whoever keeps this instance can write the column anew: flatter, with fewer digits, or as text."

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
    further paths are files that the view reads. `columns`, where given, are the only columns that are seen; those that
    `misread` names, with the reason, are left out.
    """

    name: str
    kind: ViewKind
    paths: Sequence[str] | Callable[[], Sequence[str]]
    options: Mapping[str, names.Literal] = field(default_factory=dict)
    columns: Sequence[str] | None = None
    source_table: str = ""
    source_schema: str = "main"
    misread: Mapping[str, str] = field(default_factory=dict)

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
            "misread": dict(self.misread),
            "source_table": self.source_table,
            "source_schema": self.source_schema,
        }


def attach_statement(path: str, database: str) -> str:
    """The statement that opens a DuckDB file for reading under a name; once for each file of an instance."""
    return f"ATTACH {literal(path)} AS {identifier(database)} (READ_ONLY)"


#: What a statement may name in lower case, asked only where a view has many columns; None: any column there is.
Names = Callable[[], Set[str] | None]


def make_view(
    connection: DuckDBPyConnection, view: View, database: str = "", statement_names: Names = lambda: None
) -> dict[str, str]:
    """Create the view, or replace it; `database` is the name under which its DuckDB file is attached. Returns the
    columns that it leaves out as they are misread or nested too deep, each with the reason.

    Columns have names that can be read and written: without hidden characters, none empty, each its own. Of very many
    those are left out, unsaid, that no name in `statement_names` can mean. Raises what DuckDB raises, also where a name
    is not UTF-8, and `unsupported_format` where no column can be read.
    """
    plain = relation = relation_of(view, database)
    quick = _binds_quickly(view)
    if not quick:
        connection.execute(_statement(view.name, plain))
    found = bound(connection, f"FROM {plain}")[1] if quick else _columns(connection, view)
    given = [name for name, _ in found]
    names_now = readable_names(given)
    unread = _too_deep(view, [(name, kind) for name, (_, kind) in zip(names_now, found, strict=True)])
    if view.misread:
        misread = {name.casefold(): reason for name, reason in view.misread.items()}
        folded = zip(names_now, map(str.casefold, given), strict=True)
        unread |= {name: misread[written] for name, written in folded if written in misread}
    if names_now != given:
        relation = f"{relation} AS named({', '.join(map(identifier, names_now))})"
    offered = [name for name in (names_now if view.columns is None else view.columns) if name not in unread]
    if unread and not offered:
        raise _none_can_be_read(view, unread)
    named = _named(offered, statement_names)
    copies = _copies(connection, view, list(zip(names_now, found, strict=True))) if view.kind == "parquet" else {}
    copied = [f"{copy} AS {identifier(name)}" for name, copy in copies.items() if named is None or name in named]
    if copied:
        relation = f"(SELECT * REPLACE ({', '.join(copied)}) FROM {relation})"  # noqa: S608 - quoted parts only
    if named is None and (unread or view.columns is not None):
        named = offered
    if quick or named is not None or relation != plain:
        connection.execute(_statement(view.name, relation, named))
    return unread


def _named(columns: Sequence[str], statement_names: Names) -> list[str] | None:
    """Of very many columns those that a statement may name, or the first, since a view has one; None: all of them."""
    held = statement_names() if len(columns) > _MANY_COLUMNS else None
    if held is None:
        return None
    return [column for column in columns if column.casefold() in held] or list(columns[:1])


def _too_deep(view: View, columns: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Those that DuckDB would read for hours, or Arrow could not hand on; to read those beside them takes no longer."""
    most_lists = MAX_PARQUET_LISTS if view.kind == "parquet" else _MAX_LEVELS
    kinds = {kind for _, kind in columns}  # few, of thousands of columns
    nested = {kind for kind in kinds if kind.count("[") + kind.count("(") > most_lists // 2}  # a map counts twice
    deep: dict[str, str] = {}
    for name, kind in columns if nested else ():
        if kind not in nested:
            continue
        levels, lists = depth_of(kind)
        if levels > _MAX_LEVELS or lists > most_lists:
            found, most = (f"{levels} levels", _MAX_LEVELS) if levels > _MAX_LEVELS else (f"{lists} lists", most_lists)
            deep[name] = f"it has {found} in one another, and no more than {most} are read"
    return deep


def _none_can_be_read(view: View, unread: Mapping[str, str]) -> AgnesError:
    name, reason = next(iter(unread.items()))
    return AgnesError(
        "unsupported_format",
        f"The table {view.name!r} cannot be read: none of its columns can. Of {tidy(name)[:80]!r}: {reason}.",
        WRITTEN_ANEW,
    )


def _statement(name: str, relation: str, columns: Sequence[str] | None = None) -> str:
    seen = "*" if columns is None else ", ".join(identifier(column) for column in columns)
    return f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT {seen} FROM {relation}"  # noqa: S608 - quoted parts only


def readable_names(given: Sequence[str]) -> list[str]:
    """The names without what nobody sees; one that is empty is called by its place, one that is taken is numbered."""
    if all(given) and is_plain("".join(given)):
        return list(given)
    taken = {name.casefold() for name in given if name and tidy(name) == name}
    names_now = list[str]()
    for place, name in enumerate(given, start=1):
        free = seen = tidy(name) or f"column_{place}"
        number = 2
        while free != name and free.casefold() in taken:
            free, number = f"{seen}_{number}", number + 1
        taken.add(free.casefold())
        names_now.append(free)
    return names_now


def relation_of(view: View, database: str = "") -> str:
    """What the view reads, as it stands in FROM."""
    if view.kind == "duckdb_table":
        return identifier(database, view.source_schema, view.source_table)
    options = "".join(f", {identifier(name)} := {literal(value)}" for name, value in view.options.items())
    return f"read_{view.kind}({literal(view.files())}{options})"


def _copies(
    connection: DuckDBPyConnection, view: View, columns: Sequence[tuple[str, tuple[str, str]]]
) -> dict[str, str]:
    """The columns of a view over Parquet that this DuckDB compares wrongly, each with an expression of its values.

    A comparison with a constant is taken down into the file, what is computed is not; a copy is the cheapest
    computation. Of BLOBs, one that is not plain ASCII finds nothing in a dictionary. Of decimals, it is compared with
    bounds that old writers took from their bytes, as if each byte had a sign.
    """
    copies: dict[str, str] = {}
    if compares_blobs_wrongly():
        copies = {name: f"{identifier(name)} || ''::BLOB" for name, (_, kind) in columns if kind == "BLOB"}
    # Of a record each field is compared so; of what a list has in it nothing is taken down.
    decimals = {written: name for name, (written, kind) in columns if kind[-1] == ")" and "DECIMAL(" in kind}
    if decimals:
        paths = _with_old_bounds(connection, view.files())
        misjudged = paths | {path.partition(", ")[0] for path in paths}
        # Whatever else DuckDB computes of one column, it computes of its bounds too.
        copies |= {name: f"TRY({identifier(name)})" for written, name in decimals.items() if written in misjudged}
    return copies


def _with_old_bounds(connection: DuckDBPyConnection, paths: Sequence[str]) -> set[str]:
    """The columns of bytes that have only the bounds that Parquet's format has given up, `min` and `max`. The writers
    of nearly every file, DuckDB and Arrow, have never left it at these, which is asked first."""
    named = "FROM parquet_file_metadata(?) SELECT file_name WHERE created_by IS NULL OR NOT created_by SIMILAR TO ?"
    files = connection.execute(named, [list(paths), "(DuckDB|parquet-cpp-arrow) .*"]).fetchall()
    if not files:
        return set()
    bounded = "stats_min IS NOT NULL AND stats_min_value IS NULL AND type IN ('FIXED_LEN_BYTE_ARRAY', 'BYTE_ARRAY')"
    found = connection.execute(
        f"FROM parquet_metadata(?) SELECT DISTINCT path_in_schema WHERE {bounded}", [[path for (path,) in files]]
    ).fetchall()
    return {str(path) for (path,) in found}


def _binds_quickly(view: View) -> bool:
    """Whether its columns are asked for before it is made: where few files are opened for them, and none is read."""
    return view.kind in ("parquet", "duckdb_table") and len(view.files()) <= _FEW_FILES


def _columns(connection: DuckDBPyConnection, view: View) -> list[tuple[str, str]]:
    """Names and types of a view that has been made, as they were bound then."""
    # A quote is for the pragma, whatever the quoting, that of a dotted name.
    if '"' in view.name or _is_wide(connection, view.name):
        return bound(connection, f"FROM {identifier(view.name)}")[1]
    found = connection.execute(f"PRAGMA table_info({literal(identifier(view.name))})").fetchall()
    return [(str(column), str(kind)) for _, column, kind, *_ in found]


def _is_wide(connection: DuckDBPyConnection, name: str) -> bool:
    """Whether to ask once more is quicker than the pragma, whose time grows with the square of the columns."""
    counted = connection.execute(
        "SELECT max(column_count) FROM duckdb_views() WHERE view_name = ? AND NOT internal AND NOT temporary", [name]
    ).fetchone()
    return counted is not None and (counted[0] or 0) > _WIDE


def probe_statement(view: View) -> str:
    """A statement that opens the files of the view and reads no row."""
    return f"SELECT 1 FROM {identifier(view.name)} LIMIT 0"  # noqa: S608 - a quoted name only
