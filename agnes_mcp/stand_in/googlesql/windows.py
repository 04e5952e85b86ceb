"""OVER: windows, their frames, and the functions that stand only there."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.aggregates import Aggregate, answer_of, full_name, read_call
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.ordering import order_terms
from agnes_mcp.stand_in.googlesql.rules import Clause, rule, value_of
from agnes_mcp.stand_in.googlesql.values import (
    Value,
    as_type,
    common,
    comparable,
    no_signature,
    null_of,
    unsupported,
)
from agnes_mcp.stand_in.wire.replies import invalid_query

_NUMBERING = {
    "ROW_NUMBER": t.INT64,
    "RANK": t.INT64,
    "DENSE_RANK": t.INT64,
    "PERCENT_RANK": t.FLOAT64,
    "CUME_DIST": t.FLOAT64,
}
_NAVIGATION = ("FIRST_VALUE", "LAST_VALUE", "NTH_VALUE", "LAG", "LEAD")
_PERCENTILES = ("PERCENTILE_CONT", "PERCENTILE_DISC")
#: What a window function may not stand on: its own frame.
_FRAMELESS = (*_NUMBERING, "NTILE", "LAG", "LEAD", *_PERCENTILES)


@rule(exp.Window)
def _window(node: exp.Window, clause: Clause) -> Value:
    if not clause.analytic:
        raise invalid_query(f"Analytic function not allowed in {clause.name}")
    called = node.this
    if isinstance(called, exp.Dot):
        called = called.expression
    if not isinstance(called, exp.Anonymous) or unread(node, "this", "partition_by", "order", "spec", "alias", "over"):
        raise unsupported("this window")
    name = full_name(called)
    parts, order, frame, values = _definition(node, clause.within_window(), set())
    if frame and name in _FRAMELESS:
        raise invalid_query(f"Window framing clause is not allowed for analytic function {name}")
    if not order and name in (*_NUMBERING, "NTILE", *_NAVIGATION) and name != "ROW_NUMBER":
        raise invalid_query(f"Window ORDER BY is required for analytic function {name}")
    over = f" OVER ({' '.join(text for text in (parts, order, frame) if text)})"
    found = _answer(read_call(called, name, clause, over), order)
    read = found.reads.union(*(value.reads for value in values))
    return replace(found, windowed=True, aggregated=found.aggregated or any(v.aggregated for v in values), reads=read)


def _definition(node: exp.Window, clause: Clause, seen: set[str]) -> tuple[str, str, str, list[Value]]:
    """PARTITION BY, ORDER BY and the frame of a window, those of the window that it names included."""
    parts, order, frame = "", "", ""
    values: list[Value] = []
    base = node.args.get("alias")
    if base is not None:
        named = clause.windows.get(base.name.lower())
        if named is None or base.name.lower() in seen:
            raise invalid_query(f"Unrecognized window alias {base.name}")
        parts, order, frame, values = _definition(named, clause, seen | {base.name.lower()})
    if node.args.get("partition_by"):
        keys = [value_of(key, clause) for key in node.args["partition_by"]]
        for key in keys:
            if key.kind in (*t.UNORDERED, "FLOAT64"):
                raise invalid_query(f"Partitioning by expressions of type {key.type} is not allowed")
        parts = "PARTITION BY " + ", ".join(comparable(key) for key in keys)
        values = [*values, *keys]
    spec = node.args.get("spec")
    if node.args.get("order") is not None:
        terms, keys = order_terms(node.args["order"].expressions, clause)
        ranged = spec is not None and spec.args.get("kind") == "RANGE"
        if ranged and len(keys) == 1 and len(terms) == 2:
            terms = terms[1:]  # a RANGE frame counts along one key
        order = "ORDER BY " + ", ".join(terms)
        values = [*values, *keys]
    if spec is not None:
        frame = _frame(spec)
    return parts, order, frame, values


def _frame(spec: exp.WindowSpec) -> str:
    if unread(spec, "kind", "start", "start_side", "end", "end_side"):
        raise unsupported("this window frame")
    bounds = [_bound(spec.args.get(edge), spec.args.get(f"{edge}_side")) for edge in ("start", "end")]
    if bounds[1] == "":
        bounds[1] = "CURRENT ROW"
    return f"{spec.args['kind']} BETWEEN {bounds[0]} AND {bounds[1]}"


def _bound(bound: exp.Expr | str | None, side: str | None) -> str:
    if isinstance(bound, exp.Literal):
        return f"{bound.name} {side}"
    if isinstance(bound, exp.Expr):
        raise unsupported("a window frame whose bound is no literal")
    return " ".join(word for word in (bound, side) if word)


def _answer(a: Aggregate, order: str) -> Value:
    if a.name in _NUMBERING:
        a.takes(0)
        return a.value(f"CAST({a.call(a.name.lower())} AS {_NUMBERING[a.name].duckdb()})", _NUMBERING[a.name])
    if a.name == "NTILE":
        a.takes(1)
        buckets = as_type(a.values[0], t.INT64, "NTILE's argument")
        return a.value(f"CAST({a.call('ntile', buckets.sql)} AS BIGINT)", t.INT64)
    if a.name in _NAVIGATION:
        return _navigated(a)
    if a.name in _PERCENTILES:
        return _percentile(a, order)
    answer = answer_of(a.name)
    if answer is None or a.name == "GROUPING":
        raise invalid_query(f"Function {a.name} does not support an OVER clause")
    if a.distinct and order:
        raise invalid_query(f"Window ORDER BY is not allowed if DISTINCT is specified: {a.name}")
    return answer(a)


def _navigated(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "HAVING", "DISTINCT")
    if not a.values:
        raise no_signature(f"function {a.name}", a.values)
    value = a.values[0]
    ignoring = " IGNORE NULLS" if a.nulls == "IGNORE" else ""
    if ignoring and a.name in ("LAG", "LEAD"):
        raise invalid_query(f"IGNORE NULLS and RESPECT NULLS are not allowed for analytic function {a.name}")
    if a.name in ("FIRST_VALUE", "LAST_VALUE"):
        a.takes(1)
        return a.value(a.call(a.name.lower(), value.sql + ignoring), value.type)
    if a.name == "NTH_VALUE":
        a.takes(2)
        nth = as_type(a.values[1], t.INT64, "NTH_VALUE's argument")
        return a.value(a.call("nth_value", value.sql, nth.sql + ignoring), value.type)
    a.takes(1, 3)
    offset = as_type(a.values[1], t.INT64, f"{a.name}'s offset").sql if len(a.values) > 1 else "1"
    value, default = common([value, a.values[2] if len(a.values) > 2 else null_of()], f"function {a.name}")
    return a.value(a.call(a.name.lower(), value.sql, offset, default.sql), value.type)


def _percentile(a: Aggregate, order: str) -> Value:
    a.without("ORDER BY", "LIMIT", "HAVING", "DISTINCT")
    a.takes(2)
    if order:
        raise invalid_query(f"Window ORDER BY is not allowed for analytic function {a.name}")
    value = a.values[0]
    as_type(a.values[1], t.FLOAT64, f"{a.name}'s percentile")
    if a.nulls == "RESPECT":
        raise unsupported(f"{a.name} with RESPECT NULLS")
    share = a.values[1].text if a.values[1].literal else ""
    if not share:
        raise unsupported(f"{a.name} with a percentile that is no literal")
    if a.name == "PERCENTILE_DISC":
        if value.kind in (*t.UNORDERED, "BIGNUMERIC"):
            raise no_signature("function PERCENTILE_DISC", a.values)
        return a.value(a.call("quantile_disc", value.sql, share), value.type)
    if value.kind not in ("INT64", "FLOAT64", "NUMERIC"):
        raise no_signature("function PERCENTILE_CONT", a.values)
    number = as_type(value, t.FLOAT64, "PERCENTILE_CONT's argument")
    return a.value(a.call("quantile_cont", number.sql, share), t.FLOAT64)
