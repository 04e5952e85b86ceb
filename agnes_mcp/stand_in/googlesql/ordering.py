"""ORDER BY terms with GoogleSQL's order: NULLs first ascending, then NaN, then numbers; texts by their bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.values import Value, comparable, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query


def order_terms(terms: Sequence[exp.Expr], clause: Clause) -> tuple[list[str], list[Value]]:
    """The DuckDB terms of each ORDER BY term, and the values that they order by."""
    texts: list[str] = []
    values: list[Value] = []
    for term in terms:
        value = value_of(term.this, clause)
        texts += ordered(term, value)
        values.append(value)
    return texts, values


def ordered(term: exp.Expr, value: Value, shown: str = "") -> list[str]:
    """The terms that order by `value`, written `shown` where it has a name."""
    if not isinstance(term, exp.Ordered) or unread(term, "this", "desc", "nulls_first"):
        raise unsupported("this ORDER BY")
    if value.kind in t.UNORDERED:
        raise invalid_query(f"ORDER BY does not support expressions of type {value.type}")
    direction = ("DESC" if term.args.get("desc") else "ASC") + (
        " NULLS FIRST" if term.args.get("nulls_first") else " NULLS LAST"
    )
    sql = shown if shown and not value.type.collation and value.kind != "BIGNUMERIC" else comparable(value)
    if value.kind == "FLOAT64":
        rank = f"CASE WHEN {sql} IS NULL THEN NULL WHEN isnan({sql}) THEN 0 ELSE 1 END"
        return [f"{rank} {direction}", f"{sql} {direction}"]
    return [f"{sql} {direction}"]
