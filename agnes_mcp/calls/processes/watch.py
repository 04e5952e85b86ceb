"""Ends a question that overstays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agnes_mcp.calls.call import timed_out
from agnes_mcp.calls.processes.worker import Worker
from agnes_mcp.errors import AgnesError

#: How often a process is measured where the system does not bound its memory.
_POLL_S = 0.1


class Watch:
    """One question on one worker: kills the process at the deadline, or over its memory where the system does not.

    `reason` is why it did: the deadline, or what `out_of_memory` says. Once the question has been answered, `kill` does
    nothing: the process may then be another caller's.
    """

    def __init__(
        self,
        worker: Worker,
        deadline: float,
        limit_s: float,
        memory_bytes: int,
        out_of_memory: Callable[[], AgnesError],
    ) -> None:
        self._worker, self._deadline, self._limit_s = worker, deadline, limit_s
        self._memory_bytes, self._out_of_memory = memory_bytes, out_of_memory
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.reason: AgnesError | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        threading.Thread(target=self._watch, name="process-watch", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._over.set()

    def kill(self, reason: AgnesError | None = None) -> None:
        """End the process, if the question still runs. From any thread, perhaps several times."""
        with self._lock:
            if not self._over.is_set():
                self.reason = self.reason or reason
                self._worker.kill()

    def _watch(self) -> None:
        first_bytes = 0
        while not self._over.wait(self._pause_s()):
            if time.monotonic() >= self._deadline:
                self.kill(timed_out(round(self._limit_s, 1)))
                return
            if self._measured:
                now_bytes = _resident_bytes(self._worker.pid)
                first_bytes = first_bytes or now_bytes
                if now_bytes - first_bytes > self._memory_bytes:
                    self.kill(self._out_of_memory())
                    return

    @property
    def _measured(self) -> bool:
        return not self._worker.confined.get("memory_limited", False)

    def _pause_s(self) -> float:
        left_s = max(0.0, self._deadline - time.monotonic())
        return min(left_s, _POLL_S) if self._measured else left_s


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
