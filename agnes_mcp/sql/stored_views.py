"""Whether a view stored in a DuckDB file reads that file alone.

The view's text is another person's. It is parsed by DuckDB, never bound, and walked against positive lists: every table
is one of the same file or a CTE in scope, table functions make rows of their arguments only, and the file defines no
macro, which could hide any function. What is not understood is not closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MAX_DEPTH = 16
_MAX_SQL_CHARS = 100_000
_ROW_MAKERS = frozenset({"unnest", "range", "generate_series"})
#: Nodes without a class, by their type: queries, tables in FROM, and what modifies them.
_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"})
_OTHERS = frozenset(
    {
        "JOIN",
        "SUBQUERY",
        "EMPTY",
        "EMPTY_FROM",
        "EXPRESSION_LIST",
        "PIVOT",
        "ORDER_MODIFIER",
        "LIMIT_MODIFIER",
        "LIMIT_PERCENT_MODIFIER",
        "DISTINCT_MODIFIER",
        "ASCENDING",
        "DESCENDING",
        "ORDER_DEFAULT",
    }
)


class _Open(Exception):  # noqa: N818 - not an error: the answer no
    """The view may read something else."""


def closed_over(cursor: DuckDBPyConnection, database: str, schema: str, view: str) -> bool:
    """Whether the view, and every view that it reads, reads tables of its own database only."""
    if cursor.execute(
        "SELECT 1 FROM duckdb_functions() WHERE database_name = ? AND NOT internal LIMIT 1", [database]
    ).fetchone():
        return False
    try:
        _Walk(cursor, database).view(schema, view, 0)
    except (_Open, RecursionError):
        return False
    return True


class _Walk:
    def __init__(self, cursor: DuckDBPyConnection, database: str) -> None:
        self._cursor, self._database = cursor, database
        self._seen: set[tuple[str, str]] = set()

    def view(self, schema: str, name: str, depth: int) -> None:
        if (schema, name) in self._seen:
            return
        if depth > _MAX_DEPTH:
            raise _Open
        self._seen.add((schema, name))
        row = self._cursor.execute(
            "SELECT sql FROM duckdb_views() WHERE database_name = ? AND schema_name = ? AND view_name = ?",
            [self._database, schema, name],
        ).fetchone()
        if row is None or len(row[0]) > _MAX_SQL_CHARS:
            raise _Open
        self._walk(self._tree(_select_of(str(row[0]))), frozenset(), schema, depth)

    def _tree(self, select: str) -> Any:
        row = self._cursor.execute("SELECT json_serialize_sql(?)", [select]).fetchone()
        tree: dict[str, Any] = json.loads(str(row[0])) if row else {"error": True}
        if tree.get("error") or len(tree.get("statements", ())) != 1:
            raise _Open
        return tree["statements"][0]

    def _walk(self, node: Any, ctes: frozenset[str], schema: str, depth: int) -> None:
        if isinstance(node, list):
            for item in node:
                self._walk(item, ctes, schema, depth)
        elif isinstance(node, dict):
            self._check(node, ctes, schema, depth)
            for name, bodies in _ctes(node):
                self._walk(bodies, ctes, schema, depth)  # in which its own name is a table, unless it is recursive
                ctes = ctes | {name}
            for key, child in node.items():
                if key != "cte_map":
                    self._walk(child, ctes, schema, depth)

    def _check(self, node: dict[str, Any], ctes: frozenset[str], schema: str, depth: int) -> None:
        kind = node.get("type")
        if "class" in node:
            if node["class"] == "FUNCTION" and (node.get("schema") or node.get("catalog")):
                raise _Open
            return
        if not isinstance(kind, str) or kind in _QUERIES or kind in _OTHERS or kind.endswith("_TYPE_INFO"):
            return
        if kind == "TABLE_FUNCTION":
            if str(node.get("function", {}).get("function_name", "")).lower() not in _ROW_MAKERS:
                raise _Open
        elif kind == "BASE_TABLE":
            self._table(node, ctes, schema, depth)
        else:
            raise _Open

    def _table(self, node: dict[str, Any], ctes: frozenset[str], schema: str, depth: int) -> None:
        name, said = str(node["table_name"]), str(node["schema_name"])
        if node.get("catalog_name") or node.get("at_clause"):
            raise _Open
        if not said and name.casefold() in ctes:
            return
        for place in (said,) if said else (schema, "main"):
            found = self._cursor.execute(
                "SELECT 'table', schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 "
                "AND lower(schema_name) = lower($2) AND lower(table_name) = lower($3) "
                "UNION ALL SELECT 'view', schema_name, view_name FROM duckdb_views() WHERE database_name = $1 "
                "AND lower(schema_name) = lower($2) AND lower(view_name) = lower($3) AND NOT internal",
                [self._database, place, name],
            ).fetchone()
            if found is not None:
                if found[0] == "view":
                    self.view(str(found[1]), str(found[2]), depth + 1)
                return
        raise _Open


def _ctes(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The CTEs that this node defines, in order, with their bodies."""
    for entry in (node.get("cte_map") or {}).get("map", ()):
        yield str(entry["key"]).casefold(), entry["value"]
    if node.get("type") == "RECURSIVE_CTE_NODE":  # whose two sides, which are walked with the node, may name it
        yield str(node.get("cte_name", "")).casefold(), None


def _select_of(sql: str) -> str:
    """What stands behind the first AS of a CREATE VIEW. Raises `_Open`."""
    import duckdb

    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    for offset, kind in tokens:
        if kind == duckdb.token_type.keyword and text[offset : offset + 3].lower() in (b"as ", b"as(", b"as\n"):
            return text[offset + 2 :].decode().strip().rstrip(";")
    raise _Open
