"""When something that could not be had is tried again."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

#: The wait after the first failure, doubled with each that follows.
FIRST_S = 60.0
LONGEST_S = 3600.0


class Backoff:
    """After a minute, then after twice as long each time, at most an hour; at once with another token than the one it
    failed with, and whenever somebody asks for it. Safe to share between threads.

    `reason` is why it failed last; "" where it did not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reason = ""
        self._failures = 0
        self._due = 0.0
        self._token = ""

    def failed(self, reason: str, token: str = "") -> bool:
        """Wait before the next try. True: this is the first failure since it last went well."""
        with self._lock:
            first = not self._failures
            self._failures += 1
            self._due = time.monotonic() + min(LONGEST_S, FIRST_S * 2 ** min(self._failures - 1, 10))
            self.reason, self._token = reason, token
            return first

    def went_well(self) -> None:
        with self._lock:
            self.reason, self._failures, self._token = "", 0, ""

    def hurry(self) -> None:
        """The next try is now, and the waits begin anew."""
        with self._lock:
            self._due, self._failures = 0.0, min(self._failures, 1)

    def due(self, token: str = "") -> bool:
        """Whether to try now. `token` is the one that would be used; "" where nobody knows."""
        with self._lock:
            fresh = bool(token and self._token and token != self._token)
            self._token = self._token or token
            return not self.reason or fresh or time.monotonic() >= self._due

    @property
    def left_s(self) -> float | None:
        """Seconds until the next try; None where none is needed."""
        return max(0.0, self._due - time.monotonic()) if self.reason else None

    @property
    def next_try(self) -> str:
        """The moment of the next try, in UTC; "" where none is needed. Another token and SIGHUP bring it forward."""
        left_s = self.left_s
        if left_s is None:
            return ""
        return f"{datetime.now(UTC) + timedelta(seconds=left_s):%Y-%m-%dT%H:%M:%SZ}"
