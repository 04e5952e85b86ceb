"""`EXISTS (SELECT 1 FROM UNNEST(list) AS element WHERE …)`: a condition on the elements of one of the row's own lists.

The only query that a predicate may hold. It reads no table: what stands in UNNEST is a path to a list of this row, or
of the element around it, so that no element is met more than once. It is written anew, with names for the list and its
element that nothing in the schema has, so that no name in it can mean another thing than was read here.
"""

from __future__ import annotations

from agnes_mcp.errors import PredicateError
from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.columns import ElementColumns
from agnes_mcp.sql.predicate.cursor import QUERY_WORDS, Expressions, Read
from agnes_mcp.sql.predicate.kinds import BOOLEAN
from agnes_mcp.sql.predicate.leaves import plain_path
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.limits import MAX_EXISTS, MAX_EXISTS_DEPTH

_SHAPE = "Write EXISTS (SELECT 1 FROM UNNEST(list_column) AS e WHERE e.field = 'value')."
_LITERALS = ("TRUE", "FALSE", "NULL")


def exists(reader: Expressions) -> Read:
    """The whole of it, from EXISTS to the bracket that closes it."""
    start = reader.advance()
    opening = reader.advance()
    _check_limits(reader, start)
    if not reader.take("SELECT"):
        raise reader.unexpected("SELECT")
    selected = reader.position
    _skip_selected(reader)
    scope, listed = _from(reader, opening)
    outer, reader.columns = reader.columns, scope
    try:
        _check_selected(reader, selected)
        where = reader.condition("WHERE") if reader.take("WHERE") else None
    finally:
        reader.columns = outer
    if not reader.at(")"):
        raise reader.unexpected(") to close EXISTS")
    reader.advance()
    kept = where.node if where else None
    node = nodes.exists(listed.node, scope.list_name, scope.element_name, kept, reader.rules.dialect)
    return Read(node, BOOLEAN, start.start)


def _check_limits(reader: Expressions, start: Lexeme) -> None:
    reader.subqueries += 1
    if reader.subqueries > MAX_EXISTS:
        message = f"A predicate holds at most {MAX_EXISTS} EXISTS."
        raise reader.refuse("too_complex", message, "Join the conditions on one list in one EXISTS.", start)
    if reader.columns.depth >= MAX_EXISTS_DEPTH:
        message = f"EXISTS nests deeper than {MAX_EXISTS_DEPTH}."
        raise reader.refuse("too_complex", message, "Flatten the condition.", start)


def _skip_selected(reader: Expressions) -> None:
    """To FROM: what is selected is read once it is known what its names mean."""
    while not reader.at("FROM"):
        if reader.next.kind == "end" or reader.at(*QUERY_WORDS) or reader.at("(", ")"):
            raise _refused(reader, reader.next)
        reader.advance()


def _refused(reader: Expressions, lexeme: Lexeme) -> PredicateError:
    shown = reader.source(lexeme)[:40] or "The end"
    message = f"{shown} makes it a query inside the predicate: only EXISTS over a list of this table is read."
    return reader.refuse("nested_select", message, _SHAPE, lexeme)


def _from(reader: Expressions, opening: Lexeme) -> tuple[ElementColumns, Read]:
    """The list that stands behind FROM, and what its element is called."""
    reader.advance()
    duckdb = reader.rules.dialect == "duckdb"
    if duckdb and reader.at("("):
        return _from_select(reader)
    listed = _unnest(reader)
    alias = _alias(reader)
    element = ""
    if duckdb and alias and reader.take("("):
        element = _name(reader)
        reader.expect(")", "after the name of the element")
    if element:
        names = [[element], [alias, element]]
    elif duckdb:
        names = [[alias], [alias, "unnest"], ["unnest"]] if alias else [["unnest"]]
    else:
        names = [[alias]] if alias else []
    return _scope(reader, listed, names), listed


def _from_select(reader: Expressions) -> tuple[ElementColumns, Read]:
    """DuckDB's `(SELECT UNNEST(list) AS element) AS t`."""
    reader.advance()
    if not reader.take("SELECT"):
        raise _refused(reader, reader.next)
    listed = _unnest(reader)
    element = _alias(reader) or "unnest"
    reader.expect(")", "to close the inner SELECT")
    alias = _alias(reader)
    return _scope(reader, listed, [[element], [alias, element]] if alias else [[element]]), listed


def _unnest(reader: Expressions) -> Read:
    lexeme = reader.next
    if not reader.at("UNNEST") or reader.after_next.value != "(":
        raise _refused(reader, lexeme)
    reader.advance()
    reader.advance()
    named = reader.next
    if named.kind not in ("word", "name") or reader.after_next.value == "(" or named.value in QUERY_WORDS:
        hint = "Name a list column of this table."
        raise reader.refuse("disallowed_node", "UNNEST takes a list of this row there.", hint, named)
    listed = plain_path(reader)
    if not reader.at(")"):
        hint = "Name the list column alone."
        raise reader.refuse("disallowed_node", "UNNEST takes one list of this row.", hint, reader.next)
    reader.advance()
    if listed.kind.family not in ("list", "other"):
        hint = "Name a column whose mode is REPEATED."
        raise reader.refuse("disallowed_node", f"{reader.source(named)[:40]} is not a list.", hint, named)
    if reader.columns.depth and not reader.columns.holds(listed.node):
        hint = "Look into a list of the element, or write the two EXISTS beside one another."
        raise reader.refuse("too_complex", "A list would be read once for every element of another.", hint, named)
    return listed


def _alias(reader: Expressions) -> str:
    if reader.take("AS"):
        return _name(reader)
    free = reader.next.kind == "word" and reader.next.value not in reader.rules.reserved | {"WHERE", "WITH"}
    return _name(reader) if free or reader.next.kind == "name" else ""


def _name(reader: Expressions) -> str:
    lexeme = reader.advance()
    if lexeme.kind == "name":
        return lexeme.value
    if lexeme.kind != "word" or lexeme.value in reader.rules.reserved:
        raise reader.refuse("parse_error", "A name stands there.", _SHAPE, lexeme)
    return reader.source(lexeme)


def _scope(reader: Expressions, listed: Read, names: list[list[str]]) -> ElementColumns:
    element = listed.kind.element
    exposes = reader.rules.dialect == "bigquery"
    taken = {field.name.casefold() for field in element.fields} if element and exposes else set()
    if any(name[0].casefold() in taken for name in names):
        hint = "Give the element another name."
        raise reader.refuse("disallowed_node", "The element is called like one of its fields.", hint, reader.next)
    return ElementColumns(reader.columns, element, names, exposes=exposes)


def _check_selected(reader: Expressions, position: int) -> None:
    """`1`, another literal, `*`, or one path: none of it is of any consequence, but a name must mean something."""
    after = reader.position
    reader.go_to(position)
    lexeme = reader.next
    if lexeme.kind in ("number", "string") or reader.at(*_LITERALS) or reader.at("*"):
        reader.advance()
    elif lexeme.kind in ("word", "name"):
        plain_path(reader)
    if not reader.at("FROM"):
        raise reader.refuse("disallowed_node", "EXISTS selects one thing.", _SHAPE, reader.next)
    reader.go_to(after)
