"""How many calls a principal may make in a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class CallRate:
    """A token bucket per principal: a minute's calls at once at most, refilled evenly. `per_minute` None: no limit.

    Whoever runs the process is not limited. Used on the event loop only.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}  # of who has proved who they are: nobody else can make one

    def take(self, principal: Principal) -> None:
        """Count one call. Raises `rate_limited`."""
        if self._per_minute is None or principal.local:
            return
        bucket = self._fill(principal.name, self._per_minute)
        if bucket.tokens < 1:  # a refused call takes nothing: who waits as long as was said gets through
            raise _refuse(self._per_minute, bucket.tokens)
        bucket.tokens -= 1

    def _fill(self, name: str, per_minute: int) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(float(per_minute), now))
        bucket.tokens = min(per_minute, bucket.tokens + (now - bucket.filled_at) * per_minute / 60)
        bucket.filled_at = now
        return bucket


def _refuse(per_minute: int, tokens: float) -> AgnesError:
    wait_s = math.ceil((1 - tokens) * 60 / per_minute) if per_minute else None
    return AgnesError(
        "rate_limited",
        f"More than {per_minute:,} calls in a minute.",
        f"Wait {wait_s} seconds, then call again." if wait_s else "This instance allows no calls.",
        {"limit": per_minute, "retry_after_seconds": wait_s},
    )
