"""Faults on demand and the log of calls: what a test scripts, and what it reads afterwards."""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from agnes_mcp.stand_in.wire.replies import ApiError


@dataclass
class Fault:
    """What happens to the next calls whose name matches `call` (a glob: `tables.get`, `jobs.*`, `ReadRows`, `job`).

    The first `after` matching calls pass; then `times` calls are hit (None: all). `where` is a glob on the path.
    All: `delay_s` waits first. REST: `status`, or the status that goes with `reason`, is answered with `reason` and
    `message`; `reset` "before" or "body" cuts the connection before the answer or in the middle of it; `cells` puts
    a text into every cell of a column, by its name, in the rows of `tabledata.list`, `jobs.query` and
    `jobs.getQueryResults`. gRPC: `grpc_code` aborts before batch `at_batch` (0-based); `stall_s` waits there;
    `truncate` ends the stream there as if it were complete. `job`, the execution of a job: `reason` fails it,
    `stall_s` lengthens it, `stuck` keeps it RUNNING until it is cancelled.

    Reasons with BigQuery's own words: those of `_MESSAGES`, among them accessDenied, quotaExceeded,
    jobRateLimitExceeded, billingNotEnabled, accessNotConfigured (the API is disabled), policyViolation (VPC Service
    Controls), and notFound, which names the job, table or dataset of the path.
    """

    call: str
    status: int = 0
    reason: str = ""
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    location: str = ""
    times: int | None = 1
    after: int = 0
    where: str = "*"
    delay_s: float = 0.0
    reset: str = ""
    grpc_code: str = ""
    at_batch: int = 0
    stall_s: float = 0.0
    truncate: bool = False
    stuck: bool = False
    cells: dict[str, str] = field(default_factory=dict)

    @property
    def refuses(self) -> bool:
        """Whether a REST call that it hits is answered with an error."""
        return bool(self.status or self.reason)

    def error(self, path: str = "", default_status: int = 0) -> ApiError:
        """The refusal that this fault answers to a call of `path`."""
        status = self.status or default_status or _STATUSES.get(self.reason, 400)
        reason = self.reason or _REASONS.get(status, "backendError")
        known = _missing(path) if reason == "notFound" else _MESSAGES.get(reason, f"Injected {reason}")
        return ApiError(status, reason, self.message or known, self.location, self.headers)


def _missing(path: str) -> str:
    """ "Not found" as said of what a REST path names last."""
    parts = path.split("/projects/")[-1].split("/")
    names = {"project": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=False))
    if "jobs" in names or "queries" in names:
        return f"Not found: Job {names['project']}:US.{names.get('jobs') or names['queries']}"
    if "tables" in names:
        return f"Not found: Table {names['project']}:{names['datasets']}.{names['tables']}"
    return f"Not found: Dataset {names['project']}:{names.get('datasets', 'my_dataset')}"


_REASONS = {
    400: "invalid",
    401: "authError",
    403: "accessDenied",
    404: "notFound",
    409: "duplicate",
    429: "rateLimitExceeded",
    500: "internalError",
    502: "backendError",
    503: "backendError",
    504: "backendError",
}
#: The HTTP status of each reason, as BigQuery's "Error messages" page pairs them; 400 where it is not here.
_STATUSES = {
    "accessDenied": 403,
    "accessNotConfigured": 403,
    "authError": 401,
    "backendError": 503,
    "billingNotEnabled": 403,
    "blocked": 403,
    "duplicate": 409,
    "internalError": 500,
    "notFound": 404,
    "policyViolation": 403,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "responseTooLarge": 403,
}
_MESSAGES = {
    "accessNotConfigured": "BigQuery API has not been used in project 123456789012 before or it is disabled. Enable "
    "it by visiting https://console.developers.google.com/apis/api/bigquery.googleapis.com/overview?project="
    "123456789012 then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our "
    "systems and retry.",
    "billingNotEnabled": "Access Denied: BigQuery BigQuery: Billing has not been enabled for this project. Enable "
    "billing at https://console.cloud.google.com/billing.",
    "jobRateLimitExceeded": "Exceeded rate limits: too many jobs for this project. For more information, see "
    "https://cloud.google.com/bigquery/docs/troubleshoot-quotas",
    "policyViolation": "VPC Service Controls: Request is prohibited by organization's policy. "
    "vpcServiceControlsUniqueIdentifier: k1lVLcQ_8yUZtB3-Tq5n0mPz",
    "authError": "Request had invalid authentication credentials.",
    "accessDenied": "Access Denied: Project my-project: User does not have bigquery.jobs.create permission "
    "in project my-project.",
    "quotaExceeded": "Quota exceeded: Your project exceeded quota for free query bytes scanned.",
    "rateLimitExceeded": "Exceeded rate limits: too many concurrent queries for this project_and_region.",
    "responseTooLarge": "Response too large to return. Consider specifying a destination table in your job "
    "configuration.",
    "backendError": "Error encountered during execution. Retrying may solve the problem.",
    "internalError": "An internal error occurred and the request could not be completed.",
}


class Faults:
    """The scripted faults, in order; each call is hit by the first that matches."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)

    def add_json(self, described: Mapping[str, Any]) -> None:
        known = {f.name for f in fields(Fault)}
        unknown = sorted(set(described) - known)
        if unknown or "call" not in described:
            raise ApiError(400, "invalid", f"A fault has a call and any of {sorted(known)}; not {unknown}")
        self.add(Fault(**described))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def take(self, call: str, path: str = "") -> Fault | None:
        """The fault that hits this call, spent by one; its `delay_s` has passed on return."""
        with self._lock:
            hit = self._match(call, path)
        if hit is not None and hit.delay_s:
            time.sleep(hit.delay_s)
        return hit

    def _match(self, call: str, path: str) -> Fault | None:
        for fault in self._faults:
            if not fnmatch.fnmatchcase(call, fault.call) or not fnmatch.fnmatchcase(path, fault.where):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
            return fault
        return None


@dataclass
class Request:
    """One call as it arrived. `body` is the REST JSON body, or the gRPC request's interesting fields."""

    name: str
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    token: str = ""
    status: int | str = 0
    at: float = field(default_factory=time.time)
    rows: int = 0  # rows sent, of ReadRows

    @property
    def configuration(self) -> dict[str, Any]:
        """The job configuration that this call carried; of jobs.query the request itself."""
        return self.body.get("configuration") or self.body

    @property
    def _query(self) -> dict[str, Any]:
        found = self.configuration.get("query")
        return found if isinstance(found, dict) else self.configuration

    @property
    def sql(self) -> str:
        return str(self._query.get("query") or "")

    @property
    def dry_run(self) -> bool:
        return bool(self.configuration.get("dryRun"))

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.configuration.get("labels") or {})

    @property
    def maximum_bytes_billed(self) -> int | None:
        given = self._query.get("maximumBytesBilled")
        return None if given is None else int(given)


class Requests:
    """Every call in order of arrival."""

    def __init__(self) -> None:
        self._log: list[Request] = []
        self._lock = threading.Lock()

    def add(self, request: Request) -> Request:
        with self._lock:
            self._log.append(request)
        return request

    def clear(self) -> None:
        with self._lock:
            self._log.clear()

    def named(self, pattern: str) -> list[Request]:
        """The calls whose name matches a glob."""
        return [request for request in self if fnmatch.fnmatchcase(request.name, pattern)]

    @property
    def names(self) -> list[str]:
        return [request.name for request in self]

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(list(self._log))

    def __len__(self) -> int:
        return len(self._log)
