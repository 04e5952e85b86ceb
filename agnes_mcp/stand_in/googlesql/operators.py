"""Operators: equality, order, arithmetic, bits, LIKE, IN and BETWEEN, by the types of their operands."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.rules import Clause, rule, value_of
from agnes_mcp.stand_in.googlesql.values import (
    Value,
    as_type,
    case_aside,
    common,
    comparable,
    made,
    no_signature,
    unsupported,
)
from agnes_mcp.stand_in.wire.replies import invalid_query

_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


def equal(left: Value, right: Value, sign: str = "=") -> Value:
    """`left = right` with GoogleSQL's NULL, NaN and STRUCT."""
    a, b = common([left, right], f"operator {sign}")
    if a.kind in t.UNGROUPED or a.kind == "ARRAY":
        raise invalid_query(f"Equality is not defined for arguments of type {a.type}")
    if a.kind == "STRUCT":
        return made(_struct_equal(a, b), t.BOOL, a, b)
    return made(_guarded(a, b, f"{_sql(a, b)[0]} = {_sql(a, b)[1]}", a), t.BOOL, a, b)


def _sql(a: Value, b: Value) -> tuple[str, str]:
    if a.type.collation or b.type.collation:
        return case_aside(a), case_aside(b)
    return comparable(a), comparable(b)


def _struct_equal(a: Value, b: Value) -> str:
    """Field by field: false where one pair differs, else NULL where one is NULL."""
    names = zip(a.type.duckdb_names(), b.type.duckdb_names(), a.type.fields, strict=True)
    pairs = [
        equal(Value(f"({a.sql}).{quoted(x)}", kind), Value(f"({b.sql}).{quoted(y)}", kind)).sql
        for x, y, (_, kind) in names
    ]
    both = f"({a.sql}) IS NULL OR ({b.sql}) IS NULL"
    return f"CASE WHEN {both} THEN NULL ELSE ({' AND '.join(pairs) or 'TRUE'}) END"


def _guarded(a: Value, b: Value, comparison: str, *numbers: Value) -> str:
    """DuckDB has NaN equal to itself and above all numbers; in GoogleSQL no comparison with it holds."""
    if a.kind != "FLOAT64":
        return f"({comparison})"
    guards = [f"NOT isnan({number.sql})" for number in numbers if not number.literal]
    return f"({' AND '.join([comparison, *guards])})"


@rule(*_SIGNS)
def _compared(node: exp.Expr, clause: Clause) -> Value:
    sign = _SIGNS[type(node)]
    if isinstance(node.expression, exp.Any | exp.All):
        raise unsupported("comparison with ANY or ALL")
    left, right = value_of(node.this, clause), value_of(node.expression, clause)
    return compared(sign, left, right)


def compared(sign: str, left: Value, right: Value) -> Value:
    if sign == "=":
        return equal(left, right)
    if sign == "!=":
        same = equal(left, right, sign)
        return made(f"(NOT {same.sql})", t.BOOL, same)
    a, b = common([left, right], f"operator {sign}")
    if a.kind in t.UNORDERED:
        raise invalid_query(
            f"{'Less' if sign[0] == '<' else 'Greater'} than is not defined for arguments of type {a.type}"
        )
    x, y = _sql(a, b)
    return made(_guarded(a, b, f"{x} {sign} {y}", b if sign[0] == "<" else a), t.BOOL, a, b)


@rule(exp.NullSafeEQ, exp.NullSafeNEQ)
def _distinct(node: exp.Expr, clause: Clause) -> Value:
    a, b = common([value_of(node.this, clause), value_of(node.expression, clause)], "operator IS DISTINCT FROM")
    if a.kind in t.UNGROUPED:
        raise invalid_query(f"IS DISTINCT FROM is not defined for arguments of type {a.type}")
    word = "IS NOT DISTINCT FROM" if isinstance(node, exp.NullSafeEQ) else "IS DISTINCT FROM"
    x, y = _sql(a, b)
    return made(f"({x} {word} {y})", t.BOOL, a, b)


@rule(exp.Between)
def _between(node: exp.Between, clause: Clause) -> Value:
    if unread(node, "this", "low", "high"):
        raise unsupported("this BETWEEN")
    value, low, high = (value_of(part, clause) for part in (node.this, node.args["low"], node.args["high"]))
    a, b, c = common([value, low, high], "operator BETWEEN")
    first, second = compared(">=", a, b), compared("<=", a, c)
    return made(f"({first.sql} AND {second.sql})", t.BOOL, a, b, c)


@rule(exp.In)
def _in(node: exp.In, clause: Clause) -> Value:
    value = value_of(node.this, clause)
    if node.args.get("unnest") is not None:
        return _in_array(value, value_of(node.args["unnest"].expressions[0], clause))
    if node.args.get("query") is not None:
        return _in_query(value, node.args["query"], clause)
    values = [value_of(part, clause) for part in node.expressions]
    if not values or unread(node, "this", "expressions"):
        raise unsupported("this IN")
    subject, *listed = common([value, *values], "operator IN")
    if subject.kind in ("STRUCT", "FLOAT64") or any(v.type.collation for v in (value, *values)):
        return made("(" + " OR ".join(equal(subject, one).sql for one in listed) + ")", t.BOOL, subject, *listed)
    if subject.kind in t.UNGROUPED or subject.kind == "ARRAY":
        raise invalid_query(f"IN is not defined for arguments of type {subject.type}")
    inside = ", ".join(comparable(one) for one in listed)
    return made(f"({comparable(subject)} IN ({inside}))", t.BOOL, subject, *listed)


def _in_array(value: Value, array: Value) -> Value:
    if array.kind != "ARRAY":
        raise invalid_query(f"Second argument of IN UNNEST must be an array but was {array.type}")
    one = equal(value, Value("e", array.type.of))
    found = f"list_transform({array.sql}, lambda e: {one.sql})"
    return made(
        f"CASE WHEN {array.sql} IS NULL OR len({array.sql}) = 0 THEN FALSE WHEN list_contains({found}, TRUE) THEN TRUE "
        f"WHEN len(list_filter({found}, lambda e: e IS NULL)) > 0 THEN NULL ELSE FALSE END",
        t.BOOL,
        value,
        array,
    )


def _in_query(value: Value, query: exp.Expr, clause: Clause) -> Value:
    relation = clause.session.compile_query(clause.session, query, clause.scope, clause.ctes)
    if len(relation.columns) != 1:
        raise invalid_query("Subquery of type IN must have only one output column")
    column = relation.columns[0].value
    a, b = common([value, column], "operator IN")
    if a.kind in t.UNGROUPED or a.kind == "ARRAY":
        raise invalid_query(f"IN is not defined for arguments of type {a.type}")
    name = clause.session.fresh("q")
    if a.kind == "STRUCT":
        same = equal(a, replace(b, sql=f"{name}.{b.sql}")).sql
        found = f"CASE WHEN bool_or({same}) THEN TRUE WHEN count(*) > count({same}) THEN NULL ELSE FALSE END"
        inner = f"(SELECT {found} FROM ({relation.sql}) AS {name})"
        return Value(inner, t.BOOL, a.reads | column.reads | relation.always, volatile=value.volatile)
    inner = f"SELECT {comparable(b)} FROM ({relation.sql}) AS {name}"
    reads = a.reads | column.reads | relation.always
    guard = "" if a.kind != "FLOAT64" else f" AND NOT isnan({a.sql})"
    return Value(f"(({comparable(a)} IN ({inner})){guard})", t.BOOL, reads, volatile=value.volatile)


@rule(exp.Like)
def _like(node: exp.Like, clause: Clause) -> Value:
    subject = value_of(node.this, clause)
    pattern = node.expression
    if unread(node, "this", "expression", "negate"):
        raise unsupported("this LIKE")
    negated = bool(node.args.get("negate"))
    if isinstance(pattern, exp.Any | exp.All):
        return _like_each(subject, pattern, negated, clause)
    match = like(subject, value_of(pattern, clause))
    return made(f"(NOT {match.sql})", t.BOOL, match) if negated else match


def _like_each(subject: Value, pattern: exp.Any | exp.All, negated: bool, clause: Clause) -> Value:
    """LIKE ANY and LIKE ALL of patterns, of an array, of a subquery's only column."""
    listed = pattern.this.this if isinstance(pattern.this, exp.Paren) else pattern.this
    every = isinstance(pattern, exp.All)
    if isinstance(listed, exp.Subquery):
        listed = listed.this
    if isinstance(listed, exp.Unnest):
        array = value_of(listed.expressions[0], clause)
        if array.kind != "ARRAY":
            raise invalid_query(f"Second argument of LIKE UNNEST must be an array but was {array.type}")
        one = like(subject, Value("e", array.type.of))
        matches = f"list_transform({array.sql}, lambda e: {'NOT ' * negated}{one.sql})"
        return made(_quantified(matches, every), t.BOOL, subject, array)
    if isinstance(listed, exp.Query):
        relation = clause.session.compile_query(clause.session, listed, clause.scope, clause.ctes)
        if len(relation.columns) != 1:
            raise invalid_query("Subquery of type LIKE must have only one output column")
        column = relation.columns[0].value
        name = clause.session.fresh("q")
        one = like(subject, column)
        matches = f"(SELECT list({'NOT ' * negated}{one.sql}) FROM ({relation.sql}) AS {name})"
        reads = subject.reads | column.reads | relation.always
        return Value(_quantified(matches, every), t.BOOL, reads, volatile=subject.volatile)
    parts = listed.expressions if isinstance(listed, exp.Tuple) else [listed]
    found = [like(subject, value_of(part, clause)) for part in parts]
    texts = [f"(NOT {match.sql})" if negated else match.sql for match in found]
    return made("(" + (" AND " if every else " OR ").join(texts) + ")", t.BOOL, *found)


def _quantified(matches: str, every: bool) -> str:
    """TRUE, FALSE or NULL of a list of these; none of them, or no list, match none, and are matched by all."""
    decided = "FALSE" if every else "TRUE"
    otherwise = "TRUE" if every else "FALSE"
    return (
        f"CASE WHEN list_contains({matches}, {decided}) THEN {decided} "
        f"WHEN len(list_filter({matches}, lambda b: b IS NULL)) > 0 THEN NULL ELSE {otherwise} END"
    )


def like(subject: Value, pattern: Value) -> Value:
    """A backslash escapes in GoogleSQL's LIKE; in DuckDB's only where the statement says so."""
    a, b = common([subject, pattern], "operator LIKE")
    if a.kind == "BYTES":
        return made(f"(bq_letters({a.sql}) LIKE bq_letters({b.sql}) ESCAPE '\\')", t.BOOL, a, b)
    if a.kind not in ("STRING", "NULL"):
        raise no_signature("operator LIKE", [subject, pattern])
    x, y = _sql(subject if subject.kind == "STRING" else a, pattern if pattern.kind == "STRING" else b)
    return made(f"({x} LIKE {y} ESCAPE '\\')", t.BOOL, a, b)


@rule(exp.And, exp.Or)
def _joined(node: exp.Expr, clause: Clause) -> Value:
    word = "AND" if isinstance(node, exp.And) else "OR"
    parts = [as_type(value_of(part, clause), t.BOOL, f"Operand of {word}") for part in node.flatten()]
    return made("(" + f" {word} ".join(part.sql for part in parts) + ")", t.BOOL, *parts)


@rule(exp.Not)
def _not(node: exp.Not, clause: Clause) -> Value:
    inner = as_type(value_of(node.this, clause), t.BOOL, "Operand of NOT")
    return made(f"(NOT {inner.sql})", t.BOOL, inner)


@rule(exp.Is)
def _is(node: exp.Is, clause: Clause) -> Value:
    value = value_of(node.this, clause)
    if isinstance(node.expression, exp.Null):
        return made(f"({value.sql} IS NULL)", t.BOOL, value)
    if not isinstance(node.expression, exp.Boolean):
        raise unsupported("IS with anything but NULL, TRUE and FALSE")
    truth = as_type(value, t.BOOL, "Operand of IS")
    return made(f"({truth.sql} IS NOT DISTINCT FROM {'TRUE' if node.expression.this else 'FALSE'})", t.BOOL, truth)


@rule(exp.Collate)
def _collated(node: exp.Collate, clause: Clause) -> Value:
    return collated(value_of(node.this, clause), value_of(node.expression, clause))


def collated(value: Value, name: Value) -> Value:
    """A text that compares without case."""
    if value.kind != "STRING" or name.text not in ("und:ci", "binary", ""):
        raise unsupported("this collation")
    kind = t.Type("STRING", collation="und:ci") if name.text == "und:ci" else t.STRING
    return made(value.sql, kind, value)
