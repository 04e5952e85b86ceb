"""Numbers, bits, texts and dates put together: `+`, `-`, `*`, `/`, `||`, `&` and their like."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.rules import Clause, rule, value_of
from agnes_mcp.stand_in.googlesql.values import Value, as_type, common, made, no_signature, simple, unsupported


@rule(exp.Neg)
def _negative(node: exp.Neg, clause: Clause) -> Value:
    if isinstance(node.this, exp.Literal) and not node.this.is_string:
        text = f"-{node.this.name}"
        if node.this.name.isdigit():
            kind, sql, form = t.INT64, f"CAST({text} AS BIGINT)", "int"
        else:
            kind, sql, form = t.FLOAT64, f"CAST('{text}' AS DOUBLE)", "float"
        return Value(sql, kind, literal=form, text=text)
    value = value_of(node.this, clause)
    if value.kind == "BIGNUMERIC":
        return made(f"bq_big_text(-bq_big({value.sql}))", value.type, value)
    if value.kind not in (*t.NUMBERS, "INTERVAL", "NULL"):
        raise no_signature("operator -", [value])
    return made(f"(-{value.sql})", value.type, value)


@rule(exp.BitwiseNot)
def _inverted(node: exp.BitwiseNot, clause: Clause) -> Value:
    value = as_type(value_of(node.this, clause), t.INT64, "Operand of ~")
    return made(f"(~{value.sql})", t.INT64, value)


_BITS: dict[type[exp.Expr], tuple[str, str]] = {
    exp.BitwiseAnd: ("&", "({0} & {1})"),
    exp.BitwiseOr: ("|", "({0} | {1})"),
    exp.BitwiseXor: ("^", "xor({0}, {1})"),
    exp.BitwiseLeftShift: ("<<", "bq_shift_left({0}, {1})"),
    exp.BitwiseRightShift: (">>", "bq_shift_right({0}, {1})"),
}


@rule(*_BITS)
def _bits(node: exp.Expr, clause: Clause) -> Value:
    sign, template = _BITS[type(node)]
    pair = [value_of(node.this, clause), value_of(node.expression, clause)]
    if any(value.kind not in ("INT64", "NULL") for value in pair):
        raise no_signature(f"operator {sign}", pair)
    a, b = (as_type(value, t.INT64, f"Operand of {sign}") for value in pair)
    return made(template.format(a.sql, b.sql), t.INT64, a, b)


@rule(exp.DPipe)
def _concatenated(node: exp.DPipe, clause: Clause) -> Value:
    a, b = common([value_of(part, clause) for part in (node.this, node.expression)], "operator ||")
    if a.kind not in ("STRING", "BYTES", "ARRAY", "NULL"):
        raise no_signature("operator ||", [a, b])
    return made(f"({a.sql} || {b.sql})", a.type, a, b)


@rule(exp.Add, exp.Sub, exp.Mul, exp.Div)
def _arithmetic(node: exp.Expr, clause: Clause) -> Value:
    signs: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}
    sign = signs[type(node)]
    return computed(sign, value_of(node.this, clause), value_of(node.expression, clause))


def computed(sign: str, left: Value, right: Value) -> Value:
    """`left sign right` for numbers, dates and intervals."""
    if {left.kind, right.kind} & {*t.TEMPORAL, "INTERVAL"}:
        return _moved(sign, left, right)
    numbers = [left, right]
    if any(value.kind not in (*t.NUMBERS, "NULL") for value in numbers):
        raise no_signature(f"operator {sign}", numbers)
    a, b = common(numbers, f"operator {sign}")
    if sign == "/" and a.kind in ("INT64", "NULL"):
        a, b = (as_type(value, t.FLOAT64, "Operand of /") for value in (a, b))
    return _COMPUTED[a.kind](sign, a, b)


def _integers(sign: str, a: Value, b: Value) -> Value:
    return made(f"({a.sql} {sign} {b.sql})", t.INT64, a, b)


def _floats(sign: str, a: Value, b: Value) -> Value:
    sql = f"bq_div({a.sql}, {b.sql})" if sign == "/" else f"({a.sql} {sign} {b.sql})"
    if simple(a) and simple(b):
        sql = f"bq_finite({sql}, {a.sql}, {b.sql})"
    return made(sql, t.FLOAT64, a, b)


def _exact(sign: str, a: Value, b: Value) -> Value:
    if sign == "/":
        return made(f"bq_numeric_div({a.sql}, {b.sql})", t.NUMERIC, a, b)
    return made(f"CAST({a.sql} {sign} {b.sql} AS DECIMAL(38, 9))", t.NUMERIC, a, b)


def _big(sign: str, a: Value, b: Value) -> Value:
    if sign in "*/":
        raise unsupported(f"{sign} of BIGNUMERIC")
    return made(f"bq_big_text(bq_big({a.sql}) {sign} bq_big({b.sql}))", t.BIGNUMERIC, a, b)


_COMPUTED = {"INT64": _integers, "NULL": _integers, "FLOAT64": _floats, "NUMERIC": _exact, "BIGNUMERIC": _big}

#: (left, sign, right) → (type, template) for dates and times.
_MOVES: dict[tuple[str, str, str], tuple[t.Type, str]] = {
    ("DATE", "+", "INT64"): (t.DATE, "({0} + CAST({1} AS INTEGER))"),
    ("INT64", "+", "DATE"): (t.DATE, "({1} + CAST({0} AS INTEGER))"),
    ("DATE", "-", "INT64"): (t.DATE, "({0} - CAST({1} AS INTEGER))"),
    ("DATE", "-", "DATE"): (t.INTERVAL, "to_days(CAST({0} - {1} AS INTEGER))"),
    ("TIMESTAMP", "-", "TIMESTAMP"): (t.INTERVAL, "to_microseconds(epoch_us({0}) - epoch_us({1}))"),
    ("DATETIME", "-", "DATETIME"): (t.INTERVAL, "to_microseconds(epoch_us({0}) - epoch_us({1}))"),
    ("INTERVAL", "+", "INTERVAL"): (t.INTERVAL, "({0} + {1})"),
    ("INTERVAL", "-", "INTERVAL"): (t.INTERVAL, "({0} - {1})"),
}


def _moved(sign: str, left: Value, right: Value) -> Value:
    found = _MOVES.get((left.kind, sign, right.kind))
    if found is None and right.kind == "INTERVAL" and sign in "+-":
        found = _by_interval(left.kind, f"({{0}} {sign} {{1}})")
    if found is None and left.kind == "INTERVAL" and sign == "+":
        found = _by_interval(right.kind, "({1} + {0})")
    if found is None:
        raise no_signature(f"operator {sign}", [left, right])
    return made(found[1].format(left.sql, right.sql), found[0], left, right)


def _by_interval(kind: str, moved: str) -> tuple[t.Type, str] | None:
    """A DATE that is moved becomes a DATETIME."""
    if kind == "DATE":
        return t.DATETIME, moved.replace("{0}", "CAST({0} AS TIMESTAMP)", 1)
    return (t.Type(kind), moved) if kind in ("DATETIME", "TIMESTAMP") else None
