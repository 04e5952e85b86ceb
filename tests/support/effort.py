"""What a call takes of the processor, as a bound that neither another process nor a collection of garbage reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: A collection of all garbage takes the thread's time too, but not each time.
_TRIES = 3


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives or raises. Raises `AssertionError` where it takes more of this thread's time, each time."""
    for _ in range(_TRIES):
        started = time.thread_time()
        try:
            result = work()
        except Exception:  # what it raises in time is its answer
            if time.thread_time() - started < seconds:
                raise
        else:
            if time.thread_time() - started < seconds:
                return result
    raise AssertionError("too slow")
