"""What may still be spent today, by whom, and how many scans may run at once: one interface, three places to keep it.

    reserve   a slot and the bytes are taken in one step, or refused: calls that race cannot overshoot
    intend    what is about to be billed is written down before BigQuery is asked to bill it
    settle    the reserved bytes give way to those that were billed

A reservation whose process is gone will be settled by nobody. One without an intent cost nothing and is given up; one
with an intent counts as billed in full until somebody has learnt the true figure (`unsettled`, `correct`).
The day is the UTC date on which the reservation was made, by the clock of the store, also for the bill.

Everything here blocks (a disk, perhaps a network): call it in a worker thread. Safe to share between threads.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import ClassVar, Literal

from agnes_mcp.errors import QuotaError
from agnes_mcp.models import BudgetLeft, JobReference, QuotaLeft, QuotaStore

logger = logging.getLogger(__name__)

#: How long a day's bill is remembered: a clock that jumps ahead and is set right again gives no second budget.
KEEP_DAYS = 32
WARN_AT_PERCENT = 80.0


@dataclass(frozen=True)
class Budget:
    """Bytes a day that a group's members, or all who are billed to one project, spend together.

    `max_daily_bytes` None: counted and not limited. 0: only what is free.
    """

    kind: Literal["user", "group", "project"]
    name: str
    max_daily_bytes: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class Limits:
    """What one principal may do. 0 means none allowed; `shared` are the budgets beside the principal's own."""

    max_concurrent: int
    max_daily_bytes: int
    shared: tuple[Budget, ...] = ()
    warn_at_percent: float = WARN_AT_PERCENT
    unasked_window_s: float = 0.0  # how long what was spent without a person's word is remembered

    def budgets(self, principal: str) -> list[Budget]:
        """Every budget that a call of the principal is charged to, its own first; no scope twice."""
        own = Budget("user", principal, self.max_daily_bytes)
        return list({budget.scope: budget for budget in (own, *self.shared)}.values())


@dataclass(frozen=True)
class Spent:
    """Of one budget today, in bytes: billed, of these not yet known for certain, and reserved by what runs."""

    used: int = 0
    assumed: int = 0
    reserved: int = 0

    @property
    def taken(self) -> int:
        return self.used + self.reserved


@dataclass(frozen=True)
class Unsettled:
    """Bytes that count as billed because a process ended, or BigQuery was silent, before the true figure was known."""

    lease: str
    principal: str
    request_id: str
    reserved_bytes: int
    age_s: float
    job: JobReference | None = None


#: Told what the principal has reserved or been billed lately without a person's word, in bytes: whether a person has
#: agreed to this reservation, knowing of them. Raises where one has to be asked first.
Agreed = Callable[[int], bool]


def nobody_asked(unasked_bytes: int) -> bool:
    """Of clients that cannot ask anybody: the hard caps alone decide."""
    return False


class Books(ABC):
    """One store of reservations and bills. Every method may raise `quota_unavailable`, `disk_full`, `storage_failed`:
    a store that cannot be asked allows nothing."""

    store: ClassVar[QuotaStore]

    @abstractmethod
    def reserve(
        self,
        principal: str,
        reserved_bytes: int,
        limits: Limits,
        request_id: str = "",
        agreed: Agreed = nobody_asked,
    ) -> Reservation:
        """Take a slot and the bytes, or raise `QuotaError` naming what is left. Free work needs only a slot.

        In the same step what a person has agreed to sets what was spent unasked to zero, and anything else adds to it.
        Raises what `agreed` raises, before anything else is looked at.
        """

    @abstractmethod
    def unasked(self, principal: str, limits: Limits) -> int:
        """Bytes reserved or billed without a person's word, in the window that ends now; of all who share the books."""

    @abstractmethod
    def left(self, principal: str, limits: Limits) -> QuotaLeft:
        """The principal's standing now."""

    @abstractmethod
    def restore(self, billed_today: Callable[[], Mapping[str, int]]) -> None:
        """Count what was billed earlier today, by scope, where these books do not know it themselves."""

    @abstractmethod
    def unsettled(self) -> list[Unsettled]:
        """Take over what processes that are gone have left; then everything whose true figure is not known."""

    @abstractmethod
    def correct(self, unsettled: Unsettled, bytes_billed: int) -> bool:
        """The true figure. False: somebody else was faster, and nothing was changed."""

    @abstractmethod
    def close(self) -> None:
        """Give up what was not settled: what has an intent counts as billed until its figure is known."""

    @abstractmethod
    def intend(self, lease: str, job: JobReference | None) -> None:
        """Write down that the reservation is about to be spent. Raises `quota_unavailable` where it is not held."""

    @abstractmethod
    def settle(self, lease: str, bytes_billed: int | None) -> None:
        """Charge the lease and free its slot. Never raises: what cannot be written now is written later."""


@dataclass(eq=False)
class Reservation:
    """A slot and bytes that are held. Leaving it as a context releases what was not settled, whatever was raised."""

    books: Books
    lease: str
    principal: str
    day: str  # the UTC date to which it is charged, as YYYY-MM-DD
    reserved_bytes: int
    job: JobReference | None = None
    intended: bool = False
    settled: bool = False
    _assumed: bool = False
    _settling: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def intend(self, job: JobReference | None = None) -> None:
        """To be called before anything that bills is sent: from here on a crash charges the reserved bytes.

        `job` is what can be asked for the true figure. Raises what `Books.intend` raises; then nothing may be sent.
        """
        self.books.intend(self.lease, job)
        self.job, self.intended = job, True

    def settle(self, bytes_billed: int | None) -> None:
        """Charge what was billed and free the slot; None: not known, so the reserved bytes are charged and marked.

        Only the first call counts, and the first that knows after one that did not. It never raises after a paid scan.
        """
        with self._settling:
            if self.settled and not (self._assumed and bytes_billed is not None):
                return
            self.settled, self._assumed = True, bytes_billed is None
        self.books.settle(self.lease, bytes_billed)

    def release(self) -> None:
        """Free the slot and the bytes of what was not settled: nothing was billed."""
        with self._settling:
            if self.settled:
                return
        self.settle(0)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def utc_now() -> datetime:
    return datetime.now(UTC)


def check(budgets: Sequence[Budget], spent: Mapping[str, Spent], wanted: int, now: datetime) -> None:
    """Raise `QuotaError` for the first budget that `wanted` bytes do not fit into."""
    for budget in budgets:
        current, limit = spent.get(budget.scope, Spent()).taken, budget.max_daily_bytes
        if wanted > 0 and limit is not None and current + wanted > limit:
            raise refuse_bytes(budget, current, limit, wanted, seconds_to_midnight(now))


def refuse_slot(current: int, limit: int) -> QuotaError:
    return QuotaError(
        "quota_exceeded",
        f"{current} scans of yours are running; {limit} may run at once.",
        "Wait for one of them to end, or cancel it." if limit else "This instance allows you no scans.",
        {"kind": "concurrent_scans", "current": current, "limit": limit, "retry_after_seconds": 0},
    )


def refuse_bytes(budget: Budget, current: int, limit: int, wanted: int, retry_after_s: int) -> QuotaError:
    own = budget.kind == "user"
    whose = "your" if own else f"the {limit:,} bytes that the {budget.kind} {budget.name} shares"
    left = f"{max(0, limit - current):,} of {f'your {limit:,} bytes' if own else whose} for today are left"
    return QuotaError(
        "quota_exceeded",
        f"This call needs {wanted:,} bytes; {left}.",
        "Narrow the call: fewer columns, a partition filter, an aggregate; or query a snapshot you already have. "
        f"The budget renews in {retry_after_s} seconds, at 00:00 UTC.",
        {
            "kind": "daily_bytes" if own else f"{budget.kind}_daily_bytes",
            "current": current,
            "limit": limit,
            "retry_after_seconds": retry_after_s,
            "wanted": wanted,
        },
    )


def standing(principal: str, limits: Limits, spent: Mapping[str, Spent], running: int, now: datetime) -> QuotaLeft:
    """What the principal is told. What is left is the least that any budget leaves; others' names stay out of it."""
    own, *shared = limits.budgets(principal)
    mine = spent.get(own.scope, Spent())
    told = [said for budget in shared if (said := _told(budget, spent.get(budget.scope, Spent()))) is not None]
    left = max(0, limits.max_daily_bytes - mine.taken)
    warnings = [_warn("your", mine, limits.max_daily_bytes, limits.warn_at_percent)]
    warnings += [
        _warn(f"the {b.kind} {b.name}'s", spent.get(b.scope, Spent()), b.max_daily_bytes, limits.warn_at_percent)
        for b in shared
    ]
    return QuotaLeft(
        daily_bytes_used=mine.used,
        daily_bytes_assumed=mine.assumed,
        daily_bytes_reserved=mine.reserved,
        daily_bytes_limit=limits.max_daily_bytes,
        daily_bytes_left=min([left, *(budget.bytes_left for budget in told)]),
        shared=told,
        warning=" ".join(said for said in warnings if said) or None,
        running_scans=running,
        max_concurrent_scans=limits.max_concurrent,
        resets_at=next_midnight(now),
        seconds_to_reset=seconds_to_midnight(now),
    )


def _told(budget: Budget, spent: Spent) -> BudgetLeft | None:
    limit = budget.max_daily_bytes
    if limit is None or budget.kind == "user":
        return None
    return BudgetLeft(kind=budget.kind, name=budget.name, bytes_limit=limit, bytes_left=max(0, limit - spent.taken))


def _warn(whose: str, spent: Spent, limit: int | None, at_percent: float) -> str:
    """One sentence once a budget is nearly used up; a budget of nothing has nothing to warn of."""
    if not limit or spent.taken * 100 < limit * at_percent:
        return ""
    percent = spent.taken * 100 // limit
    return f"{percent}% of {whose} bytes for today are taken: {max(0, limit - spent.taken):,} of {limit:,} are left."


def next_midnight(now: datetime) -> datetime:
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)


def seconds_to_midnight(now: datetime) -> int:
    return max(1, int((next_midnight(now) - now).total_seconds()))
