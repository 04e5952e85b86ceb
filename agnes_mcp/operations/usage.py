"""What was spent today and what is left, who asks, and how BigQuery is doing."""

from __future__ import annotations

from agnes_mcp import __version__
from agnes_mcp.access.grants import Access
from agnes_mcp.answers.models import UsageAnswer
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.models import Principal
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.quota import Quota, limits_of, utc_now


class Usage:
    def __init__(
        self, calls: Calls, access: Access, tables: Tables, sources: Sources, quota: Quota, scan: ScanSettings
    ) -> None:
        self._calls = calls
        self._access = access
        self._tables = tables
        self._sources = sources
        self._quota = quota
        self._scan = scan

    async def today(self, principal: Principal) -> UsageAnswer:
        """Free; reads nothing but what this process knows."""
        async with self._calls.open("usage", principal):
            configured = "bigquery" in self._sources.kinds
            health = self._sources.health("bigquery") if configured else {}
            return UsageAnswer(
                principal=principal.name,
                quota=self._quota.left(principal.name, limits_of(self._access.grants(principal), self._scan)),
                max_scan_bytes=self._scan.max_scan_bytes,
                confirm_above_bytes=self._scan.confirm_above_bytes,
                max_limit=self._scan.max_limit,
                request_timeout_seconds=self._scan.request_timeout_seconds,
                tables_visible=len(self._tables.visible(principal)),
                bigquery={"configured": configured, **health},
                server_time=utc_now(),
                version=__version__,
            )
