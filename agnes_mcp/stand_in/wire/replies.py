"""Refusals in BigQuery's own words and shape: one exception, rendered as a REST envelope or a gRPC status."""

from __future__ import annotations

from typing import Any

#: Canonical status names by HTTP code (google.rpc.Code's documented mapping).
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

INVALID_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
MISSING_CREDENTIALS = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other "
    "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
NOT_A_TABLE = "request failed: non-table entities cannot be read with the storage API"


class ApiError(Exception):
    """One refusal: HTTP `code`, BigQuery's `reason`, its message, and where in the request it arose."""

    def __init__(
        self, code: int, reason: str, message: str, location: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.location = location
        self.headers = dict(headers or {})
        self.grpc_code = ""  # where set, the gRPC status instead of the one that `code` maps to

    @property
    def status(self) -> str:
        return _STATUS.get(self.code, "UNKNOWN")

    def proto(self) -> dict[str, str]:
        """As an ErrorProto: the entry of `errors` and a job's `errorResult`."""
        entry = {"reason": self.reason, "message": self.message}
        if self.location:
            entry["location"] = self.location
        return entry

    def envelope(self) -> dict[str, Any]:
        """As the body of a REST answer."""
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.code == 401:
            entry |= {"message": "Invalid Credentials", "location": "Authorization", "locationType": "header"}
        elif self.location:
            entry |= {"location": self.location, "locationType": "parameter"}
        return {"error": {"code": self.code, "message": self.message, "errors": [entry], "status": self.status}}


def invalid_query(message: str, line: int = 0, column: int = 0) -> ApiError:
    """A statement that BigQuery would refuse; `line` and `column` are 1-based, 0 is unknown."""
    where = f" at [{line}:{column}]" if line else ""
    return ApiError(400, "invalidQuery", message + where, "q")


def invalid(message: str) -> ApiError:
    return ApiError(400, "invalid", message)


def not_found(kind: str, name: str, location: str = "") -> ApiError:
    """`kind` is Table, Dataset or Job; `name` is written `project:dataset.table`."""
    where = f" was not found in location {location}" if location else ""
    return ApiError(404, "notFound", f"Not found: {kind} {name}{where}")


def denied(kind: str, name: str, permission: str) -> ApiError:
    """A `permission` that the caller lacks on the `kind` (Table or Dataset) called `name`."""
    message = f"Permission {permission} denied on {kind.lower()} {name} (or it may not exist)."
    return ApiError(403, "accessDenied", f"Access Denied: {kind} {name}: {message}")


def tag_denied(tag: str, column: str) -> ApiError:
    """A column, written `project.dataset.table.column`, whose policy `tag` the caller may not read."""
    message = f'User does not have permission to access policy tag "{tag}" on column {column}.'
    return ApiError(403, "accessDenied", f"Access Denied: BigQuery BigQuery: {message}")


def rows_denied(table: str) -> ApiError:
    """`table`, written `project:dataset.table`, read without a query although it has row access policies."""
    message = f"User does not have full access for table {table} due to row access policies."
    return ApiError(403, "accessDenied", f"Access Denied: Table {table}: {message}")


def drive_denied() -> ApiError:
    """A table in Drive, asked for with a token that lacks Drive's scope."""
    message = "Permission denied while getting Drive credentials."
    return ApiError(403, "accessDenied", f"Access Denied: BigQuery BigQuery: {message}")


def unauthenticated(message: str = INVALID_CREDENTIALS) -> ApiError:
    return ApiError(
        401, "authError", message, headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
    )
