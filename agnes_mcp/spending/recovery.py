"""What became of bills that nobody waited for: asked afterwards, while nobody waits either.

A process that was killed, and a job of which BigQuery would not tell, leave bytes in the books that count as billed and
are not known to be. Here the jobs are looked up, those that still run are cancelled, and the books get the true figure.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillAsking
from contextlib import suppress

from agnes_mcp.calls.audit import RECOVERY, AuditLine
from agnes_mcp.calls.frame import Calls
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.books import Books, Unsettled

logger = logging.getLogger(__name__)

#: One job may be asked about for so long; if it stays unknown, not again for a while.
ASK_WITHIN_S = 20.0
RETRY_AFTER_S = 30.0
#: A job that BigQuery has not heard of by then was never sent: a request does not travel longer.
NEVER_SENT_AFTER_S = 60.0


class Recovery:
    """Thread-safe. Its thread starts with the first bill to be asked about."""

    def __init__(self, calls: Calls, books: Books, sources: Sources) -> None:
        self._calls = calls
        self._books = books
        self._sources = sources
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._asking: Future[None] | None = None
        self._asked: dict[str, float] = {}  # by lease, until its bill is known

    def begin(self) -> None:
        """Ask about every bill that is not known, unless that is under way. Blocking for as long as the books are."""
        unsettled = [one for one in self._books.unsettled() if one.job is not None and self._is_due(one)]
        with self._lock:
            if not unsettled or (self._asking is not None and not self._asking.done()):
                return
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "agnes-recovery")
            self._asking = self._executor.submit(self._ask_all, unsettled)

    def wait(self, within_s: float) -> None:
        """Until what is being asked has been answered, or so long. Blocking."""
        if self._asking is not None:
            with suppress(StillAsking):
                self._asking.result(within_s)

    def close(self) -> None:
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(wait=False, cancel_futures=True)

    def _is_due(self, unsettled: Unsettled) -> bool:
        return time.monotonic() - self._asked.get(unsettled.lease, -RETRY_AFTER_S) >= RETRY_AFTER_S

    def _ask_all(self, unsettled: list[Unsettled]) -> None:
        for one in unsettled:
            self._asked[one.lease] = time.monotonic()
            try:
                billed = self._learn(one)
                if billed is not None and self._books.correct(one, billed):
                    self._note(one, billed)
                    del self._asked[one.lease]
            except AgnesError as error:
                logger.warning("what an earlier job was billed is not known yet: %s", error.kind)

    def _learn(self, unsettled: Unsettled) -> int | None:
        assert unsettled.job is not None  # noqa: S101 - of those without a job nobody is asked
        try:
            return self._sources.learn_bill(unsettled.job, self._calls.background(RECOVERY, ASK_WITHIN_S))
        except AgnesError as error:
            if error.kind == "bq_not_found" and unsettled.age_s > NEVER_SENT_AFTER_S:
                return 0
            raise

    def _note(self, unsettled: Unsettled, billed: int) -> None:
        """The call's own line said that it was not known, or was never written."""
        job = unsettled.job
        self._calls.audit.write(
            AuditLine(
                request_id=unsettled.request_id,
                tool=RECOVERY,
                principal=unsettled.principal,
                bytes_billed=billed,
                job_id=job.job_id if job else None,
            )
        )
