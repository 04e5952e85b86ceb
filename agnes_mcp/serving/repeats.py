"""Log lines that repeat are counted instead of written: what a stranger can cause, he can cause a million times."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: So many lines of one place in the code are written in one period; warnings and worse only.
WRITTEN = 10
PERIOD_S = 60.0
_MAX_PLACES = 256


@dataclass
class _Period:
    began: float
    lines: int = 0


class Repeats(logging.Filter):
    """For a handler. A line is told from others by where in the code it comes from, not by its text, which may vary."""

    def __init__(self, written: int = WRITTEN, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._written, self._period_s, self._clock = written, period_s, clock
        self._lock = threading.Lock()
        self._places: OrderedDict[tuple[str, int, str, int], _Period] = OrderedDict()  # `_MAX_PLACES`, least used out

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place = (record.name, record.levelno, record.pathname, record.lineno)
        with self._lock:
            now, period = self._clock(), self._places.get(place)
            unwritten = 0
            if period is None or now - period.began >= self._period_s:
                unwritten = 0 if period is None else max(0, period.lines - self._written)
                period = self._places[place] = _Period(now)
            period.lines += 1
            self._places.move_to_end(place)
            while len(self._places) > _MAX_PLACES:
                self._places.popitem(last=False)
            if period.lines > self._written:
                return False
        if unwritten:
            _add_note(record, f"{unwritten:,} more lines like this one were not written")
        elif period.lines == self._written:
            _add_note(record, f"further lines like this one are counted for {self._period_s:g} s")
        return True


def _add_note(record: logging.LogRecord, note: str) -> None:
    record.msg, record.args = f"{record.getMessage()} ({note})", ()


@contextmanager
def logging_left_alone() -> Iterator[None]:
    """While a server of the SDK's is made. It gives the root logger a level and a handler of its own where that has
    none, and loads a library for it that draws, of 1.5 MB, where that has one as well; how this process logs has been
    said by then, or is for the program to say that the server is part of."""
    from mcp.server.mcpserver import server

    sdk: Any = server  # it does not offer what is replaced
    configure = sdk.configure_logging
    sdk.configure_logging = lambda level="INFO": None
    try:
        yield
    finally:
        sdk.configure_logging = configure
