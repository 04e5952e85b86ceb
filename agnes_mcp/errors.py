"""What can go wrong, each with a stable kind.

    AgnesError                     anything foreseen: kind, message, hint, details
    ├── PredicateError             a WHERE predicate that was refused (`agnes_mcp.sql.predicate`)
    ├── QuotaError                 a slot or a byte budget that is used up (`agnes_mcp.spending.books`)
    └── ConfigError                an instance.yaml or environment that cannot be served

Anything that is not an `AgnesError` is a crash: logged with its trace, told to the client only as `internal_error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Exit codes of the command line: what a script can tell apart.
EXIT_OK = 0
EXIT_VALIDATION = 2
EXIT_QUOTA = 3
EXIT_DISK = 4
EXIT_SERVER = 5
EXIT_EXISTS = 6
EXIT_AUTH = 7
EXIT_ACCESS = 8
EXIT_NETWORK = 9

#: Every kind of error that may reach a client, with the exit code of the command line.
KINDS: dict[str, int] = {
    # the call itself is wrong: change the arguments
    "invalid_argument": EXIT_VALIDATION,
    "unknown_argument": EXIT_VALIDATION,
    "unknown_tool": EXIT_VALIDATION,
    "unknown_column": EXIT_VALIDATION,
    "invalid_cursor": EXIT_VALIDATION,
    "limit_too_large": EXIT_VALIDATION,
    "config_invalid": EXIT_VALIDATION,
    # the WHERE predicate was refused
    "parse_error": EXIT_VALIDATION,
    "nested_select": EXIT_VALIDATION,
    "multi_statement": EXIT_VALIDATION,
    "ddl_or_dml": EXIT_VALIDATION,
    "cross_table_reference": EXIT_VALIDATION,
    "unknown_function": EXIT_VALIDATION,
    "disallowed_node": EXIT_VALIDATION,
    "too_complex": EXIT_VALIDATION,
    "not_boolean": EXIT_VALIDATION,
    "unsupported_literal": EXIT_VALIDATION,
    # the SQL of `scan`, `fetch` and `estimate` was refused; the kinds of a predicate mean the same here
    "not_a_select": EXIT_VALIDATION,
    "table_function": EXIT_VALIDATION,
    "remote_sql_local_table": EXIT_VALIDATION,
    "mixed_sources": EXIT_VALIDATION,
    "mixed_locations": EXIT_VALIDATION,
    "referenced_outside": EXIT_VALIDATION,
    # the SQL of `query` was refused, or failed in DuckDB
    "query_refused": EXIT_VALIDATION,
    "query_failed": EXIT_VALIDATION,
    "query_out_of_memory": EXIT_VALIDATION,
    # a picture that could not be rendered
    "chart_failed": EXIT_SERVER,
    # what was asked for is not there, or may not be seen: never told apart
    "table_not_found": EXIT_ACCESS,
    "snapshot_not_found": EXIT_VALIDATION,
    "table_moved": EXIT_VALIDATION,
    "resource_not_found": EXIT_VALIDATION,
    "unauthenticated": EXIT_AUTH,
    # money and budgets
    "quota_exceeded": EXIT_QUOTA,
    "quota_unavailable": EXIT_NETWORK,
    "rate_limited": EXIT_QUOTA,
    "over_scan_cap": EXIT_QUOTA,
    "bytes_billed_cap_reached": EXIT_QUOTA,
    "approval_declined": EXIT_QUOTA,
    "approval_cancelled": EXIT_QUOTA,
    "approval_outdated": EXIT_QUOTA,
    "estimate_failed": EXIT_SERVER,
    # a table that cannot be read just now
    "table_unavailable": EXIT_SERVER,
    "table_locked": EXIT_SERVER,
    "unsupported_format": EXIT_SERVER,
    "schema_changed": EXIT_SERVER,
    "schema_drift": EXIT_VALIDATION,
    "result_too_large": EXIT_VALIDATION,
    "timeout": EXIT_SERVER,
    "cancelled": EXIT_SERVER,
    # snapshots and disk
    "snapshot_exists": EXIT_EXISTS,
    "snapshot_busy": EXIT_EXISTS,
    "snapshot_damaged": EXIT_SERVER,
    "disk_full": EXIT_DISK,
    "storage_failed": EXIT_DISK,
    # BigQuery
    "not_configured": EXIT_SERVER,
    "auth_failed": EXIT_AUTH,
    "cross_project_forbidden": EXIT_ACCESS,
    "bq_forbidden": EXIT_ACCESS,
    "bq_not_found": EXIT_SERVER,
    "bq_bad_request": EXIT_VALIDATION,
    "bq_response_too_large": EXIT_VALIDATION,
    "bq_rate_limited": EXIT_SERVER,
    "bq_upstream_error": EXIT_SERVER,
    "bq_unreachable": EXIT_NETWORK,
    # ours
    "internal_error": EXIT_SERVER,
}


class AgnesError(Exception):
    """A foreseen failure: what happened, and what to do next.

    `kind` is a key of `KINDS`; `hint` is the next step, never empty; `details` is JSON-ready. None of them ever holds a
    token, a path of this machine, or a row of data.
    """

    def __init__(self, kind: str, message: str, hint: str, details: Mapping[str, Any] | None = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of error")
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})

    @property
    def exit_code(self) -> int:
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"[{self.kind}] {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the trip from a child process."""
        return (_rebuild, (type(self), self.kind, self.message, self.hint, self.details))


def _rebuild(cls: type[AgnesError], kind: str, message: str, hint: str, details: dict[str, Any]) -> AgnesError:
    error = cls.__new__(cls)
    AgnesError.__init__(error, kind, message, hint, details)
    return error


class PredicateError(AgnesError):
    """A WHERE predicate that was refused; `details` holds `fragment` (≤ 80 characters) and `position` (0-based)."""


class QuotaError(AgnesError):
    """A slot or byte budget that is used up; `details` holds `kind`, `current`, `limit`, `retry_after_seconds`."""


class ConfigError(AgnesError):
    """An instance.yaml or environment that cannot be served; `details["key"]` names the key."""

    def __init__(self, message: str, hint: str, key: str = "") -> None:
        super().__init__("config_invalid", message, hint, {"key": key} if key else {})


def nearest(name: str, known: list[str], count: int = 3) -> list[str]:
    """The names of `known` nearest to `name`, best first, without regard to case."""
    import difflib

    folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    close = difflib.get_close_matches(name.casefold()[:200], list(folded), n=count, cutoff=0.6)
    return [folded[match] for match in close]
