"""What a constant expression comes to, as far as bounds need it. Never exact about months: it errs to more steps."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

from sqlglot import exp

Value = float | dt.datetime
#: Days of a part, at least.
_DAYS = {"MICROSECOND": 1 / 86_400_000_000, "MILLISECOND": 1 / 86_400_000, "SECOND": 1 / 86_400, "MINUTE": 1 / 1_440,
         "HOUR": 1 / 24, "DAY": 1.0, "WEEK": 7.0, "MONTH": 28.0, "QUARTER": 90.0, "YEAR": 365.0}  # fmt: skip
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NOW = frozenset({"CURRENT_DATE", "CURRENT_TIMESTAMP", "CURRENT_DATETIME"})
_MOMENTS = frozenset({"DATE", "TIMESTAMP", "DATETIME"})
_MOST_DAYS = 4_000_000.0  # of the calendar
_ARITHMETIC: dict[type[exp.Expr], Callable[[float, float], float]] = {
    exp.Add: lambda a, b: a + b,
    exp.Sub: lambda a, b: a - b,
    exp.Mul: lambda a, b: a * b,
}


class NotConstantError(Exception):
    """The expression depends on a row, or is none of those that are understood here."""


def steps_of(name: str, arguments: list[exp.Expr]) -> float:
    """How many elements the generator `name` makes. Raises `NotConstantError`."""
    start, end = evaluate(arguments[0]), evaluate(arguments[1])
    if isinstance(start, dt.datetime) and isinstance(end, dt.datetime):
        days = days_of(arguments[2]) if len(arguments) > 2 else 1.0
        return abs((end - start).total_seconds()) / 86_400 / _positive(days) + 1
    if name != "GENERATE_ARRAY":
        raise NotConstantError
    step = _number(evaluate(arguments[2])) if len(arguments) > 2 else 1.0
    return abs(_number(end) - _number(start)) / _positive(step) + 1


def _positive(step: float) -> float:
    if step == 0:
        raise NotConstantError
    return abs(step)


def days_of(interval: exp.Expr) -> float:
    """The days of `INTERVAL 3 DAY`. Raises `NotConstantError`."""
    if type(interval) is not exp.Interval:
        raise NotConstantError
    literal, part = interval.this, interval.text("unit").upper()
    text = str(literal.this) if type(literal) is exp.Literal else ""
    count: Value = float(text) if _WHOLE.fullmatch(text) else evaluate(literal)  # the parser keeps `1` as '1' there
    if isinstance(count, dt.datetime) or part not in _DAYS or abs(count * _DAYS[part]) > _MOST_DAYS:
        raise NotConstantError
    return count * _DAYS[part]


def evaluate(node: exp.Expr) -> Value:
    """A number or a moment. Raises `NotConstantError`."""
    kind = type(node)
    if kind is exp.Literal:
        return _moment(str(node.this)) if node.args["is_string"] else float(node.this)
    if kind is exp.Paren:
        return evaluate(node.this)
    if kind is exp.Neg:
        return -_number(evaluate(node.this))
    if kind in _ARITHMETIC:
        return _arithmetic(node)
    if kind is exp.Cast and type(node.this) is exp.Literal:
        return _moment(str(node.this.this))
    if kind is exp.Anonymous:
        return _call(str(node.this), node.expressions)
    raise NotConstantError


def _number(value: Value) -> float:
    if isinstance(value, dt.datetime):
        raise NotConstantError
    return value


def _arithmetic(node: exp.Expr) -> Value:
    left = evaluate(node.this)
    if isinstance(left, dt.datetime):
        signs: dict[type[exp.Expr], int] = {exp.Add: 1, exp.Sub: -1}
        sign = signs.get(type(node))
        right = node.args["expression"]
        if sign is None:
            raise NotConstantError
        return _shifted(left, sign * (days_of(right) if type(right) is exp.Interval else _number(evaluate(right))))
    return _ARITHMETIC[type(node)](left, _number(evaluate(node.args["expression"])))


def _call(name: str, arguments: list[exp.Expr]) -> Value:
    if name in _NOW:
        return dt.datetime.now(dt.UTC).replace(tzinfo=None)
    if name in _MOMENTS and len(arguments) == 3:
        year, month, day = (int(_number(evaluate(argument))) for argument in arguments)
        try:
            return dt.datetime(year, month, day)
        except ValueError as error:
            raise NotConstantError from error
    if name in _MOMENTS and len(arguments) == 1:
        first = arguments[0]
        literal = type(first) is exp.Literal and first.args["is_string"]
        return _moment(str(first.this)) if literal else evaluate(first)
    prefix, _, verb = name.rpartition("_")
    if prefix in _MOMENTS and arguments:
        moment = evaluate(arguments[0])
        if verb == "TRUNC":
            return moment
        if verb in ("ADD", "SUB") and isinstance(moment, dt.datetime) and len(arguments) == 2:
            return _shifted(moment, days_of(arguments[1]) * (1 if verb == "ADD" else -1))
    raise NotConstantError


def _shifted(moment: dt.datetime, days: float) -> dt.datetime:
    try:
        return moment + dt.timedelta(days=days)
    except OverflowError as error:
        raise NotConstantError from error


def _moment(text: str) -> dt.datetime:
    trimmed = text.strip().removesuffix("UTC").strip()
    try:
        return dt.datetime.fromisoformat(trimmed).replace(tzinfo=None)
    except ValueError as error:
        raise NotConstantError from error
