"""Which columns a SELECT narrows by constants, and which of its relations are joined without a condition."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from agnes_mcp.sql.warehouse.binding import Binding
from agnes_mcp.sql.warehouse.plain import render
from agnes_mcp.sql.warehouse.scope import Origin, Range, Scope

_COMPARISONS = (exp.EQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
#: What may stand around a column without keeping BigQuery from cutting partitions by it.
_TRANSPARENT = frozenset({"DATE", "TIMESTAMP", "DATETIME", "DATE_TRUNC", "TIMESTAMP_TRUNC", "DATETIME_TRUNC"})
_QUERIES = (exp.Select, exp.Union, exp.Except, exp.Intersect)


class Conditions:
    def __init__(self, binding: Binding) -> None:
        self._binding = binding

    def note(self, select: exp.Expr, scope: Scope) -> None:
        """Note the conditions of one SELECT whose FROM and WHERE have been read."""
        joins = select.args.get("joins") or []
        where = select.args.get("where")
        conditions = list(_conjuncts(where.this)) if where is not None else []
        for join in joins:
            if join.args.get("on") is not None and join.args.get("side") not in ("FULL",):
                conditions += _conjuncts(join.args["on"])
        for condition in conditions:
            origin = self._narrowed(condition)
            if origin is not None:
                use, column = origin
                use.conditions.add(column)
                if (text := self._alone(condition, column)) is not None:
                    use.filters.append(text)
        self._note_crosses(joins, conditions, scope)

    def _narrowed(self, condition: exp.Expr) -> Origin | None:
        """The column that a condition compares with constants."""
        if type(condition) in _COMPARISONS:
            sides = (condition.this, condition.args["expression"])
            for side, other in (sides, sides[::-1]):
                origin = self._origin(side)
                if origin is not None and self._constant(other):
                    return origin
            return None
        if type(condition) is exp.Between:
            bounds = [condition.args["low"], condition.args["high"]]
        elif type(condition) is exp.In and not condition.args.get("query"):
            bounds = [*condition.expressions, *([condition.args["unnest"]] if condition.args.get("unnest") else [])]
        else:
            return None
        return self._origin(condition.this) if all(map(self._constant, bounds)) else None

    def _origin(self, node: exp.Expr) -> Origin | None:
        while True:
            if type(node) is exp.Column:
                found = self._binding.found.get(id(node))
                return found.origin if found else None
            if type(node) in (exp.Cast, exp.Paren):
                node = node.this
            elif type(node) is exp.Anonymous and node.name in _TRANSPARENT and node.expressions:
                node = node.expressions[0]
            else:
                return None

    def _alone(self, condition: exp.Expr, name: str) -> str | None:
        """The condition over the table alone; None where it looks into the column, or at another table's outer side."""
        found = [self._binding.found.get(id(node)) for node in condition.find_all(exp.Column)]
        if len(found) != 1 or found[0] is None or found[0].column is None or found[0].path[-1] != name:
            return None
        column = condition.find(exp.Column)
        if column is None:
            return None
        alone = exp.Column(this=exp.Identifier(this=name, quoted=True))
        column.replace(alone)  # and back: to copy a condition of a thousand values takes as long as to render it
        try:
            return render(condition)
        finally:
            alone.replace(column)

    def _constant(self, node: exp.Expr) -> bool:
        return not any(type(inner) is exp.Column or type(inner) in _QUERIES for inner in node.walk())

    def _note_crosses(self, joins: list[exp.Expr], conditions: list[exp.Expr], scope: Scope) -> None:
        rows = [r for r in scope.ranges if r.value is None]
        if len(rows) < 2 or not any(join.args.get("kind") == "CROSS" for join in joins):
            return
        linked = [self._ranges(condition) for condition in conditions]
        for join in joins:
            added = self._added(join, rows)
            if join.args.get("kind") != "CROSS" or added is None or added.single:
                continue
            others = [r for r in rows if r is not added and not r.single]
            if others and not any(added in ranges and len(ranges) > 1 for ranges in linked):
                self._binding.crosses.append((others[0].name, added.name))

    def _added(self, join: exp.Expr, rows: list[Range]) -> Range | None:
        name = join.this.alias_or_name.casefold() if type(join.this) in (exp.Table, exp.Subquery) else ""
        return next((r for r in rows if r.name == name), None) if name else None

    def _ranges(self, condition: exp.Expr) -> set[Range]:
        found = (self._binding.found.get(id(node)) for node in condition.find_all(exp.Column))
        return {f.range for f in found if f is not None and f.range is not None}


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that AND joins, however it is bracketed."""
    stack = [node]
    while stack:
        node = stack.pop()
        if type(node) is exp.And:
            stack += [node.args["expression"], node.this]
        elif type(node) is exp.Paren:
            stack.append(node.this)
        else:
            yield node
