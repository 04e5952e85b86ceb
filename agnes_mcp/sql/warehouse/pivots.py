"""PIVOT and UNPIVOT: what they read of the relation that they turn, and what comes out."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.sql.warehouse.binding import Ctes
from agnes_mcp.sql.warehouse.expressions import Expressions
from agnes_mcp.sql.warehouse.scope import Range, Relation, Scope


def pivoted(pivot: exp.Expr, turned: Range, scope: Scope, ctes: Ctes, expressions: Expressions) -> Range:
    """The range that `pivot` makes of `turned`. Every column of that counts: those that are not named group."""
    inside = Scope(scope.outer)
    inside.ranges.append(turned)
    pivot.args.pop("columns", None)
    unpivot = bool(pivot.args.get("unpivot"))
    for expression in pivot.expressions:  # aggregates, or the names of what UNPIVOT makes
        expressions.bind(expression, inside, ctes)
    for field in pivot.args.get("fields") or []:
        _field(field, unpivot, inside, ctes, expressions)
    alias = pivot.args.get("alias")
    name = expressions.fold(alias.this) if alias is not None and alias.this is not None else ""
    for column in turned.columns.values():
        if column.origin is not None:
            column.origin[0].columns.add(column.origin[1])
    return Range(name, Relation((), open=True))


def _field(field: exp.Expr, unpivot: bool, inside: Scope, ctes: Ctes, expressions: Expressions) -> None:
    """`FOR quarter IN (…)`: with PIVOT a column and values of it, with UNPIVOT a new name and columns."""
    if not unpivot or type(field.this) is exp.Identifier:
        expressions.bind(field.this, inside, ctes)
    for item in field.expressions:
        expressions.bind(item.this if type(item) is exp.PivotAlias else item, inside, ctes)
        if type(item) is exp.PivotAlias and type(item.args["alias"]) is exp.Identifier:
            expressions.bind(item.args["alias"], inside, ctes)
    if field.find(exp.Query) is not None:
        hint = "List the values, or turn a subquery: FROM (SELECT …) PIVOT(…)."
        raise expressions.refused("disallowed_node", "PIVOT and UNPIVOT take no subquery here.", hint, field)
