"""Steps 3, 4 and 6: the rendered predicate read again by sqlglot, walked node by node, and compared.

The tree was built by our own reader. Its text is now parsed by another parser, which knows nothing of the first; the
two trees must be the same node by node and letter by letter. What is left standing is a tree of classes on a list, each
with no other arguments than those on the list.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.parsers.bigquery import BigQueryParser
from sqlglot.parsers.duckdb import DuckDBParser

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.characters import check_characters
from agnes_mcp.sql.predicate.lexemes import check_shape, cut
from agnes_mcp.sql.predicate.limits import MAX_NODES
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.sql.predicate.rules import Rules

# sqlglot logs the text that it cannot parse; a caller could write lines of its own into the log that way.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

_CALLS = frozenset({"CAST", "SAFE_CAST", "TRY_CAST", "EXTRACT"})
_CASE = frozenset({"CASE"})


def _only(parsers: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: parser for name, parser in parsers.items() if name in names}


class _PlainBigQueryParser(BigQueryParser):
    """BigQuery as sqlglot parses it, but calls stay as they are written instead of becoming another dialect's idea of
    them: DATE_DIFF stays DATE_DIFF, and its arguments stay in order."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(BigQueryParser.FUNCTION_PARSERS, _CALLS)
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(BigQueryParser.NO_PAREN_FUNCTION_PARSERS, _CASE)


class _PlainDuckDBParser(DuckDBParser):
    """DuckDB likewise."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(DuckDBParser.FUNCTION_PARSERS, _CALLS)
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(DuckDBParser.NO_PAREN_FUNCTION_PARSERS, _CASE)


class _PlainBigQuery(BigQuery):
    Parser = _PlainBigQueryParser


class _PlainDuckDB(DuckDB):
    Parser = _PlainDuckDBParser


# Made once: sqlglot would make one for each text. They hold settings alone, whatever thread asks.
_PLAIN: dict[Dialect, sqlglot.Dialect] = {"bigquery": _PlainBigQuery(), "duckdb": _PlainDuckDB()}
#: Its generators write the predicates, its tokenizers cut the finished statements.
RENDERED: dict[Dialect, sqlglot.Dialect] = {"bigquery": BigQuery(), "duckdb": DuckDB()}

_PAIR = frozenset({"this", "expression"})
#: Every class of node that a predicate may hold, with the arguments it may have.
NODES: dict[type[exp.Expr], frozenset[str]] = {
    **dict.fromkeys((exp.And, exp.Or, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), _PAIR),
    **dict.fromkeys((exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.Add, exp.Sub, exp.Mul), _PAIR),
    **dict.fromkeys((exp.BitwiseAnd, exp.BitwiseOr, exp.Dot, exp.Extract), _PAIR),
    **dict.fromkeys((exp.Not, exp.Neg, exp.Paren, exp.Var, exp.Boolean), frozenset({"this"})),
    exp.Div: _PAIR | {"typed", "safe"},
    exp.DPipe: _PAIR | {"safe"},
    exp.Like: _PAIR | {"negate"},
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
    exp.DataType: frozenset({"this", "expressions", "nested"}),
    exp.DataTypeParam: frozenset({"this"}),
    exp.Interval: frozenset({"this", "unit"}),
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.Column: frozenset({"this", "table", "db", "catalog"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Null: frozenset(),
    exp.Array: frozenset({"expressions", "value_constructor", "struct_name_inheritance"}),
    exp.Exists: frozenset({"this"}),
    exp.Select: frozenset({"expressions", "from_", "where"}),
    exp.From: frozenset({"this"}),
    exp.Where: frozenset({"this"}),
    exp.Unnest: frozenset({"expressions", "offset", "alias"}),
    exp.TableAlias: frozenset({"this", "columns"}),
}
_OF_DIALECT: dict[Dialect, dict[type[exp.Expr], frozenset[str]]] = {
    "bigquery": {
        exp.In: frozenset({"this", "expressions", "unnest"}),
        exp.Bracket: frozenset({"this", "expressions", "offset", "safe"}),
    },
    "duckdb": {
        exp.In: frozenset({"this", "expressions"}),
        exp.Bracket: frozenset({"this", "expressions"}),
        exp.ILike: _PAIR | {"negate"},
        exp.Escape: _PAIR,
        exp.IntDiv: _PAIR,
        exp.Mod: _PAIR,
    },
}
_LISTED = {dialect: NODES | more for dialect, more in _OF_DIALECT.items()}


def render(tree: exp.Expr, dialect: Dialect) -> str:
    """The text of a tree, without comments."""
    return RENDERED[dialect].generate(tree, comments=False)  # of a copy: it drops what its dialect has not


def confirm_reading(tree: exp.Expr, rules: Rules, text: str) -> str:
    """The `tree` rendered. Raises `disallowed_node` unless sqlglot reads that as the same tree, of listed nodes only,
    and `too_complex` where it, which is longer than what was given, passes a limit."""
    try:
        rendered = render(tree, rules.dialect)
        check_shape(cut(check_characters(rendered), rules.dialect), rendered, rules)
        confirmed = same(tree, parse(rendered, rules.dialect))
    except PredicateError as error:
        raise _too_large(error, text) from error
    except RecursionError:
        raise
    except Exception as error:  # a foreign parser: whatever it raises on this text is a refusal, never a crash
        raise _unconfirmed(text) from error
    if not confirmed:
        raise _unconfirmed(text)
    walk(tree, rules, text)
    return rendered


def parse(text: str, dialect: Dialect) -> exp.Expr:
    """A rendered predicate as a tree. Parsed as a condition: never inside a SELECT, which would keep what trails it."""
    return sqlglot.parse_one(text, dialect=_PLAIN[dialect], into=exp.Condition, max_nodes=MAX_NODES)


def same(tree: exp.Expr, parsed: exp.Expr) -> bool:
    """Whether a tree that was parsed has the classes of ours and, letter by letter, its arguments: they render alike.

    Stricter than sqlglot's `==`, which takes two spellings of most words for one. None, False and [] are no argument.
    """
    pairs: list[tuple[Any, Any]] = [(tree, parsed)]
    while pairs:
        ours, theirs = pairs.pop()
        if isinstance(ours, exp.Expr):
            theirs = _as_built(theirs)
            if type(ours) is not type(theirs):
                return False
            pairs += [(value, theirs.args.get(key)) for key, value in ours.args.items()]
            pairs += [(None, theirs.args[key]) for key in theirs.args.keys() - ours.args.keys()]
        elif isinstance(ours, list) and isinstance(theirs, list):
            if len(ours) != len(theirs):
                return False
            pairs += zip(ours, theirs, strict=True)
        elif not (ours == theirs and type(ours) is type(theirs)) and not (_nothing(ours) and _nothing(theirs)):
            return False
    return True


def _nothing(argument: Any) -> bool:
    return argument is None or argument is False or argument == []


def _as_built(node: Any) -> Any:
    """Two spellings that sqlglot's parser does not keep: an unquoted name here is a date part, an interval's count is
    a number."""
    if type(node) is exp.Column and not node.this.args.get("quoted") and len(node.args) == 1:
        return exp.Var(this=node.name)
    if type(node) is exp.Interval and type(node.this) is exp.Literal:
        return nodes.interval(node.this.name, node.text("unit"))
    return node


def walk(tree: exp.Expr, rules: Rules, text: str) -> None:
    """Raise `disallowed_node`, `unknown_function` for a node, an argument, or a call that is not on the lists."""
    listed = _LISTED[rules.dialect]
    for node in tree.walk():
        permitted = listed.get(type(node))
        if permitted is None:
            raise _unlisted(type(node).__name__, text)
        if extra := [key for key, value in node.args.items() if key not in permitted and not _nothing(value)]:
            raise _unlisted(f"{type(node).__name__} with {', '.join(sorted(extra))}", text)
        if type(node) is exp.Dot and type(node.expression) is not exp.Identifier:
            raise _unlisted("A call behind a dot", text)
        if type(node) in _OF_QUERIES and not _in_exists(node):
            raise _unlisted(f"{type(node).__name__} outside EXISTS", text)
        if type(node) is exp.Anonymous and not _listed_call(node, rules):
            raise refuse("unknown_function", f"{node.name[:80]} is not available.", "Use a listed function.", text)


_OF_QUERIES = frozenset({exp.Exists, exp.Select, exp.From, exp.Where, exp.Unnest, exp.TableAlias})


def _in_exists(node: exp.Expr) -> bool:
    """Whether a node of a query stands where EXISTS over a list, or `x IN UNNEST(list)`, has it."""
    parent = node.parent
    if type(node) is exp.Exists:
        return type(node.this) is exp.Select
    if type(node) is exp.Select:
        one = node.expressions == [exp.Literal(this="1", is_string=False)]
        return type(parent) is exp.Exists and one and type(node.args.get("from_")) is exp.From
    if type(node) is exp.From:
        return type(parent) is exp.Select and type(node.this) is exp.Unnest and node.this.args.get("alias") is not None
    if type(node) is exp.Unnest:
        path = len(node.expressions) == 1 and type(node.expressions[0]) in (exp.Column, exp.Dot)
        return (type(parent) is exp.From and path) or (type(parent) is exp.In and node.args.get("alias") is None)
    return type(parent) is (exp.Select if type(node) is exp.Where else exp.Unnest)


def _listed_call(node: exp.Anonymous, rules: Rules) -> bool:
    weeks = node.name == "WEEK" and bool(rules.week_starts)
    return isinstance(node.this, str) and (node.this in rules.functions or weeks)


def _unlisted(what: str, text: str) -> PredicateError:
    return refuse("disallowed_node", f"{what} is not part of a predicate.", "Write it with simpler operators.", text)


def _too_large(error: PredicateError, text: str) -> PredicateError:
    if error.kind != "too_complex":
        return _unconfirmed(text)
    message = "Written out with quoted names and casts, the predicate is too large."
    return refuse("too_complex", f"{message} {error.message}", "Shorten or flatten it.", text)


def _unconfirmed(text: str) -> PredicateError:
    message = "The predicate is read in two ways, so it is not run."
    return refuse("disallowed_node", message, "Add brackets around each comparison, or write it more simply.", text)
