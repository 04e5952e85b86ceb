"""`*` and `t.*` written out, with EXCEPT and REPLACE."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.names import Column, Scope, field_of, place_of_node, resolved
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.values import Value, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query


def expanded(item: exp.Expr, scope: Scope, clause: Clause) -> list[tuple[str, Value]] | None:
    """The outputs that a star stands for; None for anything but a star."""
    star, columns = _star_of(item, scope, clause)
    if star is None:
        return None
    if unread(star, "except_", "replace"):
        raise unsupported("this *")
    shown = [(column.name, column.value) for column in columns]
    left_out = [part.name.lower() for part in star.args.get("except_") or ()]
    for name in left_out:
        if name not in {known.lower() for known, _ in shown}:
            raise invalid_query(f"Column {name} in SELECT * EXCEPT list does not exist")
    shown = [(name, value) for name, value in shown if name.lower() not in left_out]
    for part in star.args.get("replace") or ():
        shown = _replaced(shown, part.alias, value_of(part.this, clause))
    if not shown:
        raise invalid_query("SELECT * expands to zero columns after applying EXCEPT")
    return shown


def _replaced(shown: list[tuple[str, Value]], name: str, by: Value) -> list[tuple[str, Value]]:
    if name.lower() not in {known.lower() for known, _ in shown}:
        raise invalid_query(f"Column {name} in SELECT * REPLACE list does not exist")
    return [(known, by if known.lower() == name.lower() else value) for known, value in shown]


def _star_of(item: exp.Expr, scope: Scope, clause: Clause) -> tuple[exp.Star | None, list[Column]]:
    if isinstance(item, exp.Star):
        if not scope.variables:
            raise invalid_query("SELECT * must have a FROM clause")
        return item, _all(scope)
    if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
        path = [part for part in item.parts if isinstance(part, exp.Identifier)]
        variable = scope.variable(path[0].name) if len(path) == 1 else None
        if variable is not None:
            return item.this, variable.shown
        return item.this, _fields(resolved(scope, path, place_of_node(path[0])))
    if isinstance(item, exp.Dot) and isinstance(item.expression, exp.Star):
        return item.expression, _fields(value_of(item.this, clause))
    return None, []


def _fields(value: Value) -> list[Column]:
    if value.kind != "STRUCT":
        raise invalid_query(f"Dot-star is not supported for type {value.type}")
    return [Column(name, field_of(value, name)) for name, _ in value.type.fields]


def _all(scope: Scope) -> list[Column]:
    """USING's columns once and first, then those of every table in the order of FROM."""
    merged = list(scope.merged.values())
    names = set(scope.merged)
    rest = [column for variable in scope.variables for column in variable.shown if column.name.lower() not in names]
    return [*merged, *rest]
