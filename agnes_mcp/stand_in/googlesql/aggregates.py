"""Aggregate functions, alone and over windows, and the functions that only windows have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.ordering import order_terms
from agnes_mcp.stand_in.googlesql.rules import Clause, call, value_of
from agnes_mcp.stand_in.googlesql.values import Value, as_type, comparable, made, no_signature, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query


@dataclass
class Aggregate:
    """One aggregate call, its arguments compiled and its modifiers apart; `over` is its window, "" for none."""

    name: str
    values: list[Value] = field(default_factory=list)
    distinct: bool = False
    order: list[str] = field(default_factory=list)
    ordering: list[Value] = field(default_factory=list)
    limit: int | None = None
    nulls: str = ""
    having: tuple[bool, Value] | None = None
    star: bool = False
    over: str = ""

    def call(self, function: str, *arguments: str, where: str = "") -> str:
        """The DuckDB call, with DISTINCT, the order, a filter and the window where they belong."""
        inside = ("DISTINCT " if self.distinct else "") + ", ".join(arguments)
        if self.order:
            inside += " ORDER BY " + ", ".join(self.order)
        kept = f" FILTER (WHERE {where})" if where else ""
        return f"{function}({inside}){kept}{self.over}"

    def value(self, sql: str, kind: t.Type) -> Value:
        found = made(sql, kind, *self.values, *self.ordering, *([self.having[1]] if self.having else []))
        return replace(found, windowed=True) if self.over else replace(found, aggregated=True)

    def takes(self, low: int, high: int | None = None) -> None:
        if not low <= len(self.values) <= (low if high is None else high):
            raise no_signature(f"function {self.name}", self.values)

    def without(self, *modifiers: str) -> None:
        """Refuse the modifiers that the function does not have."""
        given = {
            "ORDER BY": bool(self.order),
            "LIMIT": self.limit is not None,
            "NULLS": bool(self.nulls),
            "HAVING": self.having is not None,
            "DISTINCT": self.distinct,
        }
        for modifier in modifiers:
            if given[modifier]:
                raise invalid_query(f"{self.name} does not support {modifier} in arguments")


Answer = Callable[[Aggregate], Value]
_AGGREGATES: dict[str, Answer] = {}


def aggregate(*names: str) -> Callable[[Answer], Answer]:
    def register(answer: Answer) -> Answer:
        _AGGREGATES.update(dict.fromkeys(names, answer))
        call(*names)(_compiled)
        return answer

    return register


def answer_of(name: str) -> Answer | None:
    return _AGGREGATES.get(name)


def _compiled(node: exp.Anonymous, clause: Clause) -> Value:
    name = full_name(node)
    if not clause.aggregates:
        where = "Aggregations of aggregations are not allowed" if clause.name == "an aggregate" else ""
        raise invalid_query(where or f"Aggregate function {name} not allowed in {clause.name}")
    return _AGGREGATES[name](read_call(node, name, clause))


def full_name(node: exp.Anonymous) -> str:
    """`COUNT`, or `HLL_COUNT.INIT` for a call within that path."""
    within = isinstance(node.parent, exp.Dot) and node.parent.this.name.upper() == "HLL_COUNT"
    return f"HLL_COUNT.{node.name.upper()}" if within else node.name.upper()


def read_call(node: exp.Anonymous, name: str, clause: Clause, over: str = "") -> Aggregate:
    """The call's arguments compiled, with what stands around them taken off."""
    found = Aggregate(name, over=over)
    inner = clause.within_aggregate() if not over else clause.within_window()
    nodes: list[exp.Expr] = []
    for argument in node.expressions:
        nodes += _bared(argument, found, inner)
    if nodes and isinstance(nodes[0], exp.Star) and len(nodes) == 1 and name == "COUNT":
        found.star = True
        return found
    found.values = [value_of(argument, inner) for argument in nodes]
    return found


def _bared(argument: exp.Expr, found: Aggregate, clause: Clause) -> list[exp.Expr]:
    if isinstance(argument, exp.Limit):
        if not isinstance(argument.expression, exp.Literal):
            raise unsupported("LIMIT in an aggregate that is no literal")
        found.limit = int(argument.expression.name)
        return _bared(argument.this, found, clause)
    if isinstance(argument, exp.Order):
        found.order, found.ordering = order_terms(argument.expressions, clause)
        return _bared(argument.this, found, clause)
    if isinstance(argument, exp.IgnoreNulls | exp.RespectNulls):
        found.nulls = "IGNORE" if isinstance(argument, exp.IgnoreNulls) else "RESPECT"
        return _bared(argument.this, found, clause)
    if isinstance(argument, exp.HavingMax):
        found.having = (bool(argument.args.get("max")), value_of(argument.expression, clause))
        return _bared(argument.this, found, clause)
    if isinstance(argument, exp.Distinct):
        found.distinct = True
        return list(argument.expressions)
    return [argument]


@aggregate("COUNT")
def _count(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "HAVING")
    if a.star:
        return a.value(a.call("count", "*"), t.INT64)
    a.takes(1)
    if a.distinct and a.values[0].kind in t.UNGROUPED:
        raise invalid_query(
            f"Aggregate functions with DISTINCT cannot be used with arguments of type {a.values[0].type}"
        )
    return a.value(a.call("count", comparable(a.values[0])), t.INT64)


@aggregate("COUNTIF")
def _countif(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "HAVING", "DISTINCT")
    a.takes(1)
    condition = as_type(a.values[0], t.BOOL, "COUNTIF's argument")
    return a.value(a.call("count", f"CASE WHEN {condition.sql} THEN 1 END"), t.INT64)


@aggregate("SUM", "AVG")
def _sum(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "HAVING")
    a.takes(1)
    kind, sql = a.values[0].kind, a.values[0].sql
    if kind == "BIGNUMERIC":
        if a.name == "AVG":
            raise unsupported("AVG of BIGNUMERIC")
        return a.value(f"bq_big_text({a.call('sum', comparable(a.values[0]))})", t.BIGNUMERIC)
    if kind not in (*t.NUMBERS, "NULL"):
        raise no_signature(f"aggregate function {a.name}", a.values)
    if a.name == "SUM":
        shown = {"FLOAT64": ("DOUBLE", t.FLOAT64), "NUMERIC": ("DECIMAL(38, 9)", t.NUMERIC)}
        stored, answer = shown.get(kind, ("BIGINT", t.INT64))
        return a.value(f"CAST({a.call('sum', sql)} AS {stored})", answer)
    if kind == "NUMERIC":
        divided = f"bq_numeric_div({a.call('sum', sql)}, CAST(nullif({a.call('count', sql)}, 0) AS DECIMAL(38, 9)))"
        return a.value(divided, t.NUMERIC)
    return a.value(a.call("avg", sql), t.FLOAT64)


@aggregate("MIN", "MAX")
def _extreme(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "HAVING")
    a.takes(1)
    value = a.values[0]
    if value.kind in t.UNORDERED or value.type.collation:
        raise no_signature(f"aggregate function {a.name}", a.values)
    if value.kind == "BIGNUMERIC":
        return a.value(f"bq_big_text({a.call(a.name.lower(), comparable(value))})", value.type)
    taken = a.call(a.name.lower(), value.sql)
    if value.kind == "FLOAT64":
        nan = a.call("bool_or", f"isnan({value.sql})")
        taken = f"CASE WHEN {nan} THEN CAST('nan' AS DOUBLE) ELSE {taken} END"
    return a.value(taken, value.type)


@aggregate("ANY_VALUE", "MAX_BY", "MIN_BY")
def _any_value(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "DISTINCT")
    if a.name == "ANY_VALUE":
        a.takes(1)
        having = a.having
    else:
        a.takes(2)
        having = (a.name == "MAX_BY", a.values[1])
    if having is None:
        return a.value(a.call("any_value", a.values[0].sql), a.values[0].type)
    most, by = having
    if by.kind in (*t.UNORDERED, "FLOAT64") and by.kind != "FLOAT64":
        raise no_signature(f"function {a.name}", a.values)
    return a.value(
        a.call("arg_max_null" if most else "arg_min_null", a.values[0].sql, comparable(by)), a.values[0].type
    )


@aggregate("ARRAY_AGG")
def _array_agg(a: Aggregate) -> Value:
    a.without("HAVING")
    a.takes(1)
    value = a.values[0]
    if value.kind == "ARRAY":
        raise invalid_query("The argument to ARRAY_AGG must not be an array type but was " + str(value.type))
    listed = a.call("list", value.sql, where=f"{value.sql} IS NOT NULL" if a.nulls == "IGNORE" else "")
    return a.value(listed if a.limit is None else f"({listed})[1:{a.limit}]", t.array_of(value.type))


@aggregate("ARRAY_CONCAT_AGG")
def _array_concat(a: Aggregate) -> Value:
    a.without("HAVING", "NULLS", "DISTINCT")
    a.takes(1)
    value = a.values[0]
    if value.kind != "ARRAY":
        raise no_signature("aggregate function ARRAY_CONCAT_AGG", a.values)
    listed = a.call("list", value.sql, where=f"{value.sql} IS NOT NULL")
    return a.value(f"flatten({listed if a.limit is None else f'({listed})[1:{a.limit}]'})", value.type)


@aggregate("STRING_AGG")
def _string_agg(a: Aggregate) -> Value:
    a.without("HAVING", "NULLS")
    a.takes(1, 2)
    value = as_type(a.values[0], t.STRING, "STRING_AGG's argument")
    between = as_type(a.values[1], t.STRING, "STRING_AGG's delimiter").sql if len(a.values) == 2 else "','"
    listed = a.call("list", value.sql, where=f"{value.sql} IS NOT NULL")
    kept = listed if a.limit is None else f"({listed})[1:{a.limit}]"
    return a.value(f"array_to_string({kept}, {between})", t.STRING)


#: Aggregates of one argument that DuckDB computes the same: (its type, the DuckDB function, the answer).
_PLAIN: dict[str, tuple[t.Type, str, t.Type]] = {
    "LOGICAL_AND": (t.BOOL, "bool_and", t.BOOL),
    "LOGICAL_OR": (t.BOOL, "bool_or", t.BOOL),
    "BIT_AND": (t.INT64, "bit_and", t.INT64),
    "BIT_OR": (t.INT64, "bit_or", t.INT64),
    "BIT_XOR": (t.INT64, "bit_xor", t.INT64),
    "STDDEV": (t.FLOAT64, "stddev_samp", t.FLOAT64),
    "STDDEV_SAMP": (t.FLOAT64, "stddev_samp", t.FLOAT64),
    "STDDEV_POP": (t.FLOAT64, "stddev_pop", t.FLOAT64),
    "VARIANCE": (t.FLOAT64, "var_samp", t.FLOAT64),
    "VAR_SAMP": (t.FLOAT64, "var_samp", t.FLOAT64),
    "VAR_POP": (t.FLOAT64, "var_pop", t.FLOAT64),
    "CORR": (t.FLOAT64, "corr", t.FLOAT64),
    "COVAR_POP": (t.FLOAT64, "covar_pop", t.FLOAT64),
    "COVAR_SAMP": (t.FLOAT64, "covar_samp", t.FLOAT64),
}


@aggregate(*_PLAIN)
def _plain(a: Aggregate) -> Value:
    a.without("ORDER BY", "LIMIT", "NULLS", "HAVING")
    wanted, function, answer = _PLAIN[a.name]
    a.takes(2 if a.name.startswith("CO") else 1)
    taken = [as_type(value, wanted, f"{a.name}'s argument").sql for value in a.values]
    if len(taken) == 2 and a.distinct:
        raise unsupported(f"{a.name} of DISTINCT values")
    return a.value(a.call(function, *taken), answer)


@aggregate("GROUPING")
def _grouping(a: Aggregate) -> Value:
    a.takes(1)
    return a.value(f"CAST(grouping({a.values[0].sql}) AS BIGINT)", t.INT64)
