"""The WHERE validator: the one place that reads SQL written by an agent for a statement of ours.

A predicate passes these gates, each in its own module, and is refused at the first that it does not pass:

    characters      1  a string of at most 8,192 printable characters
    lexemes         2  cut into lexemes of a closed list; between them only ASCII white space; bounded: tokens,
                       brackets, calls, CASE, runs of NOT
    reader,         3  read by a small grammar: one condition over the columns of one table. Functions and types are
    operands        4  on lists, by the name that was written; patterns, formats, positions and counts are literals
    leaves, columns 5  every path leads to a value in the schema; the condition is true, false or NULL
    exists          5  the one query in it: EXISTS over a list of the row, whose names mean what they mean there
    second_reading  6  rendered from the tree, the text is parsed by sqlglot into the same tree, of listed nodes only
    skeleton        7  the finished statement holds one SELECT, one table, this predicate, and the server's own clauses;
                       what SELECT the predicate has is EXISTS over a path

Nothing of the caller's text goes further than its lexemes: names are written as the schema spells them, strings anew.
"""

from __future__ import annotations

from typing import Any, cast

from sqlglot import exp

from agnes_mcp.models import Dialect, TableSchema
from agnes_mcp.sql.predicate.characters import check_characters
from agnes_mcp.sql.predicate.columns import Columns
from agnes_mcp.sql.predicate.dialects import RULES
from agnes_mcp.sql.predicate.lexemes import check_shape, cut
from agnes_mcp.sql.predicate.nodes import render
from agnes_mcp.sql.predicate.reader import Reader
from agnes_mcp.sql.predicate.refusals import first_of, refuse
from agnes_mcp.sql.predicate.rules import Rules
from agnes_mcp.sql.predicate.second_reading import confirm_reading
from agnes_mcp.sql.predicate.skeleton import confirm_skeleton

__all__ = ["RULES", "confirm_skeleton", "render_predicate", "validate_predicate", "validated"]


def validate_predicate(text: Any, schema: TableSchema, dialect: Dialect) -> exp.Expression:
    """The condition `text` over one table, as a tree with canonical quoted names and plain literals.

    Raises `PredicateError` and nothing else, whatever `text` is; its `details` hold `fragment` (≤ 80 characters),
    `position` (0-based, in characters) and, where they help, `column` or `function` with the `nearest` names.
    """
    return validated(text, schema, dialect)[0]


def validated(text: Any, schema: TableSchema, dialect: Dialect) -> tuple[exp.Expression, str]:
    """The same, and its text as `render_predicate` gives it, which has to be written to be read again."""
    try:
        return _validated(text, schema, RULES[dialect])
    except RecursionError as error:  # the caller's own stack was nearly used up
        raise refuse("too_complex", "The predicate nests too deep.", "Flatten the condition.", str(text)) from error


def _validated(text: Any, schema: TableSchema, rules: Rules) -> tuple[exp.Expression, str]:
    checked = check_characters(text)
    lexemes = cut(checked, rules.dialect)
    check_shape(lexemes, checked, rules)
    reader = Reader(checked, lexemes, Columns(schema), rules)
    tree = reader.whole()
    if reader.faults:
        raise first_of(reader.faults)
    return cast("exp.Expression", tree), confirm_reading(tree, rules, checked)


def render_predicate(expression: exp.Expression, dialect: Dialect) -> str:
    """The text of a validated predicate. Validated again, it gives the same text."""
    return render(expression, dialect)
