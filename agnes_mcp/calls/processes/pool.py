"""A number of worker processes, shared fairly between principals."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from agnes_mcp.calls.call import PROCESS, Call
from agnes_mcp.calls.processes.worker import Worker
from agnes_mcp.calls.turns import Ticket, Turns
from agnes_mcp.calls.workers import all_busy
from agnes_mcp.errors import AgnesError

#: How often idle processes are looked at: before the next question comes, and without being seen in `top`.
_LOOK_S = 0.5


class Pool:
    """`start` makes one process. There are `size`, and where some hold more than their share so many more for those who
    wait (see `turns`), at most `2 * size - 1`. All are started by one thread that lives as long as the pool: on Linux
    a child is told to die with the thread that started it, and a thread of a call would take it along."""

    def __init__(self, size: int, start: Callable[[], Worker]) -> None:
        self.size = size
        self.started = 0
        self.replaced = 0  # that died, or were killed with what they ran
        self._start = start
        self._changed = threading.Condition()
        self._idle: deque[Worker] = deque()
        self._busy: dict[Worker, Ticket] = {}  # at most as many as there are turns
        self._turns = Turns(size)
        self._starting = 0
        self._start_error: OSError | None = None
        self._closed = False
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._starter: threading.Thread | None = None

    def warm(self) -> None:
        """Order the missing processes and return at once."""
        with self._changed:
            self._fill()

    @property
    def busy(self) -> int:
        """How many processes have work."""
        with self._changed:
            return len(self._busy)

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._changed:
            return self._turns.waiting

    def acquire(self, call: Call, deadline: float) -> Worker:
        """Wait for a worker, at most until `deadline` (monotonic). Raises AgnesError: `cancelled`, `timeout`."""
        with self._changed:
            ticket = self._turns.ask(call.principal.name)
        try:
            with call.interruptible(self._wake):
                return self._wait_turn(ticket, call, deadline)
        except BaseException:
            self._leave(ticket)
            raise

    def release(self, worker: Worker, reusable: bool) -> None:
        """Take a worker back; one that is not reusable, or not done, ends, and another takes its place."""
        reusable = reusable and worker.settled
        if not reusable:
            worker.reap()  # before the turn is given on, so that its memory is free; and while no lock is held
        with self._changed:
            self.replaced += not (reusable or self._closed)
            self._turns.leave(self._busy.pop(worker))
            if reusable and not self._closed and self._missing > 0:
                self._idle.append(worker)
            elif reusable:
                worker.reap()
            self._fill()
            self._changed.notify_all()

    @property
    def _missing(self) -> int:
        """How many processes there should be more of; call with the lock held."""
        return max(self.size, self._turns.held) - len(self._idle) - len(self._busy) - self._starting

    def _leave(self, ticket: Ticket) -> None:
        with self._changed:
            self._turns.leave(ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """End every process and everyone who waits for one. Returns when none is left."""
        with self._changed:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._idle.clear()
            self._changed.notify_all()
        self._orders.put(False)
        for worker in workers:
            worker.reap()
        if self._starter is not None:
            self._starter.join()  # last: a process that it was starting is reaped by `_arrived`, as the pool is closed

    def check_open(self) -> None:
        """Raise `cancelled` once the pool is closed."""
        if self._closed:
            raise AgnesError("cancelled", "The server is shutting down.", "Call again when it is back.")

    def workers(self) -> list[Worker]:
        with self._changed:
            return [*self._idle, *self._busy]

    def _wait_turn(self, ticket: Ticket, call: Call, deadline: float) -> Worker:
        with self._changed:
            while True:
                # what ended the call is its answer, whatever the pool's state; then what every caller must be told
                call.check()
                self.check_open()
                self._raise_start_error()
                worker = self._take(ticket) if ticket.granted else None
                self._fill()
                if worker is not None:
                    return worker
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise all_busy(PROCESS)
                self._changed.wait(left_s)

    def _take(self, ticket: Ticket) -> Worker | None:
        """The longest idle process that still lives; call with the lock held."""
        while self._idle:
            worker = self._idle.popleft()
            if worker.alive:
                self._busy[worker] = ticket
                return worker
            self.replaced += 1
            worker.reap()
        return None

    def _raise_start_error(self) -> None:
        if self._start_error is not None:
            error, self._start_error = self._start_error, None
            raise AgnesError(
                "internal_error", "A query worker could not be started.", "Run `agnes-mcp doctor`."
            ) from error

    def _fill(self) -> None:
        """Order what is missing; call with the lock held."""
        if self._closed:
            return
        if self._starter is None:
            self._starter = threading.Thread(target=self._start_on_order, name="process-starter", daemon=True)
            self._starter.start()
        for _ in range(self._missing):
            self._starting += 1
            self._orders.put(True)

    def _start_on_order(self) -> None:
        while not self._closed:
            try:
                wanted = self._orders.get(timeout=_LOOK_S)
            except queue.Empty:
                self._replace_ended()
                continue
            if not wanted:
                return
            try:
                worker = self._start()
            except OSError as error:
                self._arrived(None, error)
            else:
                self._arrived(worker, None)

    def _replace_ended(self) -> None:
        """A process that ended while idle, as one does after many queries, is replaced before somebody needs it."""
        with self._changed:
            ended = [worker for worker in self._idle if not worker.alive]
            self.replaced += len(ended)
            for worker in ended:
                self._idle.remove(worker)
                worker.reap()
            if ended:
                self._fill()

    def _arrived(self, worker: Worker | None, error: OSError | None) -> None:
        with self._changed:
            self._starting -= 1
            self._start_error = error
            if worker is not None:
                self.started += 1
                self._idle.append(worker)
                if self._closed:
                    self._idle.remove(worker)
                    worker.reap()
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
