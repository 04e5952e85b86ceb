"""Step 7: the finished statement, looked at again as the engine will read it."""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlglot import Dialect as SqlglotDialect
from sqlglot.errors import SqlglotError

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate.dialects import RULES
from agnes_mcp.sql.predicate.lexemes import cut
from agnes_mcp.sql.predicate.refusals import refuse

if TYPE_CHECKING:
    import duckdb

# What DuckDB must find in the statement beside its FROM, its columns and its condition.
_NODE_PARTS: dict[str, Any] = {"cte_map": {"map": []}, "having": None, "sample": None, "qualify": None}
_ONCE = ("SEMICOLON", "SELECT", "WHERE")
_parsing = threading.Lock()


def confirm_skeleton(sql: str, *, dialect: Dialect, prefix_sql: str, predicate_sql: str, suffix_sql: str) -> None:
    """Raise `disallowed_node` unless `sql` is `prefix_sql` (SELECT … FROM one table), WHERE, the predicate in
    brackets, and `suffix_sql` (the server's own clauses), and nothing else, in the tokens of the dialect; for DuckDB
    in its own grammar too."""
    _confirm_tokens(sql, dialect, prefix_sql, predicate_sql, suffix_sql)
    if dialect == "duckdb":
        _confirm_duckdb(sql, prefix_sql, predicate_sql, suffix_sql)


def _confirm_tokens(sql: str, dialect: Dialect, prefix_sql: str, predicate_sql: str, suffix_sql: str) -> None:
    predicate = _tokens(predicate_sql, dialect)
    expected = [
        *_tokens(prefix_sql, dialect),
        ("WHERE", "WHERE"),
        ("L_PAREN", "("),
        *predicate,
        ("R_PAREN", ")"),
        *_tokens(suffix_sql, dialect),
    ]
    if _tokens(sql, dialect) != expected:
        raise _broken("its tokens are not those that were put together")
    depth = 0
    for kind, _ in predicate:
        depth += {"L_PAREN": 1, "R_PAREN": -1}.get(kind, 0)
        if depth < 0:
            raise _broken("the predicate closes a bracket that it did not open")
    if depth or not predicate or any(kind in _ONCE for kind, _ in predicate):
        raise _broken("the predicate is not one condition")
    words = {lexeme.value for lexeme in cut(predicate_sql, dialect) if lexeme.kind == "word"}
    if not words <= RULES[dialect].words:
        raise _broken("the predicate holds a word that no predicate has")
    if [kind for kind, _ in expected if kind in _ONCE] != ["SELECT", "WHERE"]:
        raise _broken("it is not one SELECT with one WHERE")


def _tokens(sql: str, dialect: Dialect) -> list[tuple[str, str]]:
    try:
        tokens = SqlglotDialect.get_or_raise(dialect).tokenize(sql)
    except SqlglotError as error:
        raise _broken("it cannot be cut into tokens") from error
    if any(token.comments for token in tokens):
        raise _broken("it holds a comment")
    return [(token.token_type.name, token.text) for token in tokens]


def _confirm_duckdb(sql: str, prefix_sql: str, predicate_sql: str, suffix_sql: str) -> None:
    whole = _select(sql)
    bare = _select(f"{prefix_sql}\n{suffix_sql}")
    alone = _select(f"SELECT 1 FROM t WHERE (\n{predicate_sql}\n)")  # noqa: S608 - parsed only, never run
    if whole["from_table"]["type"] != "BASE_TABLE" or any(whole[key] != value for key, value in _NODE_PARTS.items()):
        raise _broken("it reads more than one table")
    if whole["where_clause"] is None or whole["where_clause"] != alone["where_clause"]:
        raise _broken("its condition is not the predicate")
    if {**whole, "where_clause": None} != bare:
        raise _broken("the predicate changed a clause beside it")


def _select(sql: str) -> dict[str, Any]:
    """The one SELECT in `sql` as DuckDB's parser sees it, without positions. Binds nothing, runs nothing."""
    with _parsing:
        row = _parser().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    parsed: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if parsed["error"] or len(parsed["statements"]) != 1:
        raise _broken("DuckDB does not read it as one SELECT")
    node: dict[str, Any] = _without_positions(parsed["statements"][0]["node"])
    if node["type"] != "SELECT_NODE":
        raise _broken("it is not a plain SELECT")
    return node


def _without_positions(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_positions(value) for key, value in tree.items() if key != "query_location"}
    return [_without_positions(value) for value in tree] if isinstance(tree, list) else tree


@lru_cache(maxsize=1)
def _parser() -> duckdb.DuckDBPyConnection:
    """DuckDB's parser: an instance without data, without access, locked. Not safe for two threads at once."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "256MB", "temp_directory": ""})
    connection.execute("LOAD json")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")
    return connection


def _broken(reason: str) -> PredicateError:
    message = f"The statement would not be what was meant: {reason}."
    return refuse("disallowed_node", message, "Write the predicate more simply.")
