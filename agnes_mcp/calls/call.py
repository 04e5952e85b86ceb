"""One call: who asks, until when, what a person allowed, how to report progress, how to stop it, and its audit line;
and the threads that its work is done in.

A `Call` crosses from the event loop into a worker thread. The thread asks it (`check`) whether to go on and tells it
how it can be interrupted; the loop stops it. Nothing in here blocks.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, TypeVar

import anyio

from agnes_mcp.calls.audit import AuditLine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, JobReference, Principal, Progress

T = TypeVar("T")
#: How long a thread without work stays.
IDLE_S = 10.0
#: What waiting for a thread and for a worker process is counted as.
THREAD, PROCESS = "thread", "process"

#: The parts of a call that are traced: is it granted, what does it cost, was it agreed to, is it within the budget, the
#: rows, the answer made of them.
Step = Literal["authorise", "price", "approve", "reserve", "read", "shape"]
#: What is traced where nobody traces.
UNTRACED: AbstractContextManager[Any] = nullcontext()


class Tracer(ABC):
    """Whoever is told when requests, calls and their steps begin and end. Blocks nobody, raises nothing of its own."""

    @abstractmethod
    def request(self, tool: str) -> AbstractContextManager[Any]:
        """Around all that one request of a client makes: the question to a person, the call."""

    @abstractmethod
    def call(self, call: Call) -> AbstractContextManager[Any]:
        """Around a call, with its audit line; what is in that line at the end is what became of it."""

    @abstractmethod
    def asked(self, since_ns: int) -> None:
        """A person is asked about the price of this request, since that time (nanoseconds of the epoch)."""

    @abstractmethod
    def answered(self, error_kind: str | None = None) -> None:
        """The person's answer is there, or what came in its place; the time until now is the step `approve`."""

    @abstractmethod
    def step(self, step: Step) -> AbstractContextManager[Any]:
        """Around a step of a call, in whichever thread."""

    @abstractmethod
    def close(self) -> None:
        """Send what has not been sent yet, for a bounded time. Blocking."""


def new_request_id() -> str:
    return secrets.token_hex(8)


@dataclass(eq=False)
class Call:
    """`timeout_s` counts from creation on the monotonic clock; None is no deadline.

    `consent` is what a person allowed to be billed; None: there is nobody to ask, so the hard caps alone decide.
    """

    tool: str
    principal: Principal
    timeout_s: float | None = None
    request_id: str = field(default_factory=new_request_id)
    on_progress: Callable[[Progress], None] | None = None
    consent: Consent | None = None
    tracer: Tracer | None = None

    def __post_init__(self) -> None:
        self.started_at = time.monotonic()
        self.line = AuditLine(
            request_id=self.request_id,
            tool=self.tool,
            principal=self.principal.name,
            client=self.principal.address or None,
        )
        #: Seconds that it stood in line, by what for: `thread`, `process`, `slot`. Written by the loop alone.
        self.waits: dict[str, float] = {}
        self._stopped_by: AgnesError | None = None
        self._interrupts: list[Callable[[], None]] = []
        self._before_bills: list[Callable[[JobReference | None], None]] = []
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_at

    @property
    def remaining_s(self) -> float | None:
        return None if self.timeout_s is None else max(0.0, self.timeout_s - self.elapsed_s)

    @property
    def waited_s(self) -> float:
        """How long it stood in line, of all its time."""
        return sum(self.waits.values())

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """The time inside counts as waiting."""
        since = time.monotonic()
        try:
            yield
        finally:
            self.waits[what] = self.waits.get(what, 0.0) + time.monotonic() - since

    def step(self, step: Step) -> AbstractContextManager[Any]:
        """The work inside is that step, for whoever traces; costs nothing where nobody does."""
        return UNTRACED if self.tracer is None else self.tracer.step(step)

    @property
    def stopped(self) -> bool:
        return self._stopped_by is not None

    def check(self) -> None:
        """Raise the error that ended this call, if one has: `cancelled` or `timeout`."""
        if self._stopped_by is None and self.remaining_s == 0.0:
            self.stop(timed_out(self.timeout_s or 0.0, self.tool))
        if self._stopped_by is not None:
            raise self._stopped_by

    def stop(self, reason: AgnesError) -> None:
        """End the call. The first reason stays."""
        with self._lock:
            if self._stopped_by is None:
                self._stopped_by = reason
        self.interrupt()

    def interrupt(self) -> None:
        """Run every registered interrupt. Each is quick and may be run again."""
        with self._lock:
            interrupts = list(self._interrupts)
        for interrupt in interrupts:
            interrupt()

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """While inside, stopping the call runs `interrupt`, from any thread, perhaps several times."""
        self.check()
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    def intend(self, job: JobReference | None = None) -> None:
        """Said by a source before it sends what may be billed; `job` is what can be asked for the bill.

        Raises what forbids it: then nothing may be sent.
        """
        for write_down in list(self._before_bills):
            write_down(job)

    @contextmanager
    def charging(self, write_down: Callable[[JobReference | None], None]) -> Iterator[None]:
        """While inside, `write_down` is told what is about to be billed, before it is."""
        self._before_bills.append(write_down)
        try:
            yield
        finally:
            self._before_bills.remove(write_down)

    def report(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell whoever waits how far the work is; from any thread."""
        if self.on_progress is not None and not self.stopped:
            self.on_progress(Progress(done=done, total=total, message=message))


def cancelled() -> AgnesError:
    return AgnesError("cancelled", "The call was cancelled.", "Nothing is left running; call again when needed.")


#: What makes a call shorter, where it is not a matter of columns and predicates.
_SHORTER = {
    "catalog": "Call again: what was read by then is kept. Search for fewer tables.",
    "schema": "Call again; if it repeats, BigQuery is slow just now: usage says how it is doing.",
    "scan": "Ask for less: fewer columns, a narrower WHERE, a partition filter, or an aggregate instead of rows.",
    "query": "Aggregate or filter before the join, read fewer rows, or ask in two steps.",
    "chart": "Draw less: fold in sql, a coarser time unit, a shorter period, fewer categories.",
    "fetch": "Fetch less: fewer columns, a partition filter, a limit; or fetch it in parts.",
    "snapshot_refresh": "Fetch a part of it anew under another name, with a narrower where.",
    "estimate": "Call again; if it repeats, BigQuery is slow just now: usage says how it is doing.",
}


def timed_out(timeout_s: float, tool: str = "") -> AgnesError:
    return AgnesError(
        "timeout",
        f"The call was stopped after {timeout_s:g} seconds.",
        _SHORTER.get(tool, _SHORTER["scan"]),
        {"timeout_seconds": timeout_s},
    )


class Piece(Generic[T]):
    """Work for a thread, in its maker's context. `ended`: it has returned. `woken`: it has, or there is something else
    to look at. Used on the event loop, but for `run`."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.ended, self.woken = asyncio.Event(), asyncio.Event()
        self.at_end: Callable[[], None] = lambda: None
        self._work, self._context, self.loop = work, copy_context(), asyncio.get_running_loop()
        self._outcome: list[T] = []
        self._failure: BaseException | None = None

    @property
    def outcome(self) -> T:
        """What it has come to. Raises what it has raised."""
        if self._failure is not None:
            raise self._failure
        return self._outcome[0]

    def run(self) -> None:
        try:
            self._outcome.append(self._context.run(self._work))
        except BaseException as error:  # noqa: BLE001 - carried over to whoever waits, whatever it is
            self._failure = error

    def end(self) -> None:
        self.ended.set()
        self.woken.set()
        self.at_end()


class Threads:
    """Threads that wait for work: as many as there were pieces at once, for a while. Who was busy last is next."""

    def __init__(self) -> None:
        self._waiting: deque[SimpleQueue[Piece[Any] | None]] = deque()
        self._closed = False

    def begin(self, piece: Piece[Any]) -> None:
        """Have it run now, in a thread that waits or in a new one."""
        try:
            inbox = self._waiting.pop()
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="agnes-work").start()
        inbox.put(piece)

    async def finish(self, work: Callable[[], T], turns: asyncio.Semaphore) -> T:
        """The result of `work`, begun and waited for whatever cancels the caller. Raises what it raises."""
        piece = Piece(work)
        with anyio.CancelScope(shield=True):
            async with turns:
                self.begin(piece)
                await piece.ended.wait()
        return piece.outcome

    def close(self) -> None:
        """Threads end once they have nothing to do. From any thread."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._waiting.pop().put(None)

    def _serve(self, inbox: SimpleQueue[Piece[Any] | None]) -> None:
        while (piece := self._next(inbox)) is not None:
            piece.run()
            self._waiting.append(inbox)  # first: who hears of the end may begin the next piece, and finds this thread
            post(piece.loop, piece.end)
            del piece
            if self._closed:
                self.close()

    def _next(self, inbox: SimpleQueue[Piece[Any] | None]) -> Piece[Any] | None:
        with suppress(Empty):
            return inbox.get(timeout=IDLE_S)
        with suppress(ValueError):  # it waits no more: something has been begun with it just now
            self._waiting.remove(inbox)
            return None
        return inbox.get()


def post(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has closed, and nobody waits
        loop.call_soon_threadsafe(action)
