"""Queries: WITH, SELECT, set operations, and a view's definition, each compiled to a relation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import parse, unread
from agnes_mcp.stand_in.googlesql.names import Column, Relation, Scope
from agnes_mcp.stand_in.googlesql.ordering import ordered
from agnes_mcp.stand_in.googlesql.select import compile_select
from agnes_mcp.stand_in.googlesql.session import Names, Session
from agnes_mcp.stand_in.googlesql.tails import tail_text
from agnes_mcp.stand_in.googlesql.values import Read, Value, common, unsupported
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query

_MAX_VIEW_DEPTH = 16  # BigQuery's documented limit of nested views
_SET_WORDS: dict[type[exp.Expr], str] = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}


def compile_query(session: Session, node: exp.Expr, outer: Scope | None, ctes: Mapping[str, Relation]) -> Relation:
    """`node` (a SELECT, a set operation, or either in parentheses) within the names of `outer`."""
    if node.args.get("with_") is not None:
        ctes = _commons(session, node.args["with_"], ctes)
    if isinstance(node, exp.Select):
        return compile_select(session, node, outer, ctes)
    if isinstance(node, exp.SetOperation):
        return _set_operation(session, node, outer, ctes)
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
        if unread(node, "this", "with_", "order", "limit", "offset"):
            raise unsupported("this parenthesized query")
        inner = compile_query(session, node.this, outer, ctes)
        return _tailed(session, node, inner)
    raise unsupported(f"{type(node).__name__} as a query")


def _commons(session: Session, node: exp.With, ctes: Mapping[str, Relation]) -> dict[str, Relation]:
    """WITH: each common table is computed once; it sees those before it, and nothing around the query."""
    if node.args.get("recursive"):
        raise unsupported("WITH RECURSIVE")
    known = dict(ctes)
    seen: set[str] = set()
    for common_table in node.expressions:
        if unread(common_table, "this", "alias") or common_table.args["alias"].columns:
            raise unsupported("this WITH clause")
        name = common_table.alias
        if name.lower() in seen:
            raise invalid_query(f"Duplicate alias {name} for WITH subquery")
        seen.add(name.lower())
        relation = compile_query(session, common_table.this, None, known)
        held = session.fresh("w")
        session.commons.append((held, relation.sql))
        known[name.lower()] = replace(relation, sql=f"SELECT * FROM {held}")
    return known


def compile_view(session: Session, table: Table) -> Relation:
    """The rows of a view: its query, with the names that its own project completes."""
    if session.depth >= _MAX_VIEW_DEPTH:
        raise ApiError(400, "invalidQuery", "Too many nested views")
    if table not in session.opened:
        session.opened.append(table)
    kept = session.names, session.depth
    session.names, session.depth = Names(table.project), session.depth + 1
    try:
        return compile_query(session, parse(table.view_sql), None, {})
    finally:
        session.names, session.depth = kept


def _set_operation(
    session: Session, node: exp.SetOperation, outer: Scope | None, ctes: Mapping[str, Relation]
) -> Relation:
    known = ("this", "expression", "distinct", "by_name", "with_", "order", "limit", "offset")
    if unread(node, *known) or (not isinstance(node, exp.Union) and not node.args.get("distinct")):
        raise unsupported("this set operation")
    sides = [compile_query(session, side, outer, ctes) for side in (node.this, node.expression)]
    if node.args.get("by_name"):
        sides[1] = _by_name(*sides)
    if len(sides[0].columns) != len(sides[1].columns):
        counts = " vs ".join(str(len(side.columns)) for side in sides)
        raise invalid_query(f"Queries in {_SET_WORDS[type(node)]} have mismatched column count; query 1 vs: {counts}")
    word = _SET_WORDS[type(node)] + ("" if node.args.get("distinct") else " ALL")
    return _tailed(session, node, _united(session, node, sides, word))


def _by_name(left: Relation, right: Relation) -> Relation:
    held = {column.name.lower(): column for column in right.columns}
    names = [column.name.lower() for column in left.columns]
    if sorted(held) != sorted(names) or len(held) != len(right.columns):
        raise unsupported("BY NAME over different columns")
    return replace(right, columns=[held[name] for name in names])


def _united(session: Session, node: exp.SetOperation, sides: list[Relation], word: str) -> Relation:
    pairs = zip(sides[0].columns, sides[1].columns, strict=True)
    unified = [common([a.value, b.value], f"set operation {word}") for a, b in pairs]
    if word != "UNION ALL" and any(pair[0].kind in t.UNGROUPED or pair[0].kind == "ARRAY" for pair in unified):
        raise unsupported(f"{word} over {[str(pair[0].type) for pair in unified]}")
    outs = [session.fresh("o") for _ in unified]
    texts = []
    for index, side in enumerate(sides):
        shown = ", ".join(f"{pair[index].sql} AS {out}" for pair, out in zip(unified, outs, strict=True))
        texts.append(f"(SELECT {shown} FROM ({side.sql}) AS {session.fresh('s')})")
    every = word != "UNION ALL"
    always = sides[0].always | sides[1].always
    columns = []
    for column, pair, out in zip(sides[0].columns, unified, outs, strict=True):
        reads = pair[0].reads | pair[1].reads
        always |= reads if every else frozenset[Read]()
        origins = pair[0].origins + pair[1].origins if pair[0].origins and pair[1].origins else ()
        columns.append(Column(column.name, Value(out, pair[0].type, reads, origins=origins)))
    return Relation(f" {word} ".join(texts), columns, always, sides[0].whole and sides[1].whole)


def _tailed(session: Session, node: exp.Expr, inner: Relation) -> Relation:
    """ORDER BY, LIMIT and OFFSET behind a set operation or a parenthesized query."""
    order, limit, offset = (node.args.get(name) for name in ("order", "limit", "offset"))
    if order is None and limit is None and offset is None:
        return inner
    name = session.fresh("s")
    shown = ", ".join(f"{name}.{column.value.sql}" for column in inner.columns)
    sql = f"SELECT {shown} FROM ({inner.sql}) AS {name}"
    always = inner.always
    if order is not None:
        terms: list[str] = []
        for term in order.expressions:
            column = _output(term.this, inner.columns)
            terms += ordered(term, column.value)
            always |= column.value.reads
        sql += " ORDER BY " + ", ".join(terms)
    sql += tail_text(session, limit, offset)
    columns = inner.columns
    if limit is not None or offset is not None:
        columns = [replace(column, value=replace(column.value, origins=())) for column in columns]
    return replace(inner, sql=sql, columns=columns, always=always)


def _output(node: exp.Expr, columns: list[Column]) -> Column:
    """The output column that ORDER BY names behind a set operation: by position or by name."""
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        if not 1 <= int(node.name) <= len(columns):
            raise invalid_query(f"ORDER BY column number item is out of range. It should be in [1, {len(columns)}]")
        return columns[int(node.name) - 1]
    found = [column for column in columns if isinstance(node, exp.Column) and column.name.lower() == node.name.lower()]
    if not found:
        if isinstance(node, exp.Column):
            raise invalid_query(f"Unrecognized name: {node.parts[0].name}")
        raise unsupported("an expression in ORDER BY behind a set operation")
    return found[0]
