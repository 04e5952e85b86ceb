"""Approximate aggregates and sketches: exact here, which is one of the answers that BigQuery may give."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.aggregates import Aggregate, aggregate
from agnes_mcp.stand_in.googlesql.rules import Clause, call, value_of
from agnes_mcp.stand_in.googlesql.values import Value, as_type, coerced, comparable, made, no_signature, unsupported


@aggregate("APPROX_COUNT_DISTINCT")
def _approx_count(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "HAVING", "DISTINCT")
    a.takes(1)
    a.distinct = True
    return a.value(a.call("count", comparable(a.values[0])), t.INT64)


@aggregate("APPROX_QUANTILES")
def _approx_quantiles(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "HAVING")
    a.takes(2)
    value, count = a.values
    if (
        count.literal != "int"
        or int(count.text) < 1
        or a.nulls == "RESPECT"
        or value.kind in (*t.UNORDERED, "BIGNUMERIC")
    ):
        raise unsupported("APPROX_QUANTILES of this")
    points = ", ".join(f"{index / int(count.text)!r}" for index in range(int(count.text) + 1))
    return a.value(a.call("quantile_disc", value.sql, f"[{points}]"), t.array_of(value.type))


@aggregate("APPROX_TOP_COUNT", "APPROX_TOP_SUM")
def _approx_top(a: Aggregate) -> Value:
    """Exact, the greatest first; a NULL is a value too."""
    a.without("ORDER BY", "LIMIT", "HAVING", "NULLS", "DISTINCT")
    summed = a.name == "APPROX_TOP_SUM"
    a.takes(3 if summed else 2)
    value, most = a.values[0], a.values[-1]
    if most.literal != "int" or value.kind in t.UNORDERED:
        raise unsupported(f"{a.name} of this")
    weight = a.values[1] if summed else Value("CAST(1 AS BIGINT)", t.INT64)
    if weight.kind not in ("INT64", "FLOAT64", "NUMERIC"):
        raise no_signature(f"aggregate function {a.name}", a.values)
    rows = a.call("list", f"struct_pack(v := {value.sql}, w := {weight.sql})")
    keys = f"list_distinct(list_transform({rows}, lambda e: struct_pack(v := e.v)))"
    total = "list_sum(list_transform(list_filter(" + rows + ", lambda r: r.v IS NOT DISTINCT FROM k.v), lambda r: r.w))"
    sums = f"list_transform({keys}, lambda k: struct_pack(s := -({total}), v := k.v))"
    kind = t.struct_of([("value", value.type), ("sum" if summed else "count", weight.type)])
    name = "sum" if summed else "count"
    shown = f'struct_pack("value" := e.v, "{name}" := CAST(-e.s AS {weight.type.duckdb()}))'
    sql = f"list_transform(list_sort({sums})[1:{most.text}], lambda e: {shown})"
    return a.value(sql, t.array_of(kind))


@aggregate("HLL_COUNT.INIT", "HLL_COUNT.MERGE", "HLL_COUNT.MERGE_PARTIAL")
def _sketch(a: Aggregate) -> Value:
    """A sketch here is the sorted digests of all distinct values: it counts exactly where BigQuery's is near."""
    a.without("ORDER BY", "LIMIT", "HAVING", "NULLS", "DISTINCT")
    verb = a.name.partition(".")[2]
    a.takes(1, 2 if verb == "INIT" else 1)
    value = a.values[0]
    if verb == "INIT":
        if value.kind not in ("INT64", "NUMERIC", "BIGNUMERIC", "STRING", "BYTES"):
            raise no_signature(f"aggregate function {a.name}", a.values)
        digests = a.call("list", f"md5(CAST({value.sql} AS VARCHAR))", where=f"{value.sql} IS NOT NULL")
        return a.value(f"encode(array_to_string(list_sort(list_distinct({digests})), ','))", t.BYTES)
    sketch = as_type(value, t.BYTES, f"{a.name}'s argument")
    listed = a.call("list", f"string_split(decode({sketch.sql}), ',')", where=f"{sketch.sql} IS NOT NULL")
    merged = f"list_distinct(flatten({listed}))"
    if verb == "MERGE":
        return a.value(f"coalesce(CAST(len({merged}) AS BIGINT), 0)", t.INT64)
    return a.value(f"encode(array_to_string(list_sort({merged}), ','))", t.BYTES)


@call("HLL_COUNT.EXTRACT")
def _sketch_count(node: exp.Anonymous, clause: Clause) -> Value:
    if len(node.expressions) != 1:
        raise no_signature("function HLL_COUNT.EXTRACT", [])
    sketch = as_type(value_of(node.expressions[0], clause), t.BYTES, "HLL_COUNT.EXTRACT's argument")
    counted = f"coalesce(CAST(len(string_split(decode({sketch.sql}), ',')) AS BIGINT), 0)"
    return made(counted, t.INT64, coerced(sketch, t.BYTES))
