"""What was found out of a table's files in vain, which no call has to find out again while they stay as they are.

A call's deadline ends only that call's work: what takes longer than a call may last would be begun anew by each, and
cost whoever shares this machine as much every time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import NamedTuple

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.files import OF_FILES

#: Work that was in vain is not begun again for so many times what it took: a machine may have been busy just then.
_TIMES = 12
#: A call that may last so many times longer than the one that was in vain is let try.
_LONGER = 1.5
#: What took longer to find out is kept; the files may not be what is wrong with what did not.
_LONG_S = 5.0


class _Refusal(NamedTuple):
    state: object
    error: AgnesError
    until: float
    unless_s: float

    def holds(self, state: object, call: Call) -> bool:
        left_s = math.inf if call.remaining_s is None else call.remaining_s
        return self.state == state and time.monotonic() < self.until and left_s <= self.unless_s


class Attempt:
    """One call's work on a table's files, which has begun. `end` is said where it has come to something, or waits for
    others before it does: then `begin` once it goes on."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.begin()

    def begin(self) -> None:
        self.since = time.monotonic()

    def end(self) -> None:
        self.since = None


class Refusals:
    """Thread-safe. One a table at most, true of one state of its files."""

    def __init__(self) -> None:
        self._kept: dict[str, _Refusal] = {}  # by id; true of the files of that state alone

    @contextmanager
    def attempt(self, table_id: str, state: object, call: Call, *, for_good: bool = False) -> Iterator[Attempt]:
        """Around work on files of that state. Raises `table_unavailable`, or what was found, where the like has been in
        vain; keeps that the call's deadline ended it, and what it raised of the files: where it took long or, however
        long it took, `for_good`."""
        refusal = self._kept.get(table_id)
        if refusal is not None and refusal.holds(state, call):
            raise copy(refusal.error)  # each call writes its own name into what it raises
        attempt = Attempt()
        try:
            yield attempt
        except AgnesError as error:
            if attempt.since is not None:
                self._keep(table_id, state, error, time.monotonic() - attempt.since, for_good)
            raise

    def _keep(self, table_id: str, state: object, error: AgnesError, took_s: float, for_good: bool) -> None:
        again_at = time.monotonic() + _TIMES * took_s
        if error.kind == "timeout":
            self._kept[table_id] = _Refusal(state, _overdue(table_id, took_s), again_at, _LONGER * took_s)
        elif error.kind in OF_FILES and (for_good or took_s > _LONG_S):
            self._kept[table_id] = _Refusal(state, copy(error), math.inf if for_good else again_at, math.inf)


def _overdue(table_id: str, took_s: float) -> AgnesError:
    minutes = math.ceil(_TIMES * took_s / 60)
    return AgnesError(
        "table_unavailable",
        f"The table {table_id!r} cannot be read: to make its file ready took longer than the {took_s:.3g} seconds that "
        "a call had for it.",
        "Whoever keeps this instance can write it as Parquet, or raise api.scan.request_timeout_seconds. It is tried "
        f"again once the file changes, or in about {minutes} min.; by a call that may take longer (`scan` may than "
        "`schema`) at once. Other tables are not affected.",
    )
