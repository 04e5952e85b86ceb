"""Step 7: the finished statement, looked at again as the engine will read it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlglot.errors import SqlglotError

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql import duckdb_trees
from agnes_mcp.sql.predicate.dialects import RULES
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.sql.predicate.second_reading import lexemes_of, tokens, tokens_of

if TYPE_CHECKING:
    import duckdb
    from sqlglot.tokenizer_core import Token

# What DuckDB must find in the statement beside its FROM, its columns and its condition.
_NODE_PARTS: dict[str, Any] = {"cte_map": {"map": []}, "having": None, "sample": None, "qualify": None}
_ONCE = ("SEMICOLON", "SELECT", "WHERE")
_Tokens = list[tuple[str, str]]  # of each its type and its text
_parsing = threading.Lock()
#: A tree takes some forty times the room of its text, and is kept where that is little.
_KEPT_CHARS = 4_000


def confirm_skeleton(sql: str, *, dialect: Dialect, prefix_sql: str, predicate_sql: str, suffix_sql: str) -> None:
    """Raise `disallowed_node` unless `sql` is `prefix_sql` (SELECT … FROM one table), WHERE, the predicate in
    brackets, and `suffix_sql` (the server's own clauses), and nothing else, as DuckDB's own parser reads it or, for
    BigQuery, in its tokens."""
    if sql.rstrip() != f"{prefix_sql}\nWHERE (\n{predicate_sql}\n)\n{suffix_sql}".rstrip():
        raise _broken("it is not what was put together")
    around = f"{prefix_sql}\n{suffix_sql}"  # the same for many a predicate
    keeps = len(around) <= _KEPT_CHARS
    before, after = (_kept_around if keeps else _around)(prefix_sql, suffix_sql, dialect)
    predicate = _tokens(predicate_sql, dialect, tokens_of)
    _confirm_condition(predicate, predicate_sql, dialect)
    if dialect == "duckdb":
        _confirm_duckdb(sql, predicate_sql, (_kept_select if keeps else _select)(around))
    elif _tokens(sql, dialect) != [*before, ("WHERE", "WHERE"), ("L_PAREN", "("), *predicate, ("R_PAREN", ")"), *after]:
        raise _broken("its tokens are not those that were put together")


def _around(prefix_sql: str, suffix_sql: str, dialect: Dialect) -> tuple[_Tokens, _Tokens]:
    before, after = _tokens(prefix_sql, dialect), _tokens(suffix_sql, dialect)
    if [kind for kind, _ in [*before, *after] if kind in _ONCE] != ["SELECT"]:
        raise _broken("it is not one SELECT with one WHERE")
    return before, after


def _confirm_condition(predicate: _Tokens, predicate_sql: str, dialect: Dialect) -> None:
    bare = _without_exists(predicate, dialect)
    depth = 0
    for kind, _ in bare:
        if kind == "L_PAREN":
            depth += 1
        elif kind == "R_PAREN":
            depth -= 1
            if depth < 0:
                raise _broken("the predicate closes a bracket that it did not open")
    if depth or not bare or any(kind in _ONCE for kind, _ in bare):
        raise _broken("the predicate is not one condition")
    words = {lexeme.value for lexeme in lexemes_of(predicate_sql, dialect) if lexeme.kind == "word"}
    if not words <= RULES[dialect].words:
        raise _broken("the predicate holds a word that no predicate has")


_OPENS = ["EXISTS", "L_PAREN", "SELECT", "NUMBER", "FROM", "UNNEST", "L_PAREN"]


def _without_exists(tokens: _Tokens, dialect: Dialect) -> _Tokens:
    """The predicate's tokens, with `EXISTS(` for each `EXISTS(SELECT 1 FROM UNNEST(path) AS name WHERE`; the bracket
    closes where its condition ends. Raises where EXISTS begins anything else."""
    if not any(kind == "EXISTS" for kind, _ in tokens):
        return tokens
    left: _Tokens = []
    at = 0
    while at < len(tokens):
        if tokens[at][0] != "EXISTS":
            left.append(tokens[at])
            at += 1
            continue
        left += tokens[at : at + 2]
        at = _past_unnest(tokens, at, dialect)
        if at == len(tokens) or tokens[at][0] not in ("WHERE", "R_PAREN"):
            raise _broken("EXISTS holds more than a list and a condition")
        at += tokens[at][0] == "WHERE"
    return left


def _past_unnest(tokens: _Tokens, at: int, dialect: Dialect) -> int:
    def take(*kinds: str) -> None:
        nonlocal at
        found = [kind for kind, _ in tokens[at : at + len(kinds)]]
        if found != list(kinds):
            raise _broken("EXISTS holds another query than one over a list")
        at += len(kinds)

    take(*_OPENS)
    take("IDENTIFIER")
    while at < len(tokens) and tokens[at][0] == "DOT":
        take("DOT", "IDENTIFIER")
    take("R_PAREN", "ALIAS", "IDENTIFIER")
    if dialect == "duckdb":
        take("L_PAREN", "IDENTIFIER", "R_PAREN")
    return at


def _tokens(sql: str, dialect: Dialect, cut: Callable[[str, Dialect], list[Token]] = tokens) -> _Tokens:
    try:
        found = cut(sql, dialect)
    except SqlglotError as error:
        raise _broken("it cannot be cut into tokens") from error
    if any(token.comments for token in found):
        raise _broken("it holds a comment")
    return [(token.token_type.name, token.text) for token in found]


def _confirm_duckdb(sql: str, predicate_sql: str, around: dict[str, Any]) -> None:
    whole, alone = _selects(sql, f"SELECT 1 FROM t WHERE (\n{predicate_sql}\n)")  # noqa: S608 - parsed, never run
    if whole["from_table"]["type"] != "BASE_TABLE" or any(whole[key] != value for key, value in _NODE_PARTS.items()):
        raise _broken("it reads more than one table")
    _confirm_queries(whole["where_clause"])
    if whole["where_clause"] is None or whole["where_clause"] != alone["where_clause"]:
        raise _broken("its condition is not the predicate")
    if {**whole, "where_clause": None} != around:
        raise _broken("the predicate changed a clause beside it")


def _confirm_queries(tree: Any) -> None:
    """Raise unless every query in a condition, as DuckDB reads it, is EXISTS over one column's list."""
    for part in tree if isinstance(tree, list) else tree.values() if isinstance(tree, dict) else ():
        _confirm_queries(part)
    if not isinstance(tree, dict):
        return
    if tree.get("class") == "SUBQUERY" and tree["subquery_type"] != "EXISTS":
        raise _broken("it holds a query that is no EXISTS")
    source = tree.get("from_table")
    if source is None:
        return
    function = source.get("function") or {}
    columns = [child.get("class") for child in function.get("children") or ()]
    listed = source["type"] == "TABLE_FUNCTION" and function.get("function_name") == "unnest" and not function["schema"]
    if not listed or columns != ["COLUMN_REF"] or any(tree[key] != value for key, value in _NODE_PARTS.items()):
        raise _broken("EXISTS reads something else than a list")
    if (
        tree["modifiers"]
        or tree["group_expressions"]
        or [one.get("class") for one in tree["select_list"]] != ["CONSTANT"]
    ):
        raise _broken("EXISTS holds another clause than WHERE")


def _selects(*texts: str) -> list[dict[str, Any]]:
    """The one SELECT in each text as DuckDB's parser sees it, without positions. Binds nothing, runs nothing."""
    with _parsing:
        trees = duckdb_trees.all_parsed(_parser(), *texts, positions=False)
    return [_the_select(tree) for tree in trees]


def _the_select(parsed: dict[str, Any]) -> dict[str, Any]:
    if parsed["error"] or len(parsed["statements"]) != 1:
        raise _broken("DuckDB does not read it as one SELECT")
    node: dict[str, Any] = parsed["statements"][0]["node"]
    if node["type"] != "SELECT_NODE":
        raise _broken("it is not a plain SELECT")
    return node


def _select(text: str) -> dict[str, Any]:
    return _selects(text)[0]


_kept_select = lru_cache(maxsize=64)(_select)
_kept_around = lru_cache(maxsize=64)(_around)


@lru_cache(maxsize=1)
def _parser() -> duckdb.DuckDBPyConnection:
    """DuckDB's parser: an instance without data, without access, locked. Not safe for two threads at once."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "256MB", "temp_directory": ""})
    connection.execute("LOAD json")
    connection.execute("PRAGMA disable_optimizer")  # which takes longer over a statement of one literal than the parser
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")
    return connection


def _broken(reason: str) -> PredicateError:
    message = f"The statement would not be what was meant: {reason}."
    return refuse("disallowed_node", message, "Write the predicate more simply.")
