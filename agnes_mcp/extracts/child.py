"""A process that says what a DuckDB file of somebody else's holds, without running any SQL that is stored in it.

Started by `inspection` as `python -I -m agnes_mcp.extracts.child`; the path comes on standard input, one JSON object
leaves on standard output. A file that makes the engine crash or eat memory ends this process and no other.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.processes import confinement
from agnes_mcp.sql import duckdb_trees
from agnes_mcp.sql.names import literal
from agnes_mcp.sql.stored_views import StoredViews, is_computed

if TYPE_CHECKING:
    import duckdb

MEMORY_BYTES = 512 * 2**20
CPU_S = 20
MAX_ROWS = 10_000
MAX_TEXT = 2_000
_META = ("table_name", "description", "rows", "size_bytes", "query_mode")
_ATTACH = ("alias", "extension", "url", "token_env")
_PLACES = ("table_name", "project", "dataset", "source_table", "entity_type")
_IDENTIFIER = r'(?:[A-Za-z_]\w*|"(?:[^"]|"")+")'
_VIEW = re.compile(rf"CREATE VIEW (?:{_IDENTIFIER}\.)*{_IDENTIFIER} AS (SELECT .*?);?\s*", re.DOTALL)


def main() -> None:
    path = json.load(sys.stdin)["path"]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    confinement.confine_process()
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": f"{MEMORY_BYTES // 2}B",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "temp_directory": "",
        },
    )
    confinement.limit_resources(MEMORY_BYTES)
    confinement.limit_cpu(CPU_S)
    try:
        found = inspect(connection, path)
    except (duckdb.Error, MemoryError) as error:
        found = {"problem": type(error).__name__}
    json.dump(found, answers)
    answers.flush()


def inspect(connection: duckdb.DuckDBPyConnection, path: str) -> dict[str, Any]:
    """What the file holds. The instance may open this very file, and look whether there is a log, and nothing else."""
    connection.execute(f"SET allowed_paths = {literal([path, f'{path}.wal'])}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    connection.execute(f"ATTACH {literal(path)} AS extract (READ_ONLY)")
    tables = dict(_rows(connection, _TABLES))
    views = dict(_rows(connection, _VIEWS))
    macros = _rows(connection, "SELECT DISTINCT function_name FROM duckdb_functions() WHERE database_name = 'extract'")
    reader, stored = Reader(connection), StoredViews(connection, "extract")
    return {
        "meta": _stored(connection, tables, "_meta", _META),
        "attach": _stored(connection, tables, "_remote_attach", _ATTACH),
        "places": _stored(connection, tables, "_places", _PLACES),
        "tables": {name: not is_computed(sql) for name, sql in tables.items()},
        "views": {name: reader.relation(sql) for name, sql in views.items()},
        "openings": {name: stored.opening("main", name) for name in views},
        "macros": sorted(str(name).lower() for (name,) in macros),
    }


_TABLES = "SELECT table_name, sql FROM duckdb_tables() WHERE database_name = 'extract' AND schema_name = 'main'"
_VIEWS = "SELECT view_name, sql FROM duckdb_views() WHERE database_name = 'extract' AND schema_name = 'main'"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Any]:
    return connection.execute(f"{sql} LIMIT {MAX_ROWS}").fetchall()


def _stored(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, str], name: str, wanted: tuple[str, ...]
) -> list[dict[str, Any]] | None:
    """The rows of a stored table; None where there is none, or only a view of that name. A column may be missing."""
    if name not in tables:
        return None
    described = connection.execute(f'DESCRIBE extract.main."{name}"').fetchall()
    there = {str(column[0]).lower() for column in described}
    columns = ", ".join(f'CAST("{column}" AS VARCHAR)[:{MAX_TEXT}]' if column in there else "NULL" for column in wanted)
    sql = f'SELECT {columns} FROM extract.main."{name}"'  # noqa: S608 - names of ours
    return [dict(zip(wanted, row, strict=True)) for row in _rows(connection, sql)]


class Reader:
    """Reads views as text: DuckDB's parser gives the tree, and nothing of it is bound or run."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._plain = self._tree("SELECT * FROM t")
        self._plain.pop("from_table")

    def relation(self, sql: str) -> dict[str, Any] | None:
        """What `SELECT * FROM …` of this view reads: a `table` by its parts, or a `function` of constants.

        None for a view that does anything else.
        """
        view = _VIEW.fullmatch(sql)
        tree = self._tree(view[1]) if view else {}
        source = tree.pop("from_table", {})
        if tree != self._plain or source.get("alias") or source.get("sample") or source.get("column_name_alias"):
            return None
        if source["type"] == "BASE_TABLE" and not source.get("at_clause"):
            return {"table": [source["catalog_name"], source["schema_name"], source["table_name"]]}
        if source["type"] == "TABLE_FUNCTION" and source.get("with_ordinality") == "WITHOUT_ORDINALITY":
            return _function(source["function"])
        return None

    def _tree(self, sql: str) -> dict[str, Any]:
        parsed = duckdb_trees.parsed(self._connection, sql, positions=False)
        if parsed["error"] or len(parsed["statements"]) != 1:
            return {}
        tree: dict[str, Any] = parsed["statements"][0]["node"]
        return tree


def _function(function: dict[str, Any]) -> dict[str, Any] | None:
    if function.get("schema") not in ("", "main") or function.get("catalog") not in ("", "system"):
        return None
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    for child in function["children"]:
        if child.get("type") == "COMPARE_EQUAL" and child["left"].get("type") == "COLUMN_REF":
            name, value = ".".join(child["left"]["column_names"]).lower(), _constant(child["right"])
            options[name] = value
        else:
            value = _constant(child)
            arguments.append(value)
        if value is None:
            return None
    return {"function": function["function_name"].lower(), "arguments": arguments, "options": options}


def _constant(node: dict[str, Any]) -> Any:
    """A text, a truth value or a list of texts; None for anything that would have to be evaluated."""
    if node.get("type") == "OPERATOR_CAST" and node["cast_type"]["id"] == "BOOLEAN":
        said = _constant(node["child"])
        return {"t": True, "true": True, "f": False, "false": False}.get(str(said).lower())
    if node.get("type") == "FUNCTION" and node.get("function_name") == "list_value":
        values = [_constant(child) for child in node["children"]]
        return None if None in values else values
    if node.get("type") != "VALUE_CONSTANT" or node["value"]["is_null"]:
        return None
    value = node["value"]["value"]
    return value if isinstance(value, str | bool) else None


if __name__ == "__main__":
    main()
