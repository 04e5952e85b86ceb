"""Ends a wait that nobody else ends: for a message of a stream, past a moment on the monotonic clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """One thread that runs `bite` when a watched wait has lasted too long. Use it as a context manager."""

    def __init__(self, bite: Callable[[], None]) -> None:
        self._bite = bite
        self._changed = threading.Condition()
        self._due: float | None = None
        self._closed = False
        self.bitten = False
        self._thread = threading.Thread(target=self._watch, name="bigquery-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    @contextmanager
    def watching(self, timeout_s: float) -> Iterator[None]:
        """While inside, `bite` runs after `timeout_s`."""
        self.bitten = False
        self._set(time.monotonic() + timeout_s)
        try:
            yield
        finally:
            self._set(None)

    def _set(self, due: float | None) -> None:
        # Not notified: a later due moment is seen when the earlier one passes, and the first one below.
        with self._changed:
            sleeping = self._due is None
            self._due = due
            if sleeping and due is not None:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._due is not None and now >= self._due:
                    self._due = None
                    self.bitten = True
                    self._bite()
                left = None if self._due is None else self._due - now
                self._changed.wait(left)
