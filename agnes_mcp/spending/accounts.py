"""Each principal's account: its limits, as settings and grants have them now, and its page in the books."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.config.settings import QuotaSettings, ScanSettings
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import Principal, QuotaLeft, QuotaStore
from agnes_mcp.spending.books import Agreed, Books, Budget, Limits, Reservation, nobody_asked
from agnes_mcp.spending.line import Line, wants_slot

logger = logging.getLogger(__name__)


class Accounts:
    """The books block: what is awaited here runs in a thread that full workers do not hold up, and to its end.

    `project` is the one that BigQuery bills; None: nothing is billed here.
    """

    def __init__(
        self, calls: Calls, access: Access, books: Books, scan: ScanSettings, quota: QuotaSettings, project: str | None
    ) -> None:
        self._calls = calls
        self._access = access
        self._books = books
        self._scan = scan
        self._quota = quota
        self._project = project
        self._lines: dict[str, Line] = {}  # of principals whose calls wait for a slot
        self._warned: set[tuple[str, str]] = set()  # principal and day

    @property
    def store(self) -> QuotaStore:
        return self._books.store

    def limits(self, principal: Principal) -> Limits:
        """What the principal may do now: its own limits, and where it has none the instance's; and what it shares."""
        grants, scan = self._access.grants(principal), self._scan
        project = [Budget("project", self._project, self._quota.max_daily_bytes_per_project)] if self._project else []
        return Limits(
            max_concurrent=scan.max_concurrent_per_user if grants.max_concurrent is None else grants.max_concurrent,
            max_daily_bytes=scan.max_daily_bytes_per_user if grants.max_daily_bytes is None else grants.max_daily_bytes,
            shared=(*(Budget("group", name, limit) for name, limit in grants.groups), *project),
            warn_at_percent=self._quota.warn_at_percent,
            unasked_window_s=scan.confirm_window_seconds,
        )

    async def reserve(self, call: Call, reserved_bytes: int, agreed: Agreed = nobody_asked) -> Reservation:
        """Waits for a slot, reserving nothing meanwhile, for up to `api.scan.queue_seconds`. Raises `quota_exceeded`,
        what `agreed` raises, and where the books cannot be asked `quota_unavailable` and the like."""
        name = call.principal.name

        async def attempt() -> Reservation:
            limits = self.limits(call.principal)
            return await self._calls.aside(
                lambda: self._books.reserve(name, reserved_bytes, limits, call.request_id, agreed)
            )

        if name not in self._lines:  # where others wait already, it is not for the newest to try before them
            try:
                return await attempt()
            except QuotaError as error:
                if not self._scan.queue_seconds or not error.details["limit"] or not wants_slot(error):
                    raise
        line = self._lines.setdefault(name, Line())
        try:
            return await line.wait(call, attempt, self._scan.queue_seconds)
        finally:
            if not line.length:
                self._lines.pop(name, None)

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot. On the event loop alone."""
        return sum(line.length for line in list(self._lines.values()))

    def tell_of_slot(self, principal: Principal) -> None:
        """A slot of the principal's is free: whoever waits for one looks at once."""
        if principal.name in self._lines:
            self._lines[principal.name].wake()

    async def unasked_bytes(self, principal: Principal) -> int:
        """What was reserved or billed lately without a person's word. Raises as `reserve` does."""
        limits = self.limits(principal)
        if not limits.unasked_window_s:
            return 0
        return await self._calls.aside(lambda: self._books.unasked(principal.name, limits))

    async def settle(self, reservation: Reservation, bytes_billed: int | None) -> None:
        """Charge what was billed; None: not known. Never raises."""
        await self._calls.aside(lambda: reservation.settle(bytes_billed))

    async def left(self, principal: Principal) -> QuotaLeft:
        """The principal's standing now. Raises as `reserve` does."""
        return await self._calls.aside(lambda: self.left_now(principal))

    async def left_after(self, principal: Principal) -> QuotaLeft | None:
        """The same for an answer that is paid for and leaves in any case."""
        try:
            return await self.left(principal)
        except AgnesError as error:
            logger.warning("what is left is not known: %s", error.kind)
            return None

    def left_now(self, principal: Principal) -> QuotaLeft:
        """The same for who is in a thread already. Blocking."""
        left = self._books.left(principal.name, self.limits(principal))
        mark = (principal.name, left.resets_at.date().isoformat())
        if left.warning and mark not in self._warned:
            self._warned = {kept for kept in self._warned if kept[1] == mark[1]} | {mark}
            logger.warning("the budget of %s: %s", principal.name, left.warning)
        return left

    def restore(self, billed_today: Callable[[], Mapping[str, int]]) -> None:
        """Charge what each principal was billed earlier today, where the books do not know it themselves. Blocking."""

        def by_scope() -> dict[str, int]:
            billed: dict[str, int] = {}
            for name, amount in billed_today().items():
                for budget in self.limits(Principal(name)).budgets(name):
                    billed[budget.scope] = billed.get(budget.scope, 0) + amount
            return billed

        self._books.restore(by_scope)
