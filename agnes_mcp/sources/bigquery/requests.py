"""One request to BigQuery: tried again while it is worth it, stopped with the call, translated when it fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from google.api_core import exceptions as api

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.errors import FOREIGN, Complaint, as_error, read_complaint
from agnes_mcp.sources.bigquery.refusals import Known
from agnes_mcp.sources.bigquery.tokens import TokenSource

T = TypeVar("T")

#: The first try and at most three more.
TRIES = 4
#: A pause that BigQuery asks for is kept up to here; a longer one is told to the caller instead.
MAX_PAUSE_S = 10.0
FIRST_PAUSE_S = 0.25
#: One REST request. `jobs.insert` and `tables.get` answer within a second or two.
REQUEST_TIMEOUT_S = 20.0
#: Given as `retry=` to every method of Google's clients: trying again is done here, under the call's deadline. Their
#: annotations ask for a Retry; None is documented as "do not".
NO_RETRY: Any = None


class Attempts:
    """How requests of one call are made. `details` go into every error; `known` is what one may tell of, see
    `as_error`."""

    def __init__(
        self,
        call: Call,
        tokens: TokenSource,
        details: Mapping[str, Any] | None = None,
        known: Known | None = None,
    ) -> None:
        self.call = call
        self.tokens = tokens
        self.known = known
        self.details: dict[str, Any] = dict(details or {})

    def run(self, doing: str, work: Callable[[float], T], tries: int = TRIES) -> T:
        """What `work(timeout_s)` returns. `doing` names it in errors and progress. `work` must be safe to repeat.

        Raises what stopped the call, or BigQuery's complaint translated. No exception of Google's is chained to it.
        """
        refreshed = False
        for attempt in range(1, tries + 1):
            self.call.check()
            token = self.tokens.token()
            outcome, failure = _outcome(work, self.timeout_s())
            if failure is None:
                return cast("T", outcome)
            self.call.check()
            # The REST client has refreshed already and raises Unauthorized; the gRPC client has not.
            if isinstance(failure, api.Unauthenticated) and not refreshed:
                self.tokens.discard(token)
                refreshed = True
                continue
            complaint = read_complaint(failure)
            pause_s = pause_before_next(complaint, attempt)
            if attempt == tries or pause_s is None:
                break
            self.pause(complaint, pause_s)
        raise self.error(complaint, doing)

    def timeout_s(self) -> float:
        left = self.call.remaining_s
        return REQUEST_TIMEOUT_S if left is None else max(0.05, min(REQUEST_TIMEOUT_S, left))

    def error(self, complaint: Complaint, doing: str) -> AgnesError:
        return as_error(complaint, doing, self.details, self.known)

    def pause(self, complaint: Complaint, pause_s: float) -> None:
        """Wait, unless the call is stopped; say so to whoever waits."""
        reason = complaint.reason or complaint.status or complaint.message
        self.call.report(0, None, f"BigQuery: {reason}; trying again in {pause_s:.1f} s")
        wait(self.call, pause_s)
        self.call.check()


def _outcome(work: Callable[[float], T], timeout_s: float) -> tuple[T | None, Exception | None]:
    """The result, or the foreign exception: kept, not raised, so that nothing is chained to what is raised later."""
    try:
        return work(timeout_s), None
    except FOREIGN as error:
        return None, error


def pause_before_next(complaint: Complaint, attempt: int) -> float | None:
    """Seconds to wait after the `attempt`-th failure, jittered; None: another try would not help."""
    if not complaint.passing:
        return None
    if complaint.retry_after_s is not None:
        return None if complaint.retry_after_s > MAX_PAUSE_S else complaint.retry_after_s
    return FIRST_PAUSE_S * (1 << attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


def wait(call: Call, seconds: float) -> None:
    """Sleep; stopping the call ends it. Never past the call's deadline."""
    stopped = threading.Event()
    left = call.remaining_s
    with call.interruptible(stopped.set):
        stopped.wait(seconds if left is None else min(seconds, left))
