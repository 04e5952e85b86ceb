"""What was spent today and what is left, who asks, and how BigQuery is doing."""

from __future__ import annotations

from typing import Any

from agnes_mcp import __version__
from agnes_mcp.access.grants import Access
from agnes_mcp.answers.models import UsageAnswer
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.models import Principal, QuotaLeft, Table
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.books import utc_now
from agnes_mcp.spending.recovery import Recovery

#: What earlier jobs were billed is being asked: so long an answer waits for it.
_RECOVERY_WITHIN_S = 2.0


class Usage:
    def __init__(
        self,
        calls: Calls,
        access: Access,
        registry: Registry,
        sources: Sources,
        accounts: Accounts,
        recovery: Recovery,
        scan: ScanSettings,
    ) -> None:
        self._calls = calls
        self._access = access
        self._registry = registry
        self._sources = sources
        self._accounts = accounts
        self._recovery = recovery
        self._scan = scan

    async def today(self, principal: Principal) -> UsageAnswer:
        """Free; reads nothing but the books, and of BigQuery only what earlier jobs were billed."""
        async with self._calls.open("usage", principal):
            configured = "bigquery" in self._sources.kinds
            if configured:
                await self._calls.aside(self._learn_bills)
            health = self._sources.health("bigquery") if configured else {}
            readable = self._access.readable(principal, self._registry.by_id.values())
            return UsageAnswer(
                principal=principal.name,
                quota=await self._left(principal),
                quota_store=self._accounts.store,
                max_scan_bytes=self._scan.max_scan_bytes,
                confirm_above_bytes=self._scan.confirm_above_bytes,
                max_limit=self._scan.max_limit,
                request_timeout_seconds=self._scan.request_timeout_seconds,
                tables_visible=len(readable),
                bigquery={"configured": configured, **health},
                attached=self._attached(readable),
                server_time=utc_now(),
                version=__version__,
            )

    def _attached(self, readable: list[Table]) -> dict[str, Any]:
        """The state of each source behind another extension that one of these tables is read from."""
        aliases = sorted({table.attach[0] for table in readable if table.attach is not None})
        states = self._sources.health("attached") if aliases else {}
        return {alias: states.get(alias, {"state": "not used yet"}) for alias in aliases}

    async def _left(self, principal: Principal) -> QuotaLeft:
        """What is left; where some of it hangs on bills that are not known, once they have been asked about."""
        left = await self._accounts.left(principal)
        if not left.daily_bytes_assumed:
            return left
        await self._calls.aside(self._learn_bills)
        return await self._accounts.left(principal)

    def _learn_bills(self) -> None:
        self._recovery.begin()
        self._recovery.wait(_RECOVERY_WITHIN_S)
