"""How long a list `range` or `generate_series` would build, told from the literals alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Node = dict[str, Any]

MAX_ELEMENTS = 100_000

#: The functions into which the parser turns INTERVAL, with the least seconds that one unit stands for.
_UNIT_SECONDS: dict[str, int] = {
    "to_seconds": 1,
    "to_minutes": 60,
    "to_hours": 3600,
    "to_days": 86_400,
    "to_weeks": 7 * 86_400,
    "to_months": 28 * 86_400,
    "to_quarters": 90 * 86_400,
    "to_years": 365 * 86_400,
}


def is_bounded(arguments: list[Node]) -> bool:
    """Whether literals promise a list of at most `MAX_ELEMENTS`: integers, or two dates and an INTERVAL."""
    numbers = [integer(arguments, position) for position in range(len(arguments))]
    known = [number for number in numbers if number is not None]
    if known and len(known) == len(numbers):
        return _count(known) <= MAX_ELEMENTS
    if len(arguments) != 3:
        return False
    start, stop, step = _moment(arguments[0]), _moment(arguments[1]), _step_seconds(arguments[2])
    if start is None or stop is None or not step:
        return False
    return abs((stop - start).total_seconds()) / abs(step) <= MAX_ELEMENTS


def integer(arguments: list[Node], position: int) -> int | None:
    """The argument at `position` where it is a literal integer."""
    if position >= len(arguments):
        return None
    value = _literal(arguments[position])
    return value if type(value) is int else None


def _count(bounds: list[int]) -> int:
    start, stop = (0, bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
    step = bounds[2] if len(bounds) > 2 else 1
    return 0 if step == 0 else abs((stop - start) // step)


def _literal(node: Node) -> Any:
    if node.get("class") != "CONSTANT":
        return None
    value, details = node["value"].get("value"), node["value"]["type"].get("type_info") or {}
    return value / 10 ** details["scale"] if details.get("type") == "DECIMAL_TYPE_INFO" else value


def _moment(node: Node) -> datetime | None:
    """DATE '…', TIMESTAMP '…', or a text cast to one."""
    text = _literal(node["child"]) if node.get("class") == "CAST" else None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None) if isinstance(text, str) else None
    except ValueError:
        return None


def _step_seconds(node: Node) -> float | None:
    """INTERVAL 3 DAY: the parser writes to_days(CAST(trunc(CAST(3 AS DOUBLE)) AS INTEGER))."""
    if node.get("class") != "FUNCTION" or node.get("function_name") not in _UNIT_SECONDS:
        return None
    inner = node["children"][0]
    while inner.get("class") in ("CAST", "FUNCTION"):
        if inner.get("class") == "FUNCTION" and inner["function_name"] != "trunc":
            return None
        inner = inner["child"] if inner["class"] == "CAST" else inner["children"][0]
    amount = _literal(inner)
    try:
        return float(amount) * _UNIT_SECONDS[node["function_name"]] if amount is not None else None
    except (TypeError, ValueError):
        return None
