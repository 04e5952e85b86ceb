"""Operators over types that GoogleSQL does not mix and DuckDB would cast: refused as BigQuery refuses them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from agnes_mcp.stand_in.wire.replies import invalid_query

_FAMILIES = {
    "number": frozenset({"INT64", "FLOAT64", "NUMERIC", "BIGNUMERIC"}),
    "text": frozenset({"STRING"}),
    "bytes": frozenset({"BYTES"}),
    "truth": frozenset({"BOOL"}),
    "date": frozenset({"DATE"}),
    "datetime": frozenset({"DATETIME"}),
    "timestamp": frozenset({"TIMESTAMP"}),
    "time": frozenset({"TIME"}),
}
_FAMILY_OF = {kind: family for family, kinds in _FAMILIES.items() for kind in kinds}
_TEMPORAL = frozenset({"date", "datetime", "timestamp", "time"})
_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.Like: "LIKE",
}


def refuse_mixed_types(annotated: exp.Expr) -> None:
    """Raise for the first comparison of, say, a STRING with an INT64; `annotated` carries sqlglot's types."""
    for node in annotated.find_all(*_SIGNS, exp.In, exp.Between):
        for sign, left, right in _pairs(node):
            if not _comparable(left, right):
                kinds = f"{_written(left)}, {_written(right)}"
                raise invalid_query(f"No matching signature for operator {sign} for argument types: {kinds}")


def _pairs(node: exp.Expr) -> Iterator[tuple[str, exp.Expr, exp.Expr]]:
    if isinstance(node, exp.In):
        yield from (("IN", node.this, element) for element in node.expressions)
    elif isinstance(node, exp.Between):
        yield from (("BETWEEN", node.this, node.args[bound]) for bound in ("low", "high"))
    else:
        yield _SIGNS[type(node)], node.this, node.expression


def _comparable(left: exp.Expr, right: exp.Expr) -> bool:
    families = [_FAMILY_OF.get(_written(side)) for side in (left, right)]
    if None in families or families[0] == families[1]:
        return True
    for side, other in ((left, families[1]), (right, families[0])):
        if isinstance(side, exp.Literal) and side.is_string and other in _TEMPORAL:
            return True  # a string literal is coerced to the other's date or time
    return set(families) == {"date", "datetime"}


def _written(node: exp.Expr) -> str:
    return node.type.sql("bigquery").upper() if node.type is not None else ""
