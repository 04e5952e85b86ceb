"""What stands in a FROM for a stored table: its rows, with pseudo-columns, all shards of a wildcard, and only the rows
that its row access policy permits; and conditions over a table's rows alone."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from agnes_mcp.stand_in.fields import Field, quoted
from agnes_mcp.stand_in.googlesql import (
    aggregates,
    approximate,
    arithmetic,
    calls,
    expressions,
    jsons,
    operators,
    times,
    windows,
)
from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import parse_expression
from agnes_mcp.stand_in.googlesql.names import Column, RangeVariable, Relation, Scope
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.session import Names, Session
from agnes_mcp.stand_in.googlesql.values import Value, as_type, text, unsupported
from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.tables import Table

#: The modules whose rules an expression needs.
RULES = (aggregates, approximate, arithmetic, calls, expressions, jsons, operators, times, windows)


def rows_of(table: Table) -> str:
    """A DuckDB table name or a parenthesized SELECT."""
    if table.shards:
        return "(" + " UNION ALL ".join(_shard(table, suffix, shard) for suffix, shard in table.shards.items()) + ")"
    columns = "*, CAST(_PARTITIONTIME AS DATE) AS _PARTITIONDATE" if table.pseudo_fields else "*"
    if columns == "*" and not table.row_filter:
        return table.physical
    # S608: an identifier of the stand-in's own, and a condition rendered from its tree
    return f"(SELECT {columns} FROM {table.physical} WHERE {permitted(table)})"


def permitted(table: Table) -> str:
    """The row access policy as a DuckDB condition."""
    return condition_over(table.row_filter, table.fields) if table.row_filter else "TRUE"


def condition_over(written: str, fields: tuple[Field, ...]) -> str:
    """The GoogleSQL condition `written` over these columns, which stand alone in DuckDB."""
    columns = {field.name: (quoted(field.name), t.type_of(field)) for field in fields}
    return condition_text(parse_expression(written), columns)


def condition_text(node: exp.Expr, columns: Mapping[str, tuple[str, t.Type]]) -> str:
    """A condition over columns given as name → (DuckDB text, type)."""
    known = [Column(name, Value(sql, kind, frozenset({(0, name)}))) for name, (sql, kind) in columns.items()]
    session = Session(_no_table, _no_routine, _no_query, _no_view, Names(""))
    clause = Clause(session, Scope(variables=[RangeVariable("", known)]), name="a condition")
    return as_type(value_of(node, clause), t.BOOL, "A condition").sql


def _no_table(path: list[str], names: Names, session: Session) -> Table:
    raise unsupported("tables in a condition")


def _no_routine(path: list[str], names: Names) -> Routine:
    raise unsupported("routines in a condition")


def _no_query(session: Session, node: exp.Expr, outer: Scope | None, ctes: Mapping[str, Relation]) -> Relation:
    raise unsupported("subqueries in a condition")


def _no_view(session: Session, table: Table) -> Relation:
    raise unsupported("views in a condition")


def _shard(wildcard: Table, suffix: str, shard: Table) -> str:
    """One shard with the columns of them all: what it lacks is NULL."""
    held = {field.name.lower(): field for field in shard.fields}
    columns = ", ".join(_column(field, held.get(field.name.lower())) for field in wildcard.fields)
    named = f"{text(suffix)} AS _TABLE_SUFFIX"
    return f"SELECT {columns}, {named} FROM {shard.physical} WHERE {permitted(shard)}"


def _column(wanted: Field, held: Field | None) -> str:
    value = "NULL" if held is None else quoted(held.name)
    return f"CAST({value} AS {wanted.duckdb_type()}) AS {quoted(wanted.name)}"
