"""What Google's libraries raise, read into one shape (status, reason, BigQuery's own message) and told as `AgnesError`:
the kind, the whole message, and a next step that fits the complaint.

google.api_core.exceptions.GoogleAPIError   REST answers and gRPC statuses
google.auth.exceptions.GoogleAuthError      no token
requests.RequestException, urllib3, OSError  the connection
grpc.RpcError                               a channel that failed before api_core saw it
pyarrow.lib.ArrowException                  record batches that do not decode
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pyarrow as pa
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery import missing, proxies, refusals
from agnes_mcp.untrusted import redact

_log = logging.getLogger(__name__)

#: Everything foreign that a call to BigQuery may raise.
FOREIGN: tuple[type[Exception], ...] = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    grpc.RpcError,
    pa.lib.ArrowException,
    OSError,
)

_REQUEST_PREFIX = re.compile(r"\A\d{3} (?=[A-Z])|\A(?:GET|POST|PUT|PATCH|DELETE) \S+ ?")
_NO_CONNECTION = re.compile(r"failed to connect|connection refused|dns resolution|name resolution|unreachable", re.I)
# Reasons that BigQuery documents as passing; its own clients retry the same ones.
_PASSING_REASONS = frozenset(
    {
        "rateLimitExceeded", "backendError", "internalError", "badGateway",
        "jobRateLimitExceeded", "jobBackendError", "jobInternalError",
    }
)  # fmt: skip
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_LASTING_REASONS = frozenset(
    {"proxyRefused", "quotaExceeded", "bytesBilledLimitExceeded", "responseTooLarge", "stopped"}
)


@dataclass(frozen=True)
class Complaint:
    """`status` is the HTTP status or the one that a gRPC code stands for, 0 where no answer came."""

    status: int
    reason: str = ""
    message: str = ""
    retry_after_s: float | None = None
    unreachable: bool = False  # no connection came about, or no answer in time

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        if self.reason in _LASTING_REASONS:
            return False
        return self.unreachable or self.reason in _PASSING_REASONS or self.status in _PASSING_STATUSES or self.cut

    @property
    def cut(self) -> bool:
        """Whether a connection broke in the middle of an answer."""
        return self.reason == "connectionCut"


def read_complaint(error: BaseException) -> Complaint:
    """Any exception of `FOREIGN`; others come out as status 500."""
    if isinstance(error, api.RetryError) and error.cause is not None:
        return read_complaint(error.cause)
    if isinstance(error, api.GoogleAPICallError):
        return _from_api(error)
    if isinstance(error, auth.GoogleAuthError):
        return Complaint(401, "authError", _text(error))
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        return _from_connection(error)
    if isinstance(error, grpc.RpcError):
        return _from_api(api.from_grpc_error(error))  # type: ignore[no-untyped-call] # api_core annotates a part of itself
    if isinstance(error, pa.lib.ArrowException):
        return Complaint(0, "connectionCut", f"a record batch did not decode: {_text(error)}")
    text = _text(error) or type(error).__name__
    if isinstance(error, TimeoutError | ConnectionRefusedError):
        return Complaint(0, "", text, unreachable=True)
    return Complaint(0, "connectionCut", text) if isinstance(error, OSError) else Complaint(500, "", text)


def read_job_error(error_result: Mapping[str, Any]) -> Complaint:
    """The `errorResult` of a job that ended badly. Its status is told by its reason alone."""
    return Complaint(0, str(error_result.get("reason") or ""), str(error_result.get("message") or "the job failed"))


def _from_api(error: api.GoogleAPICallError) -> Complaint:
    first = next((entry for entry in error.errors if isinstance(entry, Mapping)), {})
    message = str(first.get("message") or "") or _REQUEST_PREFIX.sub("", str(error.message or ""))
    status = int(error.code or 500)
    unreachable = status == 503 and bool(_NO_CONNECTION.search(message))
    if unreachable and (told := proxies.of_the_proxy(error)):
        return _of_proxy(*told)
    reason = refusals.reason_of(first.get("reason"), error.reason)
    return Complaint(status, reason, message, _retry_after_s(error), unreachable)


def _of_proxy(message: str, passing: bool) -> Complaint:
    return Complaint(0, "proxy" if passing else "proxyRefused", message, unreachable=True)


def _retry_after_s(error: api.GoogleAPICallError) -> float | None:
    """Seconds of a Retry-After header (its date form is not used by Google), or of a gRPC RetryInfo."""
    headers = getattr(error.response, "headers", None) or {}
    value = str(headers.get("Retry-After") or "")
    if value.isdigit():
        return float(value)
    for detail in error.details or ():
        delay = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.seconds)
    return None


def _from_connection(error: Exception) -> Complaint:
    if isinstance(error, requests.JSONDecodeError):
        return Complaint(0, "connectionCut", "the answer is not JSON")
    if told := proxies.of_the_proxy(error):
        return _of_proxy(*told)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return Complaint(0, "", "no answer in time", unreachable=True)
    if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.ProtocolError):
        return Complaint(0, "connectionCut", "the connection was cut in the middle of an answer")
    if isinstance(error, requests.exceptions.SSLError):
        return Complaint(0, "", "the TLS certificate was not accepted", unreachable=True)
    if isinstance(error, requests.ConnectionError) and not _NO_CONNECTION.search(str(error)):
        return Complaint(0, "connectionCut", "the connection was cut")
    return Complaint(0, "", "connection refused or no route", unreachable=True)


def _text(error: BaseException) -> str:
    """The first argument only: further ones may be the body of an answer."""
    return str(error.args[0]) if error.args else ""


#: BigQuery's `reason` → our kind; a reason says more than a status. https://cloud.google.com/bigquery/docs/error-messages
KIND_OF_REASON = {
    "bytesBilledLimitExceeded": "bytes_billed_cap_reached",
    "responseTooLarge": "bq_response_too_large",
    "rateLimitExceeded": "bq_rate_limited",
    "jobRateLimitExceeded": "bq_rate_limited",
    "quotaExceeded": "bq_rate_limited",
    "accessDenied": "bq_forbidden",
    "accessNotConfigured": "bq_forbidden",
    "billingNotEnabled": "bq_forbidden",
    "blocked": "bq_forbidden",
    "policyViolation": "bq_forbidden",
    "billingTierLimitExceeded": "bq_bad_request",
    "invalid": "bq_bad_request",
    "invalidQuery": "bq_bad_request",
    "parseError": "bq_bad_request",
    "badRequest": "bq_bad_request",
    "resourcesExceeded": "bq_bad_request",
    "notFound": "bq_not_found",
    "authError": "auth_failed",
    "backendError": "bq_upstream_error",
    "internalError": "bq_upstream_error",
    "badGateway": "bq_upstream_error",
    "jobBackendError": "bq_upstream_error",
    "jobInternalError": "bq_upstream_error",
    "tableUnavailable": "bq_upstream_error",
    "connectionCut": "bq_upstream_error",
    "stopped": "cancelled",
    "timeout": "timeout",
}
KIND_OF_STATUS = {
    400: "bq_bad_request",
    401: "auth_failed",
    403: "bq_forbidden",
    404: "bq_not_found",
    429: "bq_rate_limited",
    499: "cancelled",
}

_NARROWER = "Select fewer columns, narrow the WHERE to a partition, or ask for an aggregate."
HINTS = {
    "bytes_billed_cap_reached": "Nothing was billed. Call `estimate` again: the table has grown since. " + _NARROWER,
    "bq_response_too_large": _NARROWER,
    "bq_rate_limited": "Wait a minute, then call again; run fewer scans at once.",
    "auth_failed": (
        "BigQuery refused the token even after a new one was fetched. Whoever keeps this instance checks the service "
        "account, or runs `gcloud auth application-default login` again."
    ),
    "bq_upstream_error": "This is BigQuery's side, or the network's. Call again in a moment.",
    "bq_unreachable": (
        "Check the network between this server and BigQuery, and `data_source.bigquery.api_endpoint` and "
        "`storage_endpoint`. Local tables and snapshots are not affected."
    ),
    "cancelled": "Nothing is left running; call again when needed.",
    "timeout": _NARROWER,
}

# What a 400 is about, by BigQuery's own wording, and what to do about it. The first that matches counts.
BAD_REQUEST_HINTS = (
    (r"without a filter over column",
     "This table wants a filter on its partition column in WHERE; `schema` names it. A view of which it names none: "
     "whoever keeps that in BigQuery filters there, or shows the column."),
    (r"Unrecognized name|not found inside|Field name", "Use names as `schema` shows them; call it for this table."),
    (r"reserved keyword|Unexpected keyword", "A reserved word is used as an alias or a name: choose another alias."),
    (r"Not found: Table|must be qualified with a dataset", "Name no table in WHERE, only columns of this one."),
    (r"No matching signature|Could not cast|Bad .* value|Invalid (date|datetime|timestamp|time)",
     "Compare each column with a literal of its own type; `schema` shows types and `where_dialect_hints`."),
    (r"Function not found", "Use a function of GoogleSQL that the WHERE validator allows."),
    (r"[Rr]esources exceeded|too complex", _NARROWER + " Leave ORDER BY out, or add a limit."),
)  # fmt: skip
_BAD_REQUEST_DEFAULT = (
    "Change the columns or the WHERE as the message says; `schema` shows columns, types and literals."
)

_POSITION = re.compile(r"\[(\d+):(\d+)\]")
#: Kinds of complaints that name what they are about.
_NAMING = ("bq_forbidden", "bq_not_found", "bq_bad_request")


def translate(error: BaseException, doing: str = "", details: Mapping[str, Any] | None = None) -> AgnesError:
    """Any foreign exception as ours. `doing` says what was tried, as in "reading the schema"."""
    if isinstance(error, AgnesError):
        return error
    return as_error(read_complaint(error), doing, details)


def as_error(
    complaint: Complaint,
    doing: str = "",
    details: Mapping[str, Any] | None = None,
    known: refusals.Known | None = None,
) -> AgnesError:
    """One complaint as an error. `details` of the caller are kept; BigQuery's reason and position are added.

    `known`: what the caller may know of; other names, as of what a view reads, are told in the log only. None:
    everything may be told.
    """
    kind = kind_of(complaint)
    message = redact(complaint.message).strip() or "no further explanation"
    if known is not None and kind in _NAMING and (shown := refusals.withhold(message, known)) != message:
        level = logging.DEBUG if refusals.asks_for_filter(message) else logging.WARNING
        _log.log(level, "BigQuery answered while %s: %s", doing or "reading", message)
        message = shown
    found: dict[str, Any] = {**(details or {})}
    if complaint.reason and not complaint.cut:
        found["reason"] = complaint.reason
    hint = ""
    if kind == "bq_forbidden":
        kind, hint = refusals.explain(message, complaint.reason, found, known or refusals.NOTHING)
    if kind == "bq_bad_request" and (position := _POSITION.search(message)):
        found["line"], found["column"] = int(position[1]), int(position[2])
    if complaint.retry_after_s is not None:
        found["retry_after_seconds"] = complaint.retry_after_s
    return AgnesError(kind, _sentence(kind, doing, message), hint or _hint(kind, complaint, message), found)


def kind_of(complaint: Complaint) -> str:
    if complaint.unreachable:
        return "bq_unreachable"
    if complaint.reason in KIND_OF_REASON:
        return KIND_OF_REASON[complaint.reason]
    if complaint.status in KIND_OF_STATUS:
        return KIND_OF_STATUS[complaint.status]
    return "bq_bad_request" if 400 <= complaint.status < 500 and complaint.status != 409 else "bq_upstream_error"


def _sentence(kind: str, doing: str, message: str) -> str:
    while_doing = f" while {doing}" if doing else ""
    if kind == "bq_unreachable":
        return f"BigQuery cannot be reached{while_doing}: {message}"
    if kind == "auth_failed":
        return f"BigQuery did not accept our credentials{while_doing}: {message}"
    return f"BigQuery answered{while_doing}: {message}"


def _hint(kind: str, complaint: Complaint, message: str) -> str:
    if kind == "bq_not_found":
        return missing.hint(message)
    if kind == "bq_bad_request":
        matching = (hint for pattern, hint in BAD_REQUEST_HINTS if re.search(pattern, message))
        return next(matching, _BAD_REQUEST_DEFAULT)
    if complaint.reason.startswith("proxy"):
        return proxies.HINT
    if complaint.reason == "quotaExceeded":
        return "A quota of the BigQuery project is used up; its administrator sees which under IAM & Admin → Quotas."
    return HINTS[kind]
