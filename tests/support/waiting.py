"""Waiting for what another thread, process or server does: for the event, with a bound that only a hang reaches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio

#: Far above what anything here takes on a machine that does other things.
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.01


def wait_until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Until the condition holds. Raises `AssertionError` where it never does."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"it never came, in {within_s:.0f} s"
        threading.Event().wait(_LOOK_EVERY_S)


async def until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """As `wait_until`, on an event loop."""
    with anyio.fail_after(within_s):
        while not condition():
            await anyio.sleep(_LOOK_EVERY_S)
