"""Gates 2 and 4: the text parsed once, and what was made of it parsed again into the same tree."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.predicate.hints import OPERATOR_HINTS
from agnes_mcp.sql.predicate.nodes import interval
from agnes_mcp.sql.warehouse import plain
from agnes_mcp.sql.warehouse.lexemes import Lexeme
from agnes_mcp.sql.warehouse.refusals import refuse
from agnes_mcp.sql.warehouse.spelling import Spelling
from agnes_mcp.sql.warehouse.words import SYNTAX

_QUERIES = (exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery)
_NUMBER = re.compile(r"-?[0-9]+")


def read(spelling: Spelling) -> exp.Expr:
    """The one query in a spelled text. Raises `parse_error`, `multi_statement`, `not_a_select`, `too_complex`."""
    try:
        statements = plain.parse(spelling.text)
    except ParseError as error:
        if "nodes" in str(error):
            raise _too_large(spelling) from error
        raise _unreadable(spelling, error) from error
    except (SqlglotError, AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise _unreadable(spelling, None) from error  # a foreign parser: what it raises on this text is a refusal
    if len(statements) != 1 or statements[0] is None:
        hint = "Send one SELECT."
        raise refuse("multi_statement", "One call runs one statement.", hint, spelling.source)
    tree = statements[0]
    if not isinstance(tree, _QUERIES):
        raise refuse("not_a_select", "This is no SELECT.", "Write SELECT … FROM ….", spelling.source)
    return tree


def check_counts(nodes: list[exp.Expr], spelling: Spelling) -> None:
    """Raise `parse_error` where the parser has passed over a name, a literal, a JOIN (or its comma) or a SELECT."""
    counts = {exp.Literal: 0, exp.Join: 0, exp.Select: 0, exp.Identifier: 0}
    for node in nodes:
        kind = type(node)
        if kind is exp.Identifier:
            counts[kind] += bool(node.args.get("quoted")) and type(node.parent) is not exp.Pivot
        elif kind in counts:
            counts[kind] += 1
        elif kind is exp.Kwarg:
            counts[exp.Identifier] += 1  # its name is kept as a word
        elif kind is exp.Pivot:
            counts[exp.Identifier] += sum(type(e) is exp.Identifier for e in node.expressions)
    written = (spelling.literals, spelling.joins, spelling.selects, spelling.quoted)
    if tuple(counts.values()) != written:
        message = "Part of the statement would not be read."
        raise refuse("parse_error", message, "Write it with plain clauses of GoogleSQL.", spelling.source)


def confirm(tree: exp.Expr, sql: str, tables: set[str], text: str) -> None:
    """Raise `disallowed_node` unless the rendered `sql` is read as the same `tree`, over `tables` and nothing else."""
    try:
        again = plain.parse(sql)
        same = len(again) == 1 and again[0] is not None and _settled(again[0], tables) == tree
    except (SqlglotError, AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise _unconfirmed(text) from error
    if not same:
        raise _unconfirmed(text)


def _settled(tree: exp.Expr, tables: set[str]) -> exp.Expr:
    """What the parser spells in more than one way, in the way that the reading gives it. Raises ValueError for a table
    that was not meant."""
    for node in list(tree.walk(bfs=False)):
        kind = type(node)
        if kind is exp.Table:
            if node.name not in tables or node.args.get("db") or type(node.this) is not exp.Identifier:
                raise ValueError("a table that was not meant")
        elif kind in _SETTLE:
            _SETTLE[kind](node)
    return tree


def _settle_column(node: exp.Expr) -> None:
    if type(node.this) is exp.Identifier and not node.this.args.get("quoted"):
        node.replace(exp.Var(this=node.this.this))  # DAY, NFC


def _settle_interval(node: exp.Expr) -> None:
    if type(node.this) is exp.Literal and _NUMBER.fullmatch(str(node.this.this)):
        node.replace(interval(str(node.this.this), node.text("unit")))


def _settle_array(node: exp.Expr) -> None:
    node.args.pop("value_constructor", None)
    node.args.pop("struct_name_inheritance", None)


_SETTLE: dict[type[exp.Expr], Callable[[exp.Expr], None]] = {
    exp.Column: _settle_column,
    exp.Interval: _settle_interval,
    exp.Array: _settle_array,
    exp.Pivot: lambda node: node.args.pop("columns", None),
    exp.Kwarg: lambda node: node.set("this", exp.Var(this=node.this.name)),
}


def _unreadable(spelling: Spelling, error: ParseError | None) -> AgnesError:
    lexeme = _where(spelling, error)
    if lexeme.kind == "end":
        return _refused("The statement ends too early.", "Complete it.", spelling, lexeme)
    shown = spelling.source[lexeme.start : lexeme.end][:40]
    message = f"The statement is not read any more at {shown!r}."
    hint = OPERATOR_HINTS["bigquery"].get(lexeme.value, "") if lexeme.kind == "word" else ""
    if not hint and lexeme.value in SYNTAX:
        hint = f"As a name, {shown} takes backticks; otherwise check the clause before it."
    return _refused(
        message, hint or "Check the clause before it; names that are words of SQL take backticks.", spelling, lexeme
    )


def _refused(message: str, hint: str, spelling: Spelling, lexeme: Lexeme) -> AgnesError:
    return refuse("parse_error", message, hint, spelling.source, lexeme.start, lexeme.end)


def _where(spelling: Spelling, error: ParseError | None) -> Lexeme:
    """The lexeme that the parser complains of. It gives the column of the lexeme's last character."""
    first = error.errors[0] if error is not None and error.errors else {}
    column = first.get("col")
    if not isinstance(column, int):
        return spelling.lexemes[0]
    if column >= len(spelling.text):
        return spelling.lexemes[-1]
    return spelling.lexeme_at(max(0, column - 1))


def _too_large(spelling: Spelling) -> AgnesError:
    return refuse("too_complex", "The statement has too many parts.", "Shorten or split it.", spelling.source)


def _unconfirmed(text: str) -> AgnesError:
    message = "The statement is read in two ways, so it is not run."
    return refuse("disallowed_node", message, "Write it more simply, with brackets around each comparison.", text)
