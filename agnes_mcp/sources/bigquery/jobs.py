"""One query job: capped, labelled, watched, cancelled when nobody waits for it, and paid for to the byte."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import JobReference, Receipt
from agnes_mcp.sources.bigquery.errors import Complaint, as_error, read_job_error
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.price import stated_bytes_billed
from agnes_mcp.sources.bigquery.requests import NO_RETRY, TRIES, Attempts, pause_before_next, wait

if TYPE_CHECKING:
    from google.cloud import bigquery

    from agnes_mcp.sources.bigquery.clients import Clients

#: Pauses between two looks at a running job.
FIRST_LOOK_S = 0.02
LOOK_EVERY_S = 1.0
#: One look. Short, because a stopped call is noticed only between two of them.
LOOK_TIMEOUT_S = 5.0
#: After a cancel: how long to wait for BigQuery to say what the job has cost.
SETTLE_TIMEOUT_S = 5.0
#: A job that was sent may not be found for a moment; so long its "not found" counts as "not begun".
NOT_FOUND_FOR_S = 60.0
#: How jobs end that Google's own client runs again (`google.cloud.bigquery.retry`). Such a job is not billed.
REPEATED_REASONS = frozenset(
    {
        "rateLimitExceeded", "backendError", "internalError", "badGateway",
        "jobRateLimitExceeded", "jobBackendError", "jobInternalError",
    }
)  # fmt: skip
#: BigQuery stops a job itself so long after we should have, in case this process is gone by then.
ORPHAN_GRACE_S = 30.0


class QueryJob:
    """A job for one statement that bills at most `reserved_bytes`. `receipt` is exact after `settle`.

    A job that BigQuery ends by a fault of its own is repeated as another job, with an id of its own, so that there is
    one bill, that of the last. `location` is where its tables are; "" leaves it to BigQuery.
    """

    def __init__(self, clients: Clients, attempts: Attempts, sql: str, reserved_bytes: int, location: str) -> None:
        self._clients = clients
        self._attempts = attempts
        self._sql = sql
        self._reserved_bytes = reserved_bytes
        self._location = location or None
        self.receipt = Receipt()
        self._begin()

    def _begin(self) -> None:
        self.job_id = f"agnes_mcp_{secrets.token_hex(12)}"
        self.receipt.job_id = self.job_id
        self._submitted = False
        self._arrived = False  # whether BigQuery may have it: it said so, or its answer was lost
        self._job: bigquery.QueryJob | None = None

    def run(self) -> TablePath:
        """Insert the job, wait for its end, and return the table that holds its rows.

        Raises BigQuery's complaint with the job's id and bill in `details`, or what stopped the call.
        """
        for attempt in range(1, TRIES + 1):
            job = self._run_once()
            if not job.error_result:
                break
            complaint = read_job_error(job.error_result)
            pause_s = pause_before_next(complaint, attempt) if complaint.reason in REPEATED_REASONS else None
            if pause_s is None or attempt == TRIES or self.receipt.bytes_billed:
                raise self._failure(complaint)
            self._attempts.pause(complaint, pause_s)
            self._begin()
        destination = job.destination
        if destination is None:
            raise self._failure(Complaint(502, message="The job ended without naming the table of its rows."))
        return TablePath(destination.project, destination.dataset_id, destination.table_id)

    def _run_once(self) -> bigquery.QueryJob:
        """The job, once it is done, however it ended."""
        self._attempts.details["job_id"] = self.job_id
        self._attempts.call.intend(self.reference)
        self._submitted = True
        self._job = self._attempts.run("starting the query", self._insert)
        lost_at, delay_s = time.monotonic() + NOT_FOUND_FOR_S, FIRST_LOOK_S
        while self._job is None or self._job.state != "DONE":
            self._report(self._job)
            wait(self._attempts.call, delay_s)
            delay_s = min(LOOK_EVERY_S, delay_s * 1.5)
            tolerant = time.monotonic() < lost_at
            found = self._attempts.run("waiting for the query", self._find if tolerant else self._get)
            self._job = found or self._job
        self._read_bill(self._job)
        return self._job

    def settle(self) -> None:
        """Cancel the job if it may still run, then learn its bill; the cap is the bill where that cannot be learnt."""
        if not self._submitted or (self._job is not None and self._job.state == "DONE"):
            return
        grace = Call(self._attempts.call.tool, self._attempts.call.principal, timeout_s=SETTLE_TIMEOUT_S)
        attempts = Attempts(grace, self._attempts.tokens, {"job_id": self.job_id})
        try:
            while not attempts.run("cancelling the query", self._cancel):
                if not self._arrived:  # there was no job
                    return
                wait(grace, FIRST_LOOK_S)
            self._await_end(attempts)
        except AgnesError:
            self._assume()

    def _insert(self, timeout_s: float) -> bigquery.QueryJob | None:
        """The job that was made; None where an earlier try made it and it is not found yet."""
        from google.cloud import bigquery

        call = self._attempts.call
        config = bigquery.QueryJobConfig(maximum_bytes_billed=self._reserved_bytes, labels=labels_of(call))
        if call.remaining_s is not None:
            config.job_timeout_ms = int((call.remaining_s + ORPHAN_GRACE_S) * 1000)
        arrived, self._arrived = self._arrived, True
        try:
            return self._clients.rest.query(
                self._sql,
                config,
                job_id=self.job_id,
                retry=NO_RETRY,
                timeout=timeout_s,
                job_retry=NO_RETRY,
                project=self._clients.settings.billed_project,
                location=self._location,
            )
        except api.Conflict:  # an earlier try arrived, only its answer did not
            return self._find(timeout_s)
        except api.ClientError:  # it was refused, and no job was made of it
            self._arrived = arrived
            raise

    def _find(self, timeout_s: float) -> bigquery.QueryJob | None:
        try:
            return self._get(timeout_s)
        except api.NotFound:
            return None

    def _get(self, timeout_s: float) -> bigquery.QueryJob:
        job: Any = self._clients.rest.get_job(
            self.job_id,
            project=self._clients.settings.billed_project,
            location=self._location,
            retry=NO_RETRY,
            timeout=min(timeout_s, LOOK_TIMEOUT_S),
        )
        return job  # type: ignore[no-any-return] # a job that we inserted as a query is one

    def _cancel(self, timeout_s: float) -> bool:
        """Whether there was a job to cancel. Cancelling one that has ended does nothing."""
        try:
            job: Any = self._clients.rest.cancel_job(
                self.job_id,
                project=self._clients.settings.billed_project,
                location=self._location,
                retry=NO_RETRY,
                timeout=timeout_s,
            )
        except api.NotFound:
            return False
        self._job = job
        return True

    def _await_end(self, attempts: Attempts) -> None:
        job = self._job
        delay_s = FIRST_LOOK_S
        while job is not None and job.state != "DONE":
            wait(attempts.call, delay_s)
            delay_s = min(LOOK_EVERY_S, delay_s * 2)
            job = self._job = attempts.run("waiting for the end of the query", self._find) or job
        if job is not None:
            self._read_bill(job)

    @property
    def reference(self) -> JobReference:
        """What can be asked about the job later, by anybody."""
        return JobReference(
            project=self._clients.settings.billed_project, location=self._location or "", job_id=self.job_id
        )

    def _read_bill(self, job: bigquery.QueryJob) -> None:
        billed = bytes_billed_of(job)
        if billed is None:
            self._assume()
        else:
            self.receipt.bytes_billed = billed
        self.receipt.cache_hit = bool(job.cache_hit)

    def _assume(self) -> None:
        """What was billed is not known. That is never zero."""
        self.receipt.bytes_billed, self.receipt.assumed = self._reserved_bytes, True

    def _failure(self, complaint: Complaint) -> AgnesError:
        details = {**self._attempts.details, "bytes_billed": self.receipt.bytes_billed}
        return as_error(complaint, "running the query", details, self._attempts.known)

    def _report(self, job: bigquery.QueryJob | None) -> None:
        """Work units done, as the job's newest timeline entry counts them."""
        newest = job.timeline[-1] if job is not None and job.timeline else None
        done = int(newest.completed_units or 0) if newest else 0
        left = int(newest.pending_units or 0) + int(newest.active_units or 0) if newest else 0
        state = ((job and job.state) or "PENDING").lower()
        self._attempts.call.report(done, done + left if left else None, f"BigQuery job {state}")


def bytes_billed_of(job: Any) -> int | None:
    """What a job that has ended was billed; None: BigQuery does not say, as where a row policy hides it.

    A query that fails is not billed (https://cloud.google.com/bigquery/pricing), one that was stopped may be.
    """
    if (billed := stated_bytes_billed(job)) is not None:
        return billed
    reason = (job.error_result or {}).get("reason", "stopped")
    return None if reason == "stopped" else 0


def learn_bill(clients: Clients, attempts: Attempts, job: JobReference) -> int | None:
    """What the job of a call that is gone was billed; one that still runs is cancelled, as nobody waits for it.

    None: BigQuery does not say. Raises `bq_not_found` where there is no such job, `timeout` where it does not end.
    """
    where: dict[str, Any] = {"project": job.project, "location": job.location or None, "retry": NO_RETRY}

    def look() -> Any:
        return attempts.run("reading the bill", lambda t: clients.rest.get_job(job.job_id, timeout=t, **where))

    found = look()
    if found.state != "DONE":
        with suppress(AgnesError):  # then it ends by itself
            attempts.run("cancelling the query", lambda t: clients.rest.cancel_job(job.job_id, timeout=t, **where))
    delay_s = FIRST_LOOK_S
    while found.state != "DONE":
        wait(attempts.call, delay_s)
        delay_s = min(LOOK_EVERY_S, delay_s * 2)
        found = look()
    return bytes_billed_of(found)


_NOT_A_LABEL = re.compile(r"[^a-z0-9_-]")


def labels_of(call: Call) -> dict[str, str]:
    """Who runs a job and what for, as labels that BigQuery takes: ≤ 63 of a-z, 0-9, _, -. The principal is hashed."""
    return {
        "application": "agnes-mcp",
        "tool": _label(call.tool),
        "principal": hashlib.sha256(call.principal.name.encode()).hexdigest()[:16],
        "request_id": _label(call.request_id),
    }


def _label(text: str) -> str:
    return _NOT_A_LABEL.sub("-", text.lower())[:63]
