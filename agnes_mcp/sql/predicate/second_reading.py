"""Steps 3, 4 and 6: the rendered predicate read again by sqlglot, walked node by node, and compared.

The tree was built by our own reader. Its text is now parsed by another parser, which knows nothing of the first; the
two trees must be the same node by node and letter by letter. What is left standing is a tree of classes on a list, each
with no other arguments than those on the list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import repeat
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError
from sqlglot.parsers.bigquery import BigQueryParser
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.characters import check_characters
from agnes_mcp.sql.predicate.lexemes import check_shape, cut
from agnes_mcp.sql.predicate.limits import MAX_NODES
from agnes_mcp.sql.predicate.nodes import RENDERED, render
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


# Made once, as those of `nodes`.
_PLAIN: dict[Dialect, sqlglot.Dialect] = {"bigquery": _PlainBigQuery(), "duckdb": _PlainDuckDB()}

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


def confirm_reading(tree: exp.Expr, rules: Rules, text: str) -> str:
    """The `tree` rendered. Raises `disallowed_node` unless sqlglot reads that as the same tree, of listed nodes only,
    and `too_complex` where it, which is longer than what was given, passes a limit."""
    tokens_of.cache_clear()
    lexemes_of.cache_clear()
    try:
        rendered = render(tree, rules.dialect)
        check_shape(lexemes_of(check_characters(rendered), rules.dialect), rendered, rules)
        read_alike = same(tree, parse(rendered, rules.dialect))
    except PredicateError as error:
        raise _too_large(error, text) from error
    except RecursionError:
        raise
    except Exception as error:  # a foreign parser: whatever it raises on this text is a refusal, never a crash
        raise _unconfirmed(text) from error
    if read_alike is None:
        raise _unconfirmed(text)
    check_listed(read_alike, rules, text)
    return rendered


def tokens(text: str, dialect: Dialect) -> list[Token]:
    """The tokens of a text as sqlglot cuts it. Raises what sqlglot raises."""
    return RENDERED[dialect].tokenize(text)


# Of the one text that was read last, for the gate of the statement that it goes into: no reading takes another's.
tokens_of = lru_cache(maxsize=1)(tokens)
lexemes_of = lru_cache(maxsize=1)(cut)


def parse(text: str, dialect: Dialect) -> exp.Expr:
    """A rendered predicate as a tree. Parsed as a condition: never inside a SELECT, which would keep what trails it."""
    parser = _PLAIN[dialect].parser(max_nodes=MAX_NODES)
    trees = parser.parse_into(exp.Condition, tokens_of(text, dialect), text)
    if len(trees) != 1 or trees[0] is None:
        raise ParseError("not one condition")
    return trees[0]


def same(tree: exp.Expr, parsed: exp.Expr) -> list[exp.Expr] | None:
    """The nodes of `tree`, each before those below it, where a tree that was parsed has its classes and, letter by
    letter, its arguments: they render alike. None where it has not.

    Stricter than sqlglot's `==`, which takes two spellings of most words for one. None, False and [] are no argument.
    What was parsed is taken apart: nodes that no longer know their parents are freed at once, and do not wait for
    Python's collector.
    """
    built, read = [tree], [parsed]
    for ours, theirs in zip(built, read, strict=True):  # both grow on the way
        theirs.parent = None
        other = _as_built(theirs)
        if type(ours) is not type(other):
            return None
        mine, others = ours.args, other.args
        if mine.keys() != others.keys() and not all(_nothing(others[key]) for key in others.keys() - mine.keys()):
            return None
        for key, value in mine.items():
            if not _alike(value, others.get(key), built, read):
                return None
    return built


def _alike(ours: Any, theirs: Any, built: list[exp.Expr], read: list[exp.Expr]) -> bool:
    """Whether two arguments are the same as far as they are no nodes; nodes are put on the two lists, to be next."""
    if isinstance(ours, exp.Expr):
        built.append(ours)
        read.append(theirs)
        return isinstance(theirs, exp.Expr)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs, repeat(built), repeat(read)))
    return (type(ours) is type(theirs) and ours == theirs) or (_nothing(ours) and _nothing(theirs))


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


def check_listed(nodes: Iterable[exp.Expr], rules: Rules, text: str) -> None:
    """Raise `disallowed_node`, `unknown_function` for a node, an argument, or a call that is not on the lists."""
    listed = _LISTED[rules.dialect]
    for node in nodes:
        permitted = listed.get(type(node))
        if permitted is None:
            raise _unlisted(type(node).__name__, text)
        if not node.args.keys() <= permitted:
            _check_arguments(node, permitted, text)
        if type(node) in _PLACED:
            _check_place(node, rules, text)


def _check_arguments(node: exp.Expr, permitted: frozenset[str], text: str) -> None:
    if extra := [key for key, value in node.args.items() if key not in permitted and not _nothing(value)]:
        raise _unlisted(f"{type(node).__name__} with {', '.join(sorted(extra))}", text)


def _check_place(node: exp.Expr, rules: Rules, text: str) -> None:
    if type(node) is exp.Dot and type(node.expression) is not exp.Identifier:
        raise _unlisted("A call behind a dot", text)
    if type(node) in _OF_QUERIES and not _in_exists(node):
        raise _unlisted(f"{type(node).__name__} outside EXISTS", text)
    if type(node) is exp.Anonymous and not _listed_call(node, rules):
        raise refuse("unknown_function", f"{node.name[:80]} is not available.", "Use a listed function.", text)


_OF_QUERIES = frozenset({exp.Exists, exp.Select, exp.From, exp.Where, exp.Unnest, exp.TableAlias})
_PLACED = _OF_QUERIES | {exp.Dot, exp.Anonymous}  # what may stand here, and not there


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
