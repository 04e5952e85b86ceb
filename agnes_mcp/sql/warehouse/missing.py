"""What people write who have another SQL in mind, or another kind of statement, and the next step for each."""

from __future__ import annotations

from typing import Any

from agnes_mcp.sql.predicate.hints import FUNCTION_HINTS
from agnes_mcp.sql.warehouse.functions import functions
from agnes_mcp.sql.warehouse.lexemes import Lexeme
from agnes_mcp.sql.warehouse.refusals import near
from agnes_mcp.sql.warehouse.words import STATEMENTS

#: Functions that people reach for and that are not there, with the next step.
NEXT_STEPS: dict[str, str] = {
    "RAND": "Use TABLESAMPLE SYSTEM (10 PERCENT), or MOD(FARM_FINGERPRINT(key), 10) = 0, which is the same every time.",
    "GENERATE_UUID": "Use ROW_NUMBER() OVER (ORDER BY …).",
    "SESSION_USER": "Call `usage` to learn who you are here.",
    "MEDIAN": "Use APPROX_QUANTILES(x, 100)[OFFSET(50)], or PERCENTILE_CONT(x, 0.5) OVER ().",
    "QUANTILE_CONT": "Use APPROX_QUANTILES(x, 100)[OFFSET(90)], or PERCENTILE_CONT(x, 0.9) OVER ().",
    "PERCENTILE": "Use APPROX_QUANTILES(x, 100)[OFFSET(90)], or PERCENTILE_CONT(x, 0.9) OVER ().",
    "MODE": "Use APPROX_TOP_COUNT(x, 1)[OFFSET(0)].value.",
    "LISTAGG": "Use STRING_AGG(x, ', ').",
    "GROUP_CONCAT": "Use STRING_AGG(x, ', ').",
    "LIST": "Use ARRAY_AGG(x).",
    "COUNT_IF": "Use COUNTIF(condition).",
    "SUM_IF": "Use SUM(IF(condition, x, 0)).",
    "ARG_MAX": "Use MAX_BY(x, by).",
    "ARG_MIN": "Use MIN_BY(x, by).",
    "APPROX_DISTINCT": "Use APPROX_COUNT_DISTINCT(x).",
    "FIRST": "Use ANY_VALUE(x HAVING MIN by).",
    "LAST": "Use ANY_VALUE(x HAVING MAX by).",
    "DATE_PART": "Use EXTRACT(YEAR FROM x).",
    "GENERATE_SERIES": "Use UNNEST(GENERATE_ARRAY(1, 10)).",
    "RANGE": "Use UNNEST(GENERATE_ARRAY(1, 10)).",
    "TO_JSON_OBJECT": "Use TO_JSON(STRUCT(…)).",
    "ERROR": "Select a column that says what is wrong instead.",
    "FILTER": "Use COUNTIF(condition), or SUM(IF(condition, x, NULL)).",
    "WITHIN": "Use PERCENTILE_CONT(x, 0.5) OVER ().",
    "VALUES": "Use UNNEST([STRUCT(1 AS a, 'x' AS b), (2, 'y')]).",
    "ANY": "Use value IN UNNEST(x).",
    "MD5_HEX": "Use TO_HEX(MD5(x)).",
    "ROW": "Use STRUCT(a, b).",
}


def wrong_start(lexeme: Lexeme) -> tuple[str, str, str] | None:
    """Kind, message and next step where a text does not begin as a SELECT does."""
    word = lexeme.value
    if word in ("SELECT", "WITH", "(") and lexeme.kind in ("word", "symbol"):
        return None
    if word in STATEMENTS and lexeme.kind == "word":
        hint = "Write one SELECT; this server reads. `fetch` keeps its rows under a name."
        return "ddl_or_dml", f"{word} begins a statement that is no SELECT.", hint
    hint = "Write one SELECT in GoogleSQL; for columns and types call `schema`, for a condition alone use `where`."
    return "not_a_select", f"The text begins with {word[:40]!r}, which is no SELECT.", hint


def unlisted(path: tuple[str, ...], before: Lexeme, in_from: bool) -> tuple[str, str, str, dict[str, Any]]:
    """Kind, message, next step and details for a name before a bracket that is no listed function.

    `in_from`: it stands in FROM, where it may be the alias of what is `before` it.
    """
    shown = ".".join(path)[:80]
    if before.value == "TABLESAMPLE":
        hint = "Write TABLESAMPLE SYSTEM (10 PERCENT)."
        return "disallowed_node", f"{shown} is not a way to sample here.", hint, {}
    if (in_from and before.kind in ("word", "name")) or (before.value in ("AS", "WITH") and before.kind == "word"):
        hint = "Name the columns with AS in its SELECT."
        return "parse_error", f"{shown} takes no list of columns.", hint, {}
    hint, close = _next_step(path)
    details = {"function": shown, "nearest": close}
    return "unknown_function", f"{shown} is not available here.", hint, details


def _next_step(path: tuple[str, ...]) -> tuple[str, list[str]]:
    """What to write instead of an unlisted function, and the listed ones that it may be a misspelling of."""
    close = near(path[-1], list(functions())) if len(path) == 1 else []
    hint = NEXT_STEPS.get(path[-1]) or FUNCTION_HINTS["bigquery"].get(path[-1], "")
    if not hint:
        hint = f"Did you mean {' or '.join(close)}?" if close else "Use functions of GoogleSQL that read no more."
    return hint, close
