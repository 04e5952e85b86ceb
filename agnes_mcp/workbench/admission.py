"""The gate: which SQL text is admitted to the engine.

DuckDB's own parser reads the text (`json_serialize_sql` neither binds nor runs it) and this module walks the tree. The
text that was admitted is then run as it stands, by the same parser, so nothing is re-rendered.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

from agnes_mcp.errors import AgnesError, nearest
from agnes_mcp.sql import duckdb_functions as functions
from agnes_mcp.workbench import grammar, series

#: 100,000 ANDs take the parser 40 seconds; 16 KB of anything takes it a fraction of one.
MAX_TEXT_BYTES = 16 * 1024
#: Levels of the tree. Far above what people write, far below what exhausts a stack.
MAX_DEPTH = 200

Node = dict[str, Any]
Scope = frozenset[str]
Visit = tuple[str, Any, Scope, int]  # what is expected, the tree, the CTEs in sight, the depth

_NO_LOCATION = 2**64 - 1
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)
_CTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ENGINE_NAMES = ("duckdb_", "pg_", "pragma_", "sqlite_")
_ONE_SELECT = "Send one SELECT statement over the tables of the catalog and your snapshots."


class Parser(Protocol):
    """DuckDB's parser, in an instance that holds nothing."""

    def tree(self, sql: str) -> Node:
        """The statement as `duckdb_trees.parsed` gives it."""
        ...

    def semicolons(self, sql: str) -> int:
        """How many semicolons stand outside literals and comments."""
        ...


def admit(sql: str, tables: Iterable[str], parser: Parser) -> list[str]:
    """Which of `tables` the text reads, in order of mention.

    Raises AgnesError: `query_refused` (not one admitted SELECT), `query_failed` (does not parse), `table_not_found`.
    """
    check_text(sql)
    statement = _one_statement(sql, parser)
    gate = _Gate(sql, tables)
    gate.walk(statement)
    return list(gate.used)


def check_text(sql: str) -> None:
    """Raise `query_refused` for a text that no parser should see."""
    if not sql.strip():
        raise AgnesError("query_refused", "The SQL is empty.", _ONE_SELECT)
    size = len(sql.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise AgnesError(
            "query_refused",
            f"The SQL has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are admitted.",
            "Shorten it: join with a table or a VALUES list instead of long IN lists and repeated expressions.",
            {"bytes": size, "max_bytes": MAX_TEXT_BYTES},
        )
    for position, character in enumerate(sql):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\r\n":
            raise AgnesError(
                "query_refused",
                f"The SQL holds a control character (U+{ord(character):04X}) at position {position}.",
                "Remove it; inside a text literal write chr(n) instead.",
                {"position": position},
            )


def _one_statement(sql: str, parser: Parser) -> Node:
    try:
        tree = parser.tree(sql)
    except RecursionError:
        raise _too_deep() from None
    if tree["error"]:
        raise _unparsed(sql, tree)
    statements = tree["statements"]
    if not statements:
        raise AgnesError("query_refused", "The SQL is empty.", _ONE_SELECT)
    if len(statements) != 1 or parser.semicolons(sql) > 1:
        raise AgnesError("query_refused", "The text holds more than one statement.", _ONE_SELECT)
    found: Node = statements[0]
    return found


def _unparsed(sql: str, tree: Node) -> AgnesError:
    """The parser's own word for a text that is wrong, ours for one that is not a SELECT."""
    message = str(tree["error_message"])
    if tree["error_type"] == "not implemented" or "SELECT" in message:
        dynamic = "pivot" in sql.casefold()
        hint = "In PIVOT list the values: PIVOT my_table ON my_column IN ('a', 'b') USING sum(x)." if dynamic else ""
        what = "a PIVOT over values that are not known" if dynamic else "another kind of statement"
        return AgnesError("query_refused", f"Only one SELECT is admitted, and this is {what}.", hint or _ONE_SELECT)
    details: dict[str, Any] = {}
    if str(tree.get("position", "")).isdigit():
        details = locate(sql, int(tree["position"]))
        message += f" ({details['where']})"
    return AgnesError("query_failed", f"Parser Error: {message}", "Correct the syntax (DuckDB's dialect).", details)


def locate(sql: str, offset: int) -> dict[str, Any]:
    """Where a byte offset of the parser is: character `position` (0-based), `where` in words, `fragment` (≤ 80)."""
    before = sql.encode("utf-8", "replace")[:offset].decode("utf-8", "ignore")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    fragment = sql[len(before) : len(before) + 80].partition("\n")[0]
    return {"position": len(before), "where": f"line {line}, column {column}", "fragment": fragment}


def _too_deep() -> AgnesError:
    return AgnesError(
        "query_refused",
        "The SQL is nested too deeply.",
        "Flatten it: name the inner steps as CTEs and use IN lists or CASE instead of chains.",
    )


class _Gate:
    """One walk over one tree. `used` holds the tables it reads, in order."""

    def __init__(self, sql: str, tables: Iterable[str]) -> None:
        self.sql = sql
        self.visible = {name.casefold(): name for name in tables}
        self.used: dict[str, None] = {}
        self.offset = _NO_LOCATION
        self.pending: list[Visit] = []
        self.rules: dict[str, Callable[[Node, Scope], None]] = {
            "BASE_TABLE": self._check_table,
            "FUNCTION": self._check_function,
            "WINDOW": self._check_window,
            "table_call": self._check_table_function,
            "JOIN": self._check_join,
            "POSITIONAL_REFERENCE": self._check_position,
        }

    def walk(self, statement: Node) -> None:
        self.pending = [("statement", statement, frozenset(), 0)]
        while self.pending:
            kind, value, scope, depth = self.pending.pop()
            if depth > MAX_DEPTH:
                raise _too_deep()
            if isinstance(value, list):
                self.pending.extend((kind, item, scope, depth) for item in reversed(value))
            elif isinstance(value, dict):
                self._visit(kind, value, scope, depth)

    def _visit(self, kind: str, node: Node, scope: Scope, depth: int) -> None:
        if kind == grammar.SCALAR:
            self.refuse("an unknown part of the statement")
        if kind == grammar.OPAQUE:
            return
        self.offset = node.get("query_location", self.offset)
        tag, fields = self._fields(kind, node)
        ctes: list[Visit] = []
        if kind == grammar.QUERY:
            ctes, scope = self._enter_ctes(node, scope, depth + 1)
        rule = self.rules.get(tag)
        if rule is not None:
            rule(node, scope)
        children = [(name, item) for name, item in node.items() if item not in _EMPTY and name != "cte_map"]
        for name, item in reversed(children):
            if name not in fields:
                self.refuse(name)
            self.pending.append((fields[name], item, scope, depth + 1))
        self.pending.extend(reversed(ctes))

    def _fields(self, kind: str, node: Node) -> tuple[str, grammar.Fields]:
        if kind not in grammar.TAGGED:
            return kind, grammar.RECORDS[kind]
        tag = str(node.get("class" if kind == grammar.EXPRESSION else "type"))
        if tag not in grammar.TAGS[kind]:
            self.refuse(tag)
        types = grammar.EXPRESSION_TYPES.get(tag)
        if types is not None and node["type"] not in types:
            self.refuse(str(node["type"]))
        return tag, grammar.TAGS[kind][tag]

    def _enter_ctes(self, query: Node, scope: Scope, depth: int) -> tuple[list[Visit], Scope]:
        """Each CTE sees those before it; the query sees them all."""
        entries: list[Visit] = []
        ctes = query.get("cte_map", {})
        for name in ctes.keys() - grammar.RECORDS["ctes"].keys():
            self.refuse(name)
        for entry in ctes.get("map", []):
            self._check_cte_name(entry["key"])
            entries.append(("cte_entry", entry, scope, depth))
            scope |= {entry["key"].casefold()}
        return entries, scope

    def _check_cte_name(self, name: str) -> None:
        folded = name.casefold()
        if folded in self.visible:
            self.refuse(f'the CTE name "{name}", which is the name of a table', "Give the CTE a name of its own.")
        if _CTE_NAME.fullmatch(name) is None or folded.startswith(_ENGINE_NAMES):
            self.refuse(f'the CTE name "{name[:80]}"', "Name CTEs with letters, digits and underscores.")

    def _check_table(self, node: Node, scope: Scope) -> None:
        name = str(node["table_name"])
        folded = name.casefold()
        if node.get("schema_name") or node.get("catalog_name") or folded in scope:
            return  # a qualified name is refused as a field, a CTE is no table
        if folded in self.visible:
            self.used.setdefault(self.visible[folded])
            return
        if re.search(r"[./\\:*?]", name):
            self.refuse("a file or address in place of a table", "Name tables by their id; `catalog` lists them.")
        raise table_not_found(name, list(self.visible.values()))

    def _check_join(self, node: Node, scope: Scope) -> None:
        if node["ref_type"] not in grammar.JOIN_SYNTAX:
            self.refuse(f"a {str(node['ref_type']).lower()} join", "Join on columns.")

    def _check_position(self, node: Node, scope: Scope) -> None:
        if node["query_location"] != _NO_LOCATION:  # the parser itself writes ARRAY(SELECT …) with one, placed nowhere
            self.refuse("POSITIONAL_REFERENCE")

    def _check_window(self, node: Node, scope: Scope) -> None:
        self._check_name(str(node["function_name"]), functions.FUNCTIONS)

    def _check_table_function(self, node: Node, scope: Scope) -> None:
        if node.get("class") != "FUNCTION":
            self.refuse("this expression in FROM")
        self._check_name(
            str(node["function_name"]),
            functions.TABLE_FUNCTIONS,
            "In FROM only unnest, range and generate_series are functions; tables are named by their id.",
        )
        if node.get("schema"):
            self.refuse("a schema name before a function", "Write the function's name alone.")

    def _check_function(self, node: Node, scope: Scope) -> None:
        name = str(node["function_name"]).lower()
        self._check_schema(node)
        if name in functions.BOUNDED:
            position, bound = functions.BOUNDED[name]
            literal = series.integer(node["children"], position)
            if literal is None or not 0 <= literal <= bound:
                self.refuse(f"the function {name}()", functions.INSTEAD[name])
        elif name in functions.SERIES:
            if not series.is_bounded(node["children"]):
                self.refuse(f"{name}() as a list", functions.INSTEAD[name])
        elif not (node.get("is_operator") and name in functions.OPERATORS):
            self._check_name(name, functions.FUNCTIONS | functions.OPERATORS)

    def _check_schema(self, node: Node) -> None:
        name, schema = str(node["function_name"]).lower(), node.get("schema")
        if schema and not (schema == "main" and name in functions.EMITTED_BY_PARSER):
            hint = f"Write {name}(…) with the value as its first argument."
            self.refuse(f"a name before the function {name[:60]}()", hint)

    def _check_name(self, name: str, admitted: frozenset[str], hint: str = "") -> None:
        folded = name.lower()
        if folded in admitted:
            return
        near = nearest(folded, sorted(admitted))
        default = f"Nearest admitted: {', '.join(near)}." if near else "Use DuckDB's analytic functions."
        self.refuse(f"the function {name[:60]}()", hint or functions.INSTEAD.get(folded, default))

    def refuse(self, what: str, hint: str = "") -> NoReturn:
        """Raise `query_refused` for the node at hand."""
        words = grammar.PLAIN_WORDS.get(what, what)
        details = {} if self.offset == _NO_LOCATION else locate(self.sql, self.offset)
        where = f" ({details['where']})" if details else ""
        raise AgnesError(
            "query_refused", f"Not admitted: {words}{where}.", hint or grammar.INSTEAD.get(what, _ONE_SELECT), details
        )


def table_not_found(name: str, visible: list[str]) -> AgnesError:
    """The same answer for a table that does not exist and for one the caller may not see."""
    near = nearest(name, visible)
    hint = f"Nearest: {', '.join(near)}." if near else "Look into `catalog` and `snapshot_list`."
    return AgnesError(
        "table_not_found",
        f'There is no local table or snapshot "{name[:80]}".',
        f"{hint} A remote table is first fetched into a snapshot.",
        {"table": name[:80], "nearest": near},
    )
