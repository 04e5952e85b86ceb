"""What each caller has spent lately without a person's word, so that many small bills cannot pass as one large one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class Unasked:
    """One purchase that nobody was asked about: its reservation, and once it is known its bill."""

    since: float
    spent_bytes: int


class Window:
    """Of this process, and safe to share between threads. `seconds` 0: nothing is remembered."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: dict[str, deque[Unasked]] = {}

    def spent_bytes(self, principal: str) -> int:
        """Reserved or billed in the window that ends now."""
        with self._lock:
            return sum(entry.spent_bytes for entry in self._within(principal))

    def add(self, principal: str, reserved_bytes: int) -> Unasked:
        """Set `spent_bytes` of what it gives once the bill is known."""
        entry = Unasked(self._clock(), reserved_bytes)
        if self._seconds and reserved_bytes:
            with self._lock:
                self._spent.setdefault(principal, deque()).append(entry)
        return entry

    def clear(self, principal: str) -> None:
        """A person has said yes, knowing the sum."""
        with self._lock:
            self._spent.pop(principal, None)

    def _within(self, principal: str) -> list[Unasked]:
        entries = self._spent.get(principal)
        if entries is None:
            return []
        oldest = self._clock() - self._seconds
        while entries and (entries[0].since <= oldest or not entries[0].spent_bytes):
            entries.popleft()
        if not entries:
            del self._spent[principal]
            return []
        return list(entries)
