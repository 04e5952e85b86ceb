"""Work in processes that can be killed: a question, its deadline, its cancellation, and why it ended."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from agnes_mcp.calls.call import Call, timed_out
from agnes_mcp.calls.processes import frames
from agnes_mcp.calls.processes.pool import Pool
from agnes_mcp.calls.processes.watch import Watch
from agnes_mcp.calls.processes.worker import CHILD, Answer, Grant, UnreadyError, Worker
from agnes_mcp.errors import AgnesError

DEFAULT_MEMORY_BYTES = 1024**3
#: Kinds after which the process that answered may serve again: the engine itself was not in trouble.
_SOUND_KINDS = frozenset(
    {
        "query_refused",
        "query_failed",
        "table_not_found",
        "table_unavailable",
        "result_too_large",
        "schema_changed",
    }
)
#: A worker may have ended while nobody used it; then the next one is asked.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Question:
    """One question for the job of that name; `content` is JSON-ready.

    `out_of_memory` is what to say where the process took more than it may, `died` where it ended by itself otherwise.
    `begun` is called once a process is there to be asked.
    """

    job: str
    content: Mapping[str, Any]
    out_of_memory: Callable[[], AgnesError]
    died: Callable[[int], AgnesError]
    begun: Callable[[], None] = lambda: None


class Processes:
    """A pool of worker processes. Blocking; safe to use from many threads.

    `jobs` are what they can be asked, `kept` what they know of the environment (see `Worker`). `memory_bytes` is what
    one question may use beside the process itself, `threads` are its own. Nothing is started before `warm` or the first
    question.
    """

    def __init__(
        self,
        jobs: Mapping[str, str],
        *,
        size: int = 2,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        threads: int = 2,
        command: Sequence[str] = CHILD,
        kept: Sequence[str] = (),
    ) -> None:
        self.size, self.memory_bytes, self.threads = size, memory_bytes, threads
        self.pool = Pool(size, partial(Worker, memory_bytes, threads, jobs, command, kept))
        self._confined: dict[str, bool] = {}  # as the process that was asked last said of itself

    def warm(self) -> None:
        """Start the processes and return at once."""
        self.pool.warm()

    def close(self) -> None:
        """End every process, running or not. Whoever still waits gets `cancelled`."""
        self.pool.close()

    def state(self) -> dict[str, Any]:
        """Size, processes, and what confines them; `confined` is empty before the first one has answered."""
        return {
            "pool_size": self.pool.size,
            "processes": [worker.pid for worker in self.pool.workers() if worker.alive],
            "processes_started": self.pool.started,
            "memory_bytes": self.memory_bytes,
            "threads": self.threads,
            "confined": dict(self._confined),
        }

    @contextmanager
    def ask(self, question: Question, grant: Grant, call: Call, limit_s: float) -> Iterator[Answer]:
        """The answer, to be read inside the block. Stopping the call, the deadline, and leaving early kill the process.

        `limit_s` counts from now, waiting for a process included. Raises AgnesError, while entering and while the
        answer is read: what the job answers, `timeout`, `cancelled`, what `question` says of a process that ended, or
        `internal_error` (no process could be started).
        """
        deadline = time.monotonic() + limit_s
        for _ in range(_ATTEMPTS):
            worker = self.pool.acquire(call, deadline)
            question.begun()
            watch = Watch(worker, deadline, limit_s, self.memory_bytes, question.out_of_memory)
            reusable = False
            try:
                with watch.watching(), call.interruptible(watch.kill):
                    worker.wait_ready()
                    self._confined = worker.confined
                    asked = {"job": question.job, "cpu_s": self._cpu_s(deadline), **question.content}
                    yield worker.ask(asked, grant)
                reusable = True
                return
            except AgnesError as error:
                reusable = error.kind in _SOUND_KINDS or error is worker.refused
                raise
            except UnreadyError:
                self._raise_what_ended(call, watch)
            except frames.ClosedError:
                self._raise_what_ended(call, watch)
                raise _explain_death(worker.reap(), limit_s, question) from None
            finally:
                self.pool.release(worker, reusable)
        raise AgnesError(
            "internal_error", "No query worker could be started.", "Run `agnes-mcp doctor`; check free memory."
        )

    def _raise_what_ended(self, call: Call, watch: Watch) -> None:
        """Where it was we who ended the process: why."""
        call.check()
        self.pool.check_open()
        if watch.reason is not None:
            raise watch.reason from None

    def _cpu_s(self, deadline: float) -> int:
        """CPU time that a question can use by its deadline, in whole seconds: the limit behind the deadline."""
        return self.threads * (max(0, math.ceil(deadline - time.monotonic())) + 1)


def _explain_death(code: int, limit_s: float, question: Question) -> AgnesError:
    """The error for a worker that ended by itself."""
    if os.name == "posix" and code == -signal.SIGXCPU:
        return timed_out(round(limit_s, 1))
    if os.name == "posix" and code == -signal.SIGKILL:
        return question.out_of_memory()
    return question.died(code)
