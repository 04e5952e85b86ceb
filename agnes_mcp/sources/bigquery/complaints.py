"""What Google's libraries raise, read into one shape: status, reason, BigQuery's own message.

google.api_core.exceptions.GoogleAPIError   REST answers and gRPC statuses
google.auth.exceptions.GoogleAuthError      no token
requests.RequestException, urllib3, OSError  the connection
grpc.RpcError                               a channel that failed before api_core saw it
pyarrow.lib.ArrowException                  record batches that do not decode
"""

from __future__ import annotations

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
    {"rateLimitExceeded", "backendError", "internalError", "badGateway", "jobRateLimitExceeded"}
)
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_LASTING_REASONS = frozenset({"quotaExceeded", "bytesBilledLimitExceeded", "responseTooLarge", "stopped"})


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
    if isinstance(error, TimeoutError | ConnectionRefusedError):
        return Complaint(0, "", _text(error) or type(error).__name__, unreachable=True)
    if isinstance(error, OSError):
        return Complaint(0, "connectionCut", _text(error) or type(error).__name__)
    return Complaint(500, "", _text(error) or type(error).__name__)


def read_job_error(error_result: Mapping[str, Any]) -> Complaint:
    """The `errorResult` of a job that ended badly. Its status is told by its reason alone."""
    return Complaint(0, str(error_result.get("reason") or ""), str(error_result.get("message") or "the job failed"))


def _from_api(error: api.GoogleAPICallError) -> Complaint:
    first = next((entry for entry in error.errors if isinstance(entry, Mapping)), {})
    message = str(first.get("message") or "") or _REQUEST_PREFIX.sub("", str(error.message or ""))
    status = int(error.code or 500)
    unreachable = status == 503 and bool(_NO_CONNECTION.search(message))
    return Complaint(status, str(first.get("reason") or ""), message, _retry_after_s(error), unreachable)


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
