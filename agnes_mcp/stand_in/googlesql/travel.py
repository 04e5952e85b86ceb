"""FOR SYSTEM_TIME AS OF: an earlier state of a table, where one was kept; otherwise refused as BigQuery refuses it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlglot import exp

from agnes_mcp.stand_in.googlesql.literals import moment_of
from agnes_mcp.stand_in.googlesql.rules import Clause
from agnes_mcp.stand_in.googlesql.values import unsupported
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import invalid_query

WINDOW = timedelta(days=7)  # BigQuery's default time travel window
_UNITS = {"MICROSECOND": 1e-6, "MILLISECOND": 1e-3, "SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}


def version_of(table: Table, version: exp.Version, clause: Clause) -> Table:
    """The table as it was at the moment that `version` names."""
    clause.session.volatile = True
    now = datetime.now(UTC)
    moment = _moment(version.expression, now)
    if moment > now:
        raise invalid_query(f"Invalid snapshot time {moment.isoformat()}: it is in the future")
    oldest = max(_millis(now - WINDOW), table.created_ms)
    if _millis(moment) < oldest:
        told = f"Invalid time travel timestamp {_millis(moment)} for table {table.label}."
        raise invalid_query(f"{told} Cannot read before {oldest}.")
    for until, earlier in sorted(table.past, key=lambda kept: kept[0]):
        if moment < until:
            return earlier
    return table


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(node: exp.Expr, now: datetime) -> datetime:
    """A literal, CURRENT_TIMESTAMP(), or one of these moved by a literal interval."""
    if isinstance(node, exp.Paren):
        return _moment(node.this, now)
    if isinstance(node, exp.Cast) and node.to.this == exp.DType.TIMESTAMPTZ and _is_text(node.this):
        return moment_of(node.this.name)
    if isinstance(node, exp.Anonymous | exp.Column) and node.name.upper() == "CURRENT_TIMESTAMP":
        return now
    if isinstance(node, exp.Anonymous) and node.name.upper() in ("TIMESTAMP_SUB", "TIMESTAMP_ADD"):
        base, step = node.expressions
        return _moment(base, now) + _step(step) * (-1 if node.name.upper().endswith("SUB") else 1)
    if isinstance(node, exp.Anonymous) and node.name.upper() == "TIMESTAMP" and _is_text(*node.expressions):
        return moment_of(node.expressions[0].name)
    if isinstance(node, exp.Sub):
        return _moment(node.this, now) - _step(node.expression)
    raise unsupported("FOR SYSTEM_TIME AS OF anything but a literal or CURRENT_TIMESTAMP minus an interval")


def _is_text(*nodes: exp.Expr) -> bool:
    return len(nodes) == 1 and isinstance(nodes[0], exp.Literal) and bool(nodes[0].is_string)


def _step(node: exp.Expr) -> timedelta:
    unit = node.args["unit"].name.upper() if isinstance(node, exp.Interval) and node.args.get("unit") else ""
    if unit not in _UNITS or not isinstance(node.this, exp.Literal) or not node.this.name.lstrip("-").isdigit():
        raise unsupported("this interval in FOR SYSTEM_TIME")
    return timedelta(seconds=int(node.this.name) * _UNITS[unit])
