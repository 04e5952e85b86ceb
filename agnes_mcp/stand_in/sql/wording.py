"""What sqlglot and DuckDB complain of, said as BigQuery says it, with the place in the statement."""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb
from sqlglot.errors import ParseError

from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query

_GOOGLE_TYPES = {"VARCHAR": "STRING", "BLOB": "BYTES", "DOUBLE": "FLOAT64", "BOOLEAN": "BOOL", "BIGINT": "INT64"}


def syntax_error(error: ParseError) -> ApiError:
    first = error.errors[0] if error.errors else {}
    token, line = str(first.get("highlight") or ""), int(first.get("line") or 1)
    column = max(int(first.get("col") or 1) - max(len(token) - 1, 0), 1)
    told = str(first.get("description") or "")
    if told.startswith("Required keyword") and not first.get("end_context"):
        return invalid_query("Syntax error: Unexpected end of script", line, column + len(token))
    if told.startswith("Expecting "):
        return invalid_query(f'Syntax error: Expected "{told.split()[1]}" but got "{token}"', line, column)
    return invalid_query(f'Syntax error: Expected end of input but got "{token}"', line, column)


def place_of(name: str, sql: str) -> tuple[int, int]:
    """Line and column, 1-based, where `name` first stands as a word in `sql`; (0, 0) where it does not."""
    found = re.search(rf"(?<![\w@]){re.escape(name)}(?!\w)", sql, re.IGNORECASE)
    if found is None:
        return 0, 0
    before = sql[: found.start()]
    return before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1


def refusal_of(error: duckdb.Error, sql: str = "") -> ApiError:
    """What BigQuery would say of a statement that DuckDB refuses or fails on."""
    text = str(error).splitlines()[0].split("Error: ", 1)[-1]
    if isinstance(error, duckdb.OutOfMemoryException):
        return ApiError(400, "resourcesExceeded", f"Resources exceeded during query execution: {text}")
    for pattern, reword in _REWORDED:
        found = re.search(pattern, text)
        if found is not None:
            return reword(found, sql)
    return invalid_query(text)


def _missing_function(found: re.Match[str], sql: str) -> ApiError:
    return invalid_query(f"Function not found: {found[1]}", *place_of(found[1], sql))


def _missing_column(found: re.Match[str], sql: str) -> ApiError:
    return invalid_query(f"Unrecognized name: {found[1]}", *place_of(found[1], sql))


def _missing_field(found: re.Match[str], sql: str) -> ApiError:
    return invalid_query(f"Field name {found[1]} does not exist in STRUCT", *place_of(found[1], sql))


def _ungrouped(found: re.Match[str], sql: str) -> ApiError:
    message = f"SELECT list expression references column {found[1]} which is neither grouped nor aggregated"
    return invalid_query(message, *place_of(found[1], sql))


def _no_signature(found: re.Match[str], sql: str) -> ApiError:
    kinds = ", ".join(google_type(kind) for kind in found[2].split(", "))
    what = f"function {found[1].upper()}" if found[1].isidentifier() else f"operator {found[1]}"
    return invalid_query(f"No matching signature for {what} for argument types: {kinds}")


def google_type(kind: str) -> str:
    return "INT64" if kind.startswith("INTEGER") else _GOOGLE_TYPES.get(kind, kind)


_REWORDED: tuple[tuple[str, Callable[[re.Match[str], str], ApiError]], ...] = (
    (r"Function with name \"?(\w+)\"? (?:does not exist|is not in)", _missing_function),
    (r"[Cc]olumn \"([^\"]+)\" not found", _missing_column),
    (r"Could not find key \"([^\"]+)\" in struct", _missing_field),
    (r"column \"([^\"]+)\" must appear in the GROUP BY", _ungrouped),
    (r"No function matches the given name and argument types '([^(']+)\(([^)]*)\)'", _no_signature),
)
