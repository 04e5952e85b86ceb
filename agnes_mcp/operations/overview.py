"""What an operator looks at: who used how much of which budget, what runs, how recent calls ended, the disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.frame import Calls
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal, QuotaLeft
from agnes_mcp.operations.retention import Retention
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import DiskUsage
from agnes_mcp.spending.accounts import Accounts

logger = logging.getLogger(__name__)
#: Lines of the audit that are shown.
RECENT_CALLS = 40


@dataclass(frozen=True)
class Overview:
    """`budgets` by user (None: the books could not be asked), `running` calls, `recent` audit lines, newest first.
    `audit_bytes` is for who sees everybody. `retention`: what removes what nobody drops, in words."""

    whole: bool
    budgets: dict[str, QuotaLeft | None] = field(default_factory=dict)
    running: list[Call] = field(default_factory=list)
    recent: list[dict[str, Any]] = field(default_factory=list)
    disk: DiskUsage | None = None
    audit_bytes: int | None = None
    retention: list[str] = field(default_factory=list)


class Overviews:
    def __init__(
        self, calls: Calls, access: Access, accounts: Accounts, store: SnapshotStore, retention: Retention
    ) -> None:
        self._retention = retention
        self._calls = calls
        self._access = access
        self._accounts = accounts
        self._store = store

    async def seen_by(self, principal: Principal) -> Overview:
        """Administrators see everybody, users themselves; and on a machine of one's own all is one's own."""
        whole = principal.local or self._access.is_admin(principal.name)
        async with self._calls.open("overview", principal, noted=False) as call:
            names = self._access.names if whole and self._access.has_users else [principal.name]
            budgets = {name: await self._left(name, principal) for name in names}
            whose = None if whole else principal.name
            # before the lines of what has ended: a call that ends meanwhile is among those, and not in neither
            running = [one for one in self._calls.running() if whole or one.principal == principal]
            recent = await self._calls.run(call, lambda: self._calls.audit.recent(RECENT_CALLS, whose))
            disk = await self._calls.run(call, lambda: self._disk(whose))
            audit_bytes = await self._calls.run(call, lambda: self._calls.audit.size_bytes) if whole else None
        rules = [self._retention.of_snapshots, self._retention.of_audit if whole else None]
        ended = {line.get("request_id") for line in recent}
        running = [one for one in running if one.request_id not in ended]
        return Overview(whole, budgets, running, recent, disk, audit_bytes, [rule for rule in rules if rule])

    def cancel(self, principal: Principal, request_id: str) -> bool:
        """End a running call of this principal's own; False where there is none of that id."""
        for call in self._calls.running():
            if call.request_id == request_id and call.principal == principal:
                call.stop(cancelled())
                return True
        return False

    def _disk(self, principal: str | None) -> DiskUsage | None:
        """None where it cannot be read: the page is wanted most when something does not work."""
        try:
            return self._store.disk_usage(principal)
        except AgnesError as error:
            logger.warning("the snapshots cannot be measured: %s", error.message)
            return None

    async def _left(self, name: str, asker: Principal) -> QuotaLeft | None:
        try:
            return await self._accounts.left(asker if name == asker.name else Principal(name))
        except AgnesError:
            return None
