"""Whether a view stored in a DuckDB file, or what a column of it is computed by, reads that file alone.

The view's text is another person's. It is parsed by DuckDB, never bound, and walked against positive lists: every table
is one of the same file or a CTE in scope, every function is one that tells nothing of the process, or a macro of the
file whose own text is walked in the same way, and table functions make rows of their arguments only. What is not
understood is not closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agnes_mcp.sql import duckdb_trees
from agnes_mcp.sql.duckdb_functions import APART, BOUNDED, FUNCTIONS, OPERATORS, SERIES, TABLE_FUNCTIONS
from agnes_mcp.sql.names import identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MAX_DEPTH = 16
_MAX_SQL_CHARS = 100_000
_CALLABLE = FUNCTIONS | OPERATORS | SERIES | frozenset(BOUNDED) | APART
#: Names that can be told without telling a place of this machine.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'")
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


_VIEWS = "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE database_name = ? AND NOT internal"
_TABLES = "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = ?"
_COMPUTED = (
    "SELECT column_default FROM duckdb_columns() "
    "WHERE database_name = ? AND schema_name = ? AND table_name = ? AND column_default IS NOT NULL"
)
_MACROS = (
    "SELECT function_name, schema_name, function_type, macro_definition FROM duckdb_functions() "
    "WHERE database_name = ? AND NOT internal"
)


class _Open(Exception):  # noqa: N818 - not an error: the answer no
    """The view may read something else; the text says what it does."""


def closed_over(cursor: DuckDBPyConnection, database: str, schema: str, view: str) -> bool:
    """Whether the view, and every view and macro that it reads, reads tables of its own database only; of a table,
    whether what its columns are computed by tells of nothing else either."""
    return not StoredViews(cursor, database).opening(schema, view)


class StoredViews:
    """What an attached file defines, read once. `cursor` parses, and binds nothing.

    The file must not be on the search path: its macros would hide the functions that are asked here.
    """

    def __init__(self, cursor: DuckDBPyConnection, database: str) -> None:
        self._cursor, self._database = cursor, database
        self.views = {_key(*row[:2]): row for row in self._rows(_VIEWS, database)}
        self.tables = {_key(*row[:2]): str(row[2]) for row in self._rows(_TABLES, database)}
        self.macros: dict[str, list[tuple[str, str, str]]] = {}
        for name, *macro in self._rows(_MACROS, database):
            self.macros.setdefault(_folded(str(name)), []).append((str(macro[0]), str(macro[1]), str(macro[2] or "")))

    def _rows(self, sql: str, database: str) -> list[tuple[Any, ...]]:
        return self._cursor.execute(sql, [database]).fetchall()

    def opening(self, schema: str, view: str) -> str:
        """What keeps the view from being closed over its own database, as in "it calls read_text"; "" where it is.

        Names no file, and nothing but identifiers.
        """
        try:
            _Walk(self).stored(schema, view)
        except _Open as found:
            return str(found)
        except RecursionError:
            return "it is nested too deeply"
        return ""

    def computed(self, schema: str, table: str) -> list[str]:
        """What the columns of that table are computed by, or have as a default."""
        rows = self._cursor.execute(_COMPUTED, [self._database, schema, table]).fetchall()
        return [str(expression) for (expression,) in rows]

    def tree(self, select: str) -> Any:
        """The one statement of that text, as the parser sees it; None where it is not one."""
        tree = duckdb_trees.parsed(self._cursor, select)
        return None if tree.get("error") or len(tree.get("statements", ())) != 1 else tree["statements"][0]

    def is_engines(self, name: str) -> bool:
        """Whether DuckDB has a function of that name too."""
        sql = "SELECT 1 FROM duckdb_functions() WHERE database_name = 'system' AND lower(function_name) = ? LIMIT 1"
        return self._cursor.execute(sql, [name]).fetchone() is not None


def _key(schema: object, name: object) -> tuple[str, str]:
    """Names are matched without regard to case, of ASCII only, as DuckDB does."""
    return _folded(str(schema)), _folded(str(name))


def _folded(name: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in name)


def is_computed(table_sql: str) -> bool:
    """Whether a column of this CREATE TABLE is an expression, evaluated by whoever reads it."""
    return "GENERATED ALWAYS" in _QUOTED.sub("", table_sql)


class _Walk:
    """One view, and what it stands on."""

    def __init__(self, stored: StoredViews) -> None:
        self._stored = stored
        self._seen: set[tuple[str, str, str]] = set()

    def stored(self, schema: str, name: str) -> None:
        """A view, or a table."""
        table = self._stored.tables.get(_key(schema, name))
        if table is None:
            self.view(schema, name, 0)
        elif is_computed(table):
            for expression in self._stored.computed(schema, name):
                self._text(f"SELECT {expression}", schema, 0)

    def view(self, schema: str, name: str, depth: int) -> None:
        row = self._stored.views.get(_key(schema, name))
        if row is None:
            raise _Open("there is no such view")
        if self._is_new("view", schema, name, depth):
            self._text(_select_of(str(row[2])), schema, depth)

    def _is_new(self, kind: str, schema: str, name: str, depth: int) -> bool:
        if depth > _MAX_DEPTH:
            raise _Open(f"it stands on more than {_MAX_DEPTH} others")
        place = (kind, _folded(schema), _folded(name))
        new = place not in self._seen
        self._seen.add(place)
        return new

    def _text(self, select: str, schema: str, depth: int) -> None:
        if len(select) > _MAX_SQL_CHARS:
            raise _Open("its text is too long")
        statement = self._stored.tree(select)
        if statement is None:
            raise _Open("it is not one SELECT")
        self._walk(statement, frozenset(), schema, depth)

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
            if "function_name" in node:
                self._function(node, schema, depth)
            return
        if not isinstance(kind, str) or kind in _QUERIES or kind in _OTHERS or kind.endswith("_TYPE_INFO"):
            return
        if kind == "TABLE_FUNCTION":
            called = _folded(str(node.get("function", {}).get("function_name", "")))
            if called not in TABLE_FUNCTIONS and not self._macros(called, schema):
                raise _Open(_calls(called))
        elif kind == "BASE_TABLE":
            self._table(node, ctes, schema, depth)
        else:
            raise _Open("it has a part that is not understood")

    def _function(self, node: dict[str, Any], schema: str, depth: int) -> None:
        """A function of the list; or a macro of the file that hides none which is not on it."""
        name, said = _folded(str(node["function_name"])), _folded(str(node.get("schema") or ""))
        if node.get("catalog") or said not in ("", "main", _folded(schema)):
            raise _Open(_calls(name))
        macros = self._macros(name, schema)
        if name not in _CALLABLE and (not macros or self._stored.is_engines(name)):
            raise _Open(_calls(name))
        for number, (kind, definition) in enumerate(macros):
            if self._is_new(f"macro {number}", schema, name, depth):
                text = definition if kind == "table_macro" else f"SELECT {definition}"
                self._text(text, schema, depth + 1)

    def _macros(self, name: str, schema: str) -> list[tuple[str, str]]:
        """Kind and text of each macro that the name may stand for."""
        places = ("main", _folded(schema))
        return [(kind, text) for place, kind, text in self._stored.macros.get(name, []) if _folded(place) in places]

    def _table(self, node: dict[str, Any], ctes: frozenset[str], schema: str, depth: int) -> None:
        name, said = str(node["table_name"]), str(node["schema_name"])
        if node.get("catalog_name") or node.get("at_clause"):
            raise _Open(f"it reads {_told(node.get('catalog_name'))}, which is not in its file")
        if not said and _folded(name) in ctes:
            return
        for place in (said,) if said else (schema, "main"):
            view = self._stored.views.get(_key(place, name))
            if view is not None:
                self.view(str(view[0]), str(view[1]), depth + 1)
                return
            table = self._stored.tables.get(_key(place, name))
            if table is not None:
                if is_computed(table):
                    raise _Open(f"a column of {_told(name)}, which it reads, is computed")
                return
        raise _Open(f"it reads {_told(name)}, which is no table of its file")


def _told(name: object) -> str:
    return identifier(str(name)) if _PLAIN.fullmatch(str(name)) else "a file or place"


def _calls(name: str) -> str:
    return f"it calls {name if _PLAIN.fullmatch(name) else 'a function'}, which may tell of more than its file"


def _ctes(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The CTEs that this node defines, in order, with their bodies."""
    for entry in (node.get("cte_map") or {}).get("map", ()):
        yield _folded(str(entry["key"])), entry["value"]
    if node.get("type") == "RECURSIVE_CTE_NODE":  # whose two sides, which are walked with the node, may name it
        yield _folded(str(node.get("cte_name", ""))), None


def _select_of(sql: str) -> str:
    """What stands behind the first AS of a CREATE VIEW. Raises `_Open`."""
    import duckdb

    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    for offset, kind in tokens:
        if kind == duckdb.token_type.keyword and text[offset : offset + 3].lower() in (b"as ", b"as(", b"as\n"):
            return text[offset + 2 :].decode().strip().rstrip(";")
    raise _Open("it is not one SELECT")
