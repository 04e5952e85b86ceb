"""How late the event loop runs: the time by which a short sleep is overslept. Blocking work on the loop shows here."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

EVERY_S = 0.05


async def watch_loop(record: Callable[[float], None]) -> None:
    """Report the lag, in seconds, twenty times a second until cancelled."""
    while True:
        before = time.monotonic()
        await anyio.sleep(EVERY_S)
        record(max(0.0, time.monotonic() - before - EVERY_S))
