"""GoogleSQL as sqlglot parses and writes it, without its ideas of what was meant.

A call stays under the name that is written, with its arguments in order; a name is what stands between two backticks,
dots and all; `FROM t, t.x` stays what is written; a CAST keeps the parameters of its type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.generator import Generator
from sqlglot.generators.bigquery import BigQueryGenerator
from sqlglot.parser import Parser
from sqlglot.parsers.bigquery import BigQueryParser

from agnes_mcp.sql.warehouse.limits import MAX_NODES

# sqlglot logs the text that it cannot parse; a caller could write lines of its own into the log that way.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

_CALLS = frozenset({"CAST", "SAFE_CAST", "EXTRACT"})


def _only(table: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name in names}


class _PlainParser(BigQueryParser):
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(BigQueryParser.FUNCTION_PARSERS, _CALLS)
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(
        BigQueryParser.NO_PAREN_FUNCTION_PARSERS, frozenset({"CASE"})
    )
    SUPPORTS_IMPLICIT_UNNEST: ClassVar[bool] = False
    ARRAY_CONSTRUCTORS: ClassVar[dict[str, Any]] = {}  # a column may be called `array` or `list`

    # What sqlglot adds for BigQuery reads meaning into names: the plain parser's own methods do not.
    _parse_table_part = Parser._parse_table_part
    _parse_table_parts = Parser._parse_table_parts
    _parse_column = Parser._parse_column
    _parse_column_ops = Parser._parse_column_ops
    _parse_unnest = Parser._parse_unnest


def _as_written(generator: Generator, expression: exp.Expr) -> str:
    return Generator.cast_sql(generator, cast("exp.Cast", expression))


class _PlainGenerator(BigQueryGenerator):
    TRANSFORMS: ClassVar[dict[Any, Callable[..., str]]] = {
        **Generator.TRANSFORMS,
        exp.Array: BigQueryGenerator.TRANSFORMS[exp.Array],
        exp.Cast: _as_written,
        exp.ParseJSON: lambda generator, node: f"JSON {generator.sql(node, 'this')}",
        exp.Version: lambda generator, node: f"FOR SYSTEM_TIME AS OF {generator.sql(node, 'expression')}",
    }


class Plain(BigQuery):
    """The dialect of this package."""

    Parser = _PlainParser
    Generator = _PlainGenerator


_PLAIN = Plain()


def parse(text: str) -> list[exp.Expr | None]:
    """The statements of a text that has passed the first gate. Raises what sqlglot raises."""
    return sqlglot.parse(text, dialect=_PLAIN, max_nodes=MAX_NODES)


def render(tree: exp.Expr) -> str:
    """The text of a tree, without comments."""
    return tree.sql(dialect=_PLAIN, comments=False, copy=False)
