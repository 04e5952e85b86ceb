"""The frame of every call: who, how long, how it ended, one audit line. And calls of nobody's, which have none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakSet

import anyio

from agnes_mcp.calls.audit import RECOVERY, Audit, AuditLine, Status
from agnes_mcp.calls.call import PROCESS, THREAD, UNTRACED, Call, Threads, Tracer, cancelled, timed_out
from agnes_mcp.calls.turns import Interpreting
from agnes_mcp.calls.workers import GIVE_UP_AFTER_S, INTERRUPT_EVERY_S, Workers
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import Consent, Principal, Progress

T = TypeVar("T")
#: Calls that spend nothing answer soon or not at all; a scan has its own limit.
FREE_CALL_TIMEOUT_S = 60.0
#: How long after its deadline a call is ended that no worker ended. Later than the worker's own end, which gives back
#: the turn and says what held it up; this one is for waits that no worker knows of.
OVERDUE_AFTER_S = GIVE_UP_AFTER_S + 1.0
#: How long calls have to end, once their threads are given up: what is left then, settling and a line, takes
#: milliseconds, and a host kills after 0.35 s.
_END_WITHIN_S = 0.3
#: How much of a name that a caller gave is written down.
_MAX_NAME_CHARS = 64
NOBODY = Principal("")
logger = logging.getLogger(__name__)
#: The books take turns anyway; a few threads, so that one that waits for a store does not hold up the others.
_THREADS_ASIDE = 4

OnProgress = Callable[[Progress], None]


class Calls:
    """Every call of this process, and the threads they run in: `workers` of them, and for each of the `processes` that
    can be killed one more, so that whoever waits for a process keeps nobody else from a thread.

    `restore` is run once, in a thread, before the first call: what an earlier process left behind.
    """

    def __init__(
        self, audit: Audit, workers: int, processes: int = 1, restore: Callable[[], None] = lambda: None
    ) -> None:
        self.audit = audit
        self.tracer: Tracer | None = None
        self.observers: list[Callable[[Call], None]] = []  # told of every call once it has ended
        self.failure_observers: list[Callable[[AuditLine], None]] = []  # and of those that failed, told first
        self._threads = Threads()
        self._workers = Workers(workers, THREAD, self._threads)
        self._apart = Workers(processes, PROCESS, self._threads)
        self._interpreting = Interpreting()
        self._writing = asyncio.Semaphore()  # full workers must not hold back an answer that is ready
        self._aside = asyncio.Semaphore(_THREADS_ASIDE)
        self._restore = restore
        self._restoring = anyio.Lock()
        self._restored = False
        self._noted: dict[Call, int] = {}  # calls whose line was written before their end, and what it said of the bill
        self._running: dict[Call, asyncio.Event] = {}  # calls that have not ended; each leaves by itself
        self._of_nobody: WeakSet[Call] = WeakSet()

    @asynccontextmanager
    async def open(
        self,
        tool: str,
        principal: Principal,
        *,
        table_id: str | None = None,
        timeout_s: float = FREE_CALL_TIMEOUT_S,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
        noted: bool = True,
    ) -> AsyncIterator[Call]:
        """The frame of one call. However it ends, one audit line says so before the answer leaves.

        `noted` False: part of a call that has its own frame, so that only a failure, which ends both, is written down.
        """
        if not self._restored:  # before the call is made: it is not to wait for an earlier process on its own time
            await self._restore_once()
        call = Call(tool, principal, timeout_s, on_progress=on_progress, consent=consent, tracer=self.tracer)
        call.line.table_id = None if table_id is None else table_id[:_MAX_NAME_CHARS]
        ended = self._running[call] = asyncio.Event()  # from here on, whoever ends the process finds the call
        traced = ExitStack()
        if self.tracer is not None:
            traced.enter_context(self.tracer.call(call))
        try:
            with anyio.move_on_after(timeout_s + OVERDUE_AFTER_S) as overdue:
                yield call
            if overdue.cancelled_caught:  # whatever it was that waited
                call.stop(timed_out(timeout_s, call.tool))
                call.check()
        except AgnesError as error:
            call.line.status, call.line.error_kind = _status_of(error), error.kind
            error.details.setdefault("request_id", call.request_id)
            raise
        except anyio.get_cancelled_exc_class():
            call.line.status, call.line.error_kind = "cancelled", "cancelled"
            raise
        except BaseException:
            call.line.status, call.line.error_kind = "error", "internal_error"
            raise
        finally:
            if noted or call.line.error_kind is not None:
                await self._note(call)
            traced.close()
            del self._running[call]  # after its line: a signal in between finds the call here, or its line on the disk
            ended.set()

    def request(self, tool: str) -> AbstractContextManager[Any]:
        """Around what one request of a client makes of calls, for whoever traces."""
        return UNTRACED if self.tracer is None else self.tracer.request(tool)

    def asked(self, since_ns: int) -> None:
        """A person is asked about a price, since that time (nanoseconds of the epoch), for whoever traces."""
        if self.tracer is not None:
            self.tracer.asked(since_ns)

    def answered(self, error_kind: str | None = None) -> None:
        """What was asked is answered, or will not be. Nothing where nothing was asked."""
        if self.tracer is not None:
            self.tracer.answered(error_kind)

    def background(self, tool: str, timeout_s: float | None = None) -> Call:
        """A call without a caller: work of the process's own, ended by its deadline or by `close`; not audited."""
        call = Call(tool, NOBODY, timeout_s)
        self._of_nobody.add(call)
        return call

    async def run(self, call: Call, work: Callable[[], T]) -> T:
        """The result of blocking `work`, in a thread. Raises what it raises, or `timeout`."""
        return await self._workers.run(call, work)

    async def run_apart(self, call: Call, work: Callable[[], T], within_s: float | None = None) -> T:
        """The same for work that a worker process does, and that a thread only waits for; `within_s` bounds the wait
        for its turn."""
        return await self._apart.run(call, work, within_s)

    def interpreting(self, call: Call) -> AbstractContextManager[None]:
        """Around work, in a thread, that is Python's alone: one piece at a time; see `turns.Interpreting`."""
        return self._interpreting.turn(call)

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of `work` that is short and must not be left half: full workers do not hold it up, and it is
        not interrupted. Raises what it raises."""
        return await self._threads.finish(work, self._aside)

    def running(self) -> list[Call]:
        """The calls that run now, the oldest first; those that are part of another one left out."""
        return [call for call in self._running if call.tool != "overview"]

    @property
    def busy(self) -> int:
        """How many threads work."""
        return self._workers.busy

    @property
    def waiting(self) -> dict[str, int]:
        """How many calls wait for a thread, and how many for a process."""
        return {THREAD: self._workers.waiting, PROCESS: self._apart.waiting}

    @property
    def stuck(self) -> int:
        """How many threads did not return when their calls were over; others have taken their turns."""
        return self._workers.stuck + self._apart.stuck

    async def refuse(self, tool: str, principal: Principal, error: AgnesError, table_id: str | None = None) -> None:
        """One audit line for a call that was refused before it could be opened."""
        with suppress(AgnesError):
            async with self.open(tool, principal, table_id=table_id):
                raise error

    def note_all(self) -> None:
        """The process is about to end: the line of every call that runs is on the disk when this returns.

        Blocking, in the loop's own thread: nothing else is to happen before. What a call does after it, such as
        cancelling its job, adds no line.
        """
        for call in list(self._running):
            if call.line.error_kind is None:
                call.line.status, call.line.error_kind = "cancelled", "cancelled"
            call.line.latency_ms = int(call.elapsed_s * 1000)
            self._noted[call] = call.line.bytes_billed or 0
            self.audit.write(call.line, urgent=True)

    def note_bill(self, call: Call, bytes_billed: int, job_id: str | None) -> None:
        """What a call was billed that had its line before the bill was known. Blocking."""
        line = AuditLine(request_id=call.request_id, tool=RECOVERY, principal=call.principal.name)
        line.bytes_billed, line.job_id = bytes_billed, job_id
        self.audit.write(line, urgent=True)

    async def stop_all(self, within_s: float) -> None:
        """End every call that runs, and wait, for so long, until none is left: statements are interrupted.

        Threads that have not returned by then are given up, so that their calls are audited and settled as well.
        """
        for call in list(self._running):  # all of them first: none begins another job while the others are waited for
            call.stop(cancelled())
        if not await self._ended(within_s):
            self._workers.give_up_after_s = self._apart.give_up_after_s = 0.0
            await self._ended(_END_WITHIN_S)

    async def _ended(self, within_s: float) -> bool:
        with anyio.move_on_after(within_s):
            while self._running:
                for call in list(self._running):  # an interrupt that arrives before DuckDB has started is lost
                    call.interrupt()
                with anyio.move_on_after(INTERRUPT_EVERY_S):
                    await next(iter(self._running.values())).wait()
        return not self._running

    def close(self) -> None:
        """End what runs for nobody, and the tracing. Blocking, for a bounded time."""
        for call in list(self._of_nobody):
            call.stop(cancelled())
        self._threads.close()
        if self.tracer is not None:
            self.tracer.close()

    async def _note(self, call: Call) -> None:
        if call in self._noted:
            late = (call.line.bytes_billed or 0) - self._noted.pop(call)
            if late > 0:
                await self.aside(lambda: self.note_bill(call, late, call.line.job_id))
            return
        call.line.latency_ms = int(call.elapsed_s * 1000)
        await self._threads.finish(lambda: self.audit.write(call.line), self._writing)
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", in_words(call.line))
        # What misled a call is forgotten before its answer leaves, so that the caller's next one is not misled as well;
        # all of that after the line, which must not depend on who listens.
        failed = call.line.error_kind is not None
        for note in self.failure_observers if failed else ():
            note(call.line)
        for observe in self.observers:
            observe(call)

    async def _restore_once(self) -> None:
        async with self._restoring:
            if not self._restored:
                await self._threads.finish(self._restore, self._writing)
                self._restored = True


def in_words(line: AuditLine) -> str:
    """One call for a log: tool, who, from where, how it ended, how long it took, what it billed."""
    came_from = f" from {line.client}" if line.client else ""
    billed = f", {line.bytes_billed:,} bytes billed" if line.bytes_billed else ""
    ended = f"{line.status} ({line.error_kind})" if line.error_kind else line.status
    return f"{line.tool} by {line.principal or 'nobody'}{came_from}: {ended} in {line.latency_ms or 0:,} ms{billed}"


def _status_of(error: AgnesError) -> Status:
    if isinstance(error, QuotaError):
        return "quota_exceeded"
    if error.kind in ("cancelled", "approval_cancelled"):
        return "cancelled"
    return "rejected" if error.exit_code in (2, 3, 6, 7, 8) else "error"
