"""What a principal may still spend today, and how many scans may run at once.

Process-local: each server process counts for itself. A reservation takes the slot and the bytes in one step, so that
calls in flight together cannot overshoot; settling replaces the reserved bytes with those that were billed. The day is
the UTC date on which the reservation was made, also for the bill.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import TracebackType

from agnes_mcp.access.grants import Grants
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import QuotaError
from agnes_mcp.models import QuotaLeft

#: How long a day's bill is remembered: a clock that jumps ahead and is set right again gives no second budget.
KEEP_DAYS = 32


@dataclass(frozen=True)
class Limits:
    """0 means none allowed."""

    max_concurrent: int
    max_daily_bytes: int


def limits_of(grants: Grants, scan: ScanSettings) -> Limits:
    """What a principal may spend: its own limits, and where it has none the instance's."""
    return Limits(
        max_concurrent=scan.max_concurrent_per_user if grants.max_concurrent is None else grants.max_concurrent,
        max_daily_bytes=scan.max_daily_bytes_per_user if grants.max_daily_bytes is None else grants.max_daily_bytes,
    )


def utc_now() -> datetime:
    return datetime.now(UTC)


class Quota:
    """Thread-safe; nothing in it blocks for longer than a few additions."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, int] = defaultdict(int)
        self._used: dict[tuple[str, date], int] = defaultdict(int)
        self._reserved: dict[tuple[str, date], int] = defaultdict(int)

    def reserve(self, principal: str, reserved_bytes: int, limits: Limits) -> Reservation:
        """Take a slot and the bytes, or raise `QuotaError` naming what is left. Free work needs only a slot."""
        with self._lock:
            now = self._clock()
            day = now.date()
            self._forget_before(day - timedelta(days=KEEP_DAYS))
            self._check_slot(principal, limits)
            self._check_bytes(principal, reserved_bytes, limits, now)
            self._running[principal] += 1
            self._reserved[principal, day] += reserved_bytes
        return Reservation(self, principal, day, reserved_bytes)

    def left(self, principal: str, limits: Limits) -> QuotaLeft:
        with self._lock:
            now = self._clock()
            used, reserved = self._used[principal, now.date()], self._reserved[principal, now.date()]
            return QuotaLeft(
                daily_bytes_used=used,
                daily_bytes_reserved=reserved,
                daily_bytes_limit=limits.max_daily_bytes,
                daily_bytes_left=max(0, limits.max_daily_bytes - used - reserved),
                running_scans=self._running[principal],
                max_concurrent_scans=limits.max_concurrent,
                resets_at=_next_midnight(now),
                seconds_to_reset=_seconds_to_midnight(now),
            )

    def restore(self, used_today: Mapping[str, int]) -> None:
        """Count what was billed earlier today, before this process started."""
        with self._lock:
            today = self._clock().date()
            for principal, bytes_billed in used_today.items():
                self._used[principal, today] += max(0, bytes_billed)

    def _check_slot(self, principal: str, limits: Limits) -> None:
        current = self._running[principal]
        if current >= limits.max_concurrent:
            raise _refuse("concurrent_scans", current, limits.max_concurrent, 0)

    def _check_bytes(self, principal: str, reserved_bytes: int, limits: Limits, now: datetime) -> None:
        current = self._used[principal, now.date()] + self._reserved[principal, now.date()]
        if reserved_bytes > 0 and current + reserved_bytes > limits.max_daily_bytes:
            raise _refuse("daily_bytes", current, limits.max_daily_bytes, _seconds_to_midnight(now), reserved_bytes)

    def _forget_before(self, day: date) -> None:
        for ledger in (self._used, self._reserved):
            for key in [key for key in ledger if key[1] < day]:
                if ledger is self._used or ledger[key] == 0:
                    del ledger[key]

    def _settle(self, reservation: Reservation, bytes_billed: int) -> None:
        key = (reservation.principal, reservation.day)
        with self._lock:
            self._running[reservation.principal] -= 1
            self._reserved[key] -= reservation.reserved_bytes
            self._used[key] += max(0, bytes_billed)


class Reservation:
    """A slot and bytes that are held. Leaving it as a context releases what was not settled, whatever was raised."""

    def __init__(self, quota: Quota, principal: str, day: date, reserved_bytes: int) -> None:
        self._quota = quota
        self.principal = principal
        self.day = day
        self.reserved_bytes = reserved_bytes
        self._settling = threading.Lock()
        self.settled = False

    def settle(self, bytes_billed: int) -> None:
        """Charge what was billed and free the slot. Only the first call counts; it never raises after a paid scan."""
        with self._settling:
            if self.settled:
                return
            self.settled = True
        self._quota._settle(self, bytes_billed)

    def release(self) -> None:
        """Free the slot and the bytes: nothing was billed."""
        self.settle(0)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _refuse(kind: str, current: int, limit: int, retry_after_s: int, reserved_bytes: int | None = None) -> QuotaError:
    if kind == "concurrent_scans":
        message = f"{current} scans of yours are running; {limit} may run at once."
        hint = "Wait for one of them to end, or cancel it." if limit else "This instance allows you no scans."
    else:
        left = max(0, limit - current)
        message = f"This call needs {reserved_bytes:,} bytes; {left:,} of your {limit:,} bytes for today are left."
        hint = (
            "Narrow the call: fewer columns, a partition filter, an aggregate; or query a snapshot you already have. "
            f"The budget renews in {retry_after_s} seconds, at 00:00 UTC."
        )
    details = {"kind": kind, "current": current, "limit": limit, "retry_after_seconds": retry_after_s}
    if reserved_bytes is not None:
        details["wanted"] = reserved_bytes
    return QuotaError("quota_exceeded", message, hint, details)


def _next_midnight(now: datetime) -> datetime:
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)


def _seconds_to_midnight(now: datetime) -> int:
    return max(1, int((_next_midnight(now) - now).total_seconds()))
