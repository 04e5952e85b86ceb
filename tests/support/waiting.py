"""Waiting for what another thread, process or server does: for the event, with a bound that only a hang reaches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

#: Far above what anything here takes on a machine that does other things.
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.01
#: More processor time than a process takes until it is ready for work.
_AT_WORK_S = 0.5
#: To look at every process of the machine takes milliseconds of a processor.
_LOOK_AT_CHILDREN_EVERY_S = 0.05


def wait_until(
    condition: Callable[[], object], within_s: float = PATIENCE_S, look_every_s: float = _LOOK_EVERY_S
) -> None:
    """Until the condition holds. Raises `AssertionError` where it never does."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"it never came, in {within_s:.0f} s"
        threading.Event().wait(look_every_s)


@contextmanager
def soon() -> Iterator[None]:
    """What is inside ends: not after the hour, or never, that it would take if nothing ended it.

    No bound on how fast: another process can stretch whatever is measured here. What must be ended by itself is made
    to last far longer than `PATIENCE_S`.
    """
    started = time.monotonic()
    yield
    taken_s = time.monotonic() - started
    assert taken_s < PATIENCE_S, f"nothing ended it: it took {taken_s:.0f} s"


async def until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """As `wait_until`, on an event loop."""
    with anyio.fail_after(within_s):
        while not condition():
            await anyio.sleep(_LOOK_EVERY_S)


def until_a_child_works(pid: int, least: int = 1) -> None:
    """Until so many of the processes that this one has started burn processor time for what they were asked."""
    import psutil

    def works() -> bool:
        try:
            children = psutil.Process(pid).children(recursive=True)
            return sum(sum(child.cpu_times()[:2]) > _AT_WORK_S for child in children) >= least
        except psutil.NoSuchProcess:  # a child that ended while it was looked at
            return False

    wait_until(works, look_every_s=_LOOK_AT_CHILDREN_EVERY_S)
