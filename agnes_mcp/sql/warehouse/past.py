"""FOR SYSTEM_TIME AS OF: a moment that the text alone decides, and BigQuery keeps."""

from __future__ import annotations

import datetime as dt

from sqlglot import exp

from agnes_mcp.sql.warehouse.binding import Binding
from agnes_mcp.sql.warehouse.constants import NotConstantError, evaluate
from agnes_mcp.sql.warehouse.limits import MAX_PAST_DAYS

_HINT = (
    "Write FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-31 00:00:00 UTC', or "
    "TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY); seven days are kept."
)


def moment_of(version: exp.Expr, binding: Binding) -> str:
    """The text of the moment. Raises `unsupported_literal` for one that is no TIMESTAMP, or further back than kept.

    A string alone is not taken: BigQuery reads it in the time zone of Los Angeles.
    """
    expression = version.args.get("expression")
    if expression is None:
        raise binding.refuse("parse_error", "FOR SYSTEM_TIME AS OF needs a moment.", _HINT, version)
    if type(expression) is exp.Cast and expression.args["to"].this != exp.DType.TIMESTAMPTZ:
        raise binding.refuse("unsupported_literal", "A moment of the past is a TIMESTAMP.", _HINT, version)
    names = {str(node.this) for node in expression.find_all(exp.Anonymous)}
    if type(expression) not in (exp.Cast, exp.Anonymous, exp.Sub) or not names <= _CALLS:
        raise binding.refuse("unsupported_literal", "A moment of the past is a TIMESTAMP.", _HINT, version)
    if names & {"CURRENT_TIMESTAMP"}:
        binding.changing = True
    try:
        moment = evaluate(expression)
    except NotConstantError:
        raise binding.refuse(
            "unsupported_literal", "That moment is not a constant TIMESTAMP.", _HINT, version
        ) from None
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    if names & {"CURRENT_TIMESTAMP"} and isinstance(moment, dt.datetime) and moment > now + _SKEW:
        raise binding.refuse("unsupported_literal", "That moment is still to come.", _HINT, version)
    if names & {"CURRENT_TIMESTAMP"} and isinstance(moment, dt.datetime) and now - moment > _KEPT:
        message = f"A table's past is kept for {MAX_PAST_DAYS} days."
        raise binding.refuse("unsupported_literal", message, _HINT, version)
    return str(expression.sql(dialect="bigquery"))


_CALLS = frozenset({"CURRENT_TIMESTAMP", "TIMESTAMP_SUB", "TIMESTAMP"})
_SKEW = dt.timedelta(minutes=5)
_KEPT = dt.timedelta(days=MAX_PAST_DAYS) + _SKEW
