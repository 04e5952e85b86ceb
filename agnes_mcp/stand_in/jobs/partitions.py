"""Which partitions a filter leaves, and whether it can leave any out at all.

A predicate over the partition column is turned into one over each partition's first and last value that is true
wherever a row of the partition might satisfy it. What cannot be turned so leaves every partition in.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import ApiError

_FLIPPED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.LT: exp.GT,
    exp.GT: exp.LT,
    exp.LTE: exp.GTE,
    exp.GTE: exp.LTE,
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
}
_NEGATED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.LT: exp.GTE,
    exp.GTE: exp.LT,
    exp.GT: exp.LTE,
    exp.LTE: exp.GT,
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
}
#: Functions of the partition column that keep its order, so that they may be applied to both bounds.
_MONOTONE = frozenset({"DATE", "TIMESTAMP", "DATETIME", "DATE_TRUNC", "TIMESTAMP_TRUNC", "DATETIME_TRUNC"})
#: What the columns of the table in question are qualified by; a date part such as DAY is a column of no table.
PLACE = "__place"
LOW, HIGH = "low", "high"


def partition_filter(table: Table, conditions: list[exp.Expr]) -> exp.Expr | None:
    """The conditions as one over a partition's `low` and `high`; None when no partition can be left out by them."""
    if table.shards:
        columns = {"_table_suffix"}
    elif table.partition is None:
        return None
    else:
        columns = {table.partition.field.lower()} if table.partition.field else {"_partitiontime", "_partitiondate"}
    usable = [kept for kept in (_may(condition.unnest(), columns) for condition in conditions) if kept is not None]
    return exp.and_(*usable) if usable else None


def required_filter_missing(table: Table) -> ApiError:
    column = (
        table.partition.field if table.partition else None
    ) or "_PARTITION_LOAD_TIME', '_PARTITIONDATE', '_PARTITIONTIME"
    return ApiError(
        400,
        "invalidQuery",
        f"Cannot query over table '{table.dotted}' without a filter over column(s) '{column}' "
        "that can be used for partition elimination",
        "query",
    )


def _may(node: exp.Expr, columns: set[str], negated: bool = False) -> exp.Expr | None:
    """A condition on `low` and `high` that holds wherever `node` (or its negation) might; None is "always"."""
    node = node.unnest()
    if isinstance(node, exp.Not):
        return _may(node.this, columns, not negated)
    if isinstance(node, exp.And | exp.Or):
        return _joined(node, columns, negated)
    if isinstance(node, exp.Between):
        both = exp.And(
            this=exp.GTE(this=node.this.copy(), expression=node.args["low"].copy()),
            expression=exp.LTE(this=node.this.copy(), expression=node.args["high"].copy()),
        )
        return _may(both, columns, negated)
    if isinstance(node, exp.In) and node.expressions:
        either = exp.or_(*(exp.EQ(this=node.this.copy(), expression=e.copy()) for e in node.expressions), wrap=False)
        return _may(either, columns, negated)
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null) and _wraps(node.this, columns):
        low = exp.column(LOW)
        return exp.Not(this=low.is_(exp.Null())) if negated else low.is_(exp.Null())
    if type(node) in _FLIPPED:
        return _compared(node, columns, negated)
    return None


def _joined(node: exp.Expr, columns: set[str], negated: bool) -> exp.Expr | None:
    sides = [_may(side, columns, negated) for side in (node.this, node.expression)]
    usable = [side for side in sides if side is not None]
    if isinstance(node, exp.And) != negated:
        return exp.and_(*usable) if usable else None
    return exp.or_(*usable) if len(usable) == len(sides) else None


def _compared(node: exp.Expr, columns: set[str], negated: bool) -> exp.Expr | None:
    left, right, operator = node.this, node.expression, type(node)
    if not _wraps(left, columns):
        left, right, operator = right, left, _FLIPPED[operator]
    if not _wraps(left, columns) or not _is_constant(right):
        return None
    if negated:
        operator = _NEGATED[operator]
    low, high = _at(left, LOW), _at(left, HIGH)
    constant: Callable[[], exp.Expr] = right.copy
    if operator in (exp.LT, exp.LTE):
        return operator(this=low, expression=constant())
    if operator in (exp.GT, exp.GTE):
        return operator(this=high, expression=constant())
    if operator is exp.EQ:
        return exp.and_(exp.LTE(this=low, expression=constant()), exp.GTE(this=high, expression=constant()))
    return exp.or_(exp.NEQ(this=low, expression=constant()), exp.NEQ(this=high, expression=constant()))


def _wraps(node: exp.Expr, columns: set[str]) -> bool:
    """Whether `node` is the partition column, or an order-keeping function of it and constants."""
    if isinstance(node, exp.Column):
        return node.table == PLACE and node.name.lower() in columns
    if isinstance(node, exp.Cast | exp.Paren):
        return _wraps(node.this, columns)
    if not isinstance(node, exp.Anonymous) or node.name.upper() not in _MONOTONE or not node.expressions:
        return False
    return _wraps(node.expressions[0], columns) and all(_is_constant(part) for part in node.expressions[1:])


def _is_constant(node: exp.Expr) -> bool:
    return node.find(exp.Query) is None and not any(column.table == PLACE for column in node.find_all(exp.Column))


def _at(node: exp.Expr, bound: str) -> exp.Expr:
    """`node` with the partition column replaced by one of a partition's bounds."""
    copied = node.copy()
    column = next((found for found in copied.find_all(exp.Column) if found.table == PLACE), None)
    if column is None:
        return copied
    replacement: exp.Expr = exp.column(bound)
    if column.name.lower() == "_partitiondate":
        replacement = exp.cast(replacement, "DATE")
    if column is copied:
        return replacement
    column.replace(replacement)
    return copied
