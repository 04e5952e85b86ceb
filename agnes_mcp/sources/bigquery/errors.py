"""BigQuery's complaints as `AgnesError`: the kind, the whole message, and a next step that fits the complaint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.complaints import Complaint, read_complaint
from agnes_mcp.untrusted import redact

#: BigQuery's `reason` → our kind; a reason says more than a status. https://cloud.google.com/bigquery/docs/error-messages
KIND_OF_REASON = {
    "bytesBilledLimitExceeded": "bytes_billed_cap_reached",
    "responseTooLarge": "bq_response_too_large",
    "rateLimitExceeded": "bq_rate_limited",
    "jobRateLimitExceeded": "bq_rate_limited",
    "quotaExceeded": "bq_rate_limited",
    "accessDenied": "bq_forbidden",
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
    "bq_not_found": (
        "The table is registered here, but BigQuery does not have it where it was sought. Whoever keeps this instance "
        "checks project, dataset, table name and `data_source.bigquery.location`."
    ),
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
    (r"without a filter over column", "This table wants a filter on its partition column in WHERE; `schema` names it."),
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
_PERMISSION = re.compile(r"\b((?:bigquery|serviceusage|storage|cloudkms|datacatalog)(?:\.[A-Za-z]+){2})\b")
_PROJECT = re.compile(r"\bproject[s]?[ /:'\"]+([a-z][a-z0-9-]{4,28}[a-z0-9])", re.IGNORECASE)
_TABLE = re.compile(r"\b(?:Table|Dataset|View) ([a-z][\w.:-]+[\w-])")
# Permissions on the project that runs the jobs, not on the data.
_TO_RUN = ("bigquery.jobs.create", "bigquery.readsessions.create", "serviceusage.services.use")


def translate(error: BaseException, doing: str = "", details: Mapping[str, Any] | None = None) -> AgnesError:
    """Any foreign exception as ours. `doing` says what was tried, as in "reading the schema"."""
    if isinstance(error, AgnesError):
        return error
    return as_error(read_complaint(error), doing, details)


def as_error(complaint: Complaint, doing: str = "", details: Mapping[str, Any] | None = None) -> AgnesError:
    """One complaint as an error. `details` of the caller are kept; BigQuery's reason and position are added."""
    kind = kind_of(complaint)
    message = redact(complaint.message).strip() or "no further explanation"
    found: dict[str, Any] = {**(details or {})}
    if complaint.reason and not complaint.cut:
        found["reason"] = complaint.reason
    if kind == "bq_forbidden":
        kind = _explain_refusal(message, found)
    if kind == "bq_bad_request" and (position := _POSITION.search(message)):
        found["line"], found["column"] = int(position[1]), int(position[2])
    if complaint.retry_after_s is not None:
        found["retry_after_seconds"] = complaint.retry_after_s
    return AgnesError(kind, _sentence(kind, doing, message), _hint(kind, complaint, message, found), found)


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


def _explain_refusal(message: str, found: dict[str, Any]) -> str:
    """Put permission, project and table of an access-denied message into `found`; say which kind of refusal it is."""
    for name, pattern in (("permission", _PERMISSION), ("project", _PROJECT), ("table", _TABLE)):
        if match := pattern.search(message):
            found[name] = match[1]
    folded = message.casefold()
    running = found.get("permission") in _TO_RUN or "serviceusage" in folded or "it is disabled" in folded
    return "cross_project_forbidden" if running else "bq_forbidden"


def _hint(kind: str, complaint: Complaint, message: str, found: Mapping[str, Any]) -> str:
    if kind == "bq_bad_request":
        matching = (hint for pattern, hint in BAD_REQUEST_HINTS if re.search(pattern, message))
        return next(matching, _BAD_REQUEST_DEFAULT)
    if kind == "cross_project_forbidden":
        where = f" in {found['project']!r}" if "project" in found else ""
        return (
            f"This identity may not run jobs{where}. Set `data_source.bigquery.billing_project` to a project where it "
            "has the role BigQuery Job User; the data may stay in another project."
        )
    if kind == "bq_forbidden":
        need = f"the permission {found['permission']}" if "permission" in found else "the role BigQuery Data Viewer"
        on = found.get("table") or (f"project {found['project']}" if "project" in found else "this table")
        return f"Whoever administers BigQuery grants this server's identity {need} on {on}."
    if complaint.reason == "quotaExceeded":
        return "A quota of the BigQuery project is used up; its administrator sees which under IAM & Admin → Quotas."
    return HINTS[kind]
