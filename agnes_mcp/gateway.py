"""The one door. Every tool and every command goes through here, on every transport.

Each method admits the call (grants checked now, deadline, audit), does the work in worker threads, and answers with a
model of `answers`. It raises `AgnesError` only; anything else is a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from agnes_mcp import __version__
from agnes_mcp.access.grants import visible_tables
from agnes_mcp.answers.models import (
    CatalogAnswer,
    DescribeAnswer,
    EstimateAnswer,
    FetchAnswer,
    QueryAnswer,
    SampleAnswer,
    ScanAnswer,
    SchemaAnswer,
    SnapshotDropAnswer,
    SnapshotEntry,
    SnapshotListAnswer,
    SnapshotRefreshAnswer,
    UsageAnswer,
)
from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import Settings
from agnes_mcp.engine import Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Principal, Progress, ScanRequest, SourceType
from agnes_mcp.operations.catalog import Discovery
from agnes_mcp.operations.describe import Describing
from agnes_mcp.operations.fetch import Fetching
from agnes_mcp.operations.names import Naming
from agnes_mcp.operations.query import Querying
from agnes_mcp.operations.quotes import Quoting
from agnes_mcp.operations.scan import Scanning
from agnes_mcp.snapshots.models import DiskUsage, SnapshotPrune
from agnes_mcp.spending.quota import utc_now

if TYPE_CHECKING:
    from agnes_mcp.sources import Source

OnProgress = Callable[[Progress], None]


class Gateway:
    """One per process. Use it as an async context, or call `aclose`."""

    def __init__(self, settings: Settings, make_bigquery: Callable[[Engine], Source] | None = None) -> None:
        self.engine = Engine(settings, make_bigquery)
        self._discovery = Discovery(self.engine)
        self._scanning = Scanning(self.engine)
        self._fetching = Fetching(self.engine, self._scanning)
        self._querying = Querying(self.engine)
        self._describing = Describing(self.engine, self._discovery, self._scanning)
        self.naming = Naming(self.engine)
        self.quoting = Quoting(self.engine, self._scanning, self._describing, self._fetching)

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self.engine.aclose()

    async def stop_calls(self, within_s: float) -> None:
        """End every call that runs: statements are interrupted, reservations settled."""
        await self.engine.stop_calls(within_s)

    @property
    def settings(self) -> Settings:
        return self.engine.settings

    async def catalog(
        self,
        principal: Principal,
        *,
        search: str = "",
        source_type: SourceType | None = None,
        limit: int = 50,
        cursor: str = "",
        refresh: bool = False,
    ) -> CatalogAnswer:
        async with self.engine.admit("catalog", principal) as admitted:
            return await self._discovery.catalog(
                admitted, search=search, source_type=source_type, limit=limit, cursor=cursor, refresh=refresh
            )

    async def schema(self, principal: Principal, table_id: str) -> SchemaAnswer:
        async with self.engine.admit("schema", principal, table_id=table_id) as admitted:
            return await self._discovery.schema(admitted, table_id)

    async def sample(
        self,
        principal: Principal,
        table_id: str,
        n: int = 5,
        select: list[str] | None = None,
        consent: Consent | None = None,
    ) -> SampleAnswer:
        async with self.engine.admit(
            "sample", principal, table_id=table_id, timeout_s=self._scan_timeout_s, consent=consent
        ) as admitted:
            return await self._describing.sample(admitted, table_id, n, select)

    async def free_sample(self, principal: Principal, table_id: str, n: int) -> SampleAnswer:
        """Rows of the table, or an empty answer whose note says why none are free."""
        async with self.engine.admit("sample", principal, table_id=table_id) as admitted:
            return await self._describing.free_sample(admitted, table_id, n)

    async def describe(
        self,
        principal: Principal,
        table_id: str,
        n: int = 5,
        profile: bool = False,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> DescribeAnswer:
        async with self.engine.admit(
            "describe",
            principal,
            table_id=table_id,
            timeout_s=self._scan_timeout_s,
            on_progress=on_progress,
            consent=consent,
        ) as admitted:
            return await self._describing.describe(admitted, table_id, n, profile)

    async def estimate(self, principal: Principal, request: ScanRequest) -> EstimateAnswer:
        async with self.engine.admit("estimate", principal, table_id=request.table_id) as admitted:
            return await self._scanning.estimate(admitted, request)

    async def scan(
        self,
        principal: Principal,
        request: ScanRequest,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> ScanAnswer:
        """`consent` is what a person allowed; None: there is nobody to ask, so the hard caps alone decide."""
        async with self.engine.admit(
            "scan",
            principal,
            table_id=request.table_id,
            timeout_s=self._scan_timeout_s,
            on_progress=on_progress,
            consent=consent,
        ) as admitted:
            return await self._scanning.scan(admitted, request)

    async def fetch(
        self,
        principal: Principal,
        request: ScanRequest,
        *,
        name: str = "",
        force: bool = False,
        estimate_only: bool = False,
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> FetchAnswer:
        async with self.engine.admit(
            "fetch",
            principal,
            table_id=request.table_id,
            timeout_s=self._scan_timeout_s,
            on_progress=on_progress,
            consent=consent,
        ) as admitted:
            return await self._fetching.fetch(admitted, request, name, force, estimate_only)

    async def query(self, principal: Principal, sql: str, limit: int = 1000) -> QueryAnswer:
        async with self.engine.admit("query", principal, timeout_s=self._scan_timeout_s) as admitted:
            admitted.line.limit = limit
            return await self._querying.query(admitted, sql, limit)

    async def snapshot_list(self, principal: Principal) -> SnapshotListAnswer:
        async with self.engine.admit("snapshot_list", principal) as admitted:
            return await self._fetching.list(admitted)

    async def snapshot(self, principal: Principal, name: str) -> SnapshotEntry:
        """One snapshot's metadata. Raises `snapshot_not_found`."""
        async with self.engine.admit("snapshot", principal) as admitted:
            return await self._fetching.get(admitted, name)

    async def snapshot_file(self, principal: Principal, name: str) -> Path | None:
        """Where a snapshot's Parquet file is, for who can read this machine's files anyway; None for anybody else."""
        if not principal.local:
            return None
        call = Call("snapshot_file", principal.name)
        return await self.engine.workers.run(call, lambda: self.engine.snapshots.verify(principal.name, name, call))

    async def snapshot_refresh(
        self,
        principal: Principal,
        name: str,
        where: str = "",
        on_progress: OnProgress | None = None,
        consent: Consent | None = None,
    ) -> SnapshotRefreshAnswer:
        async with self.engine.admit(
            "snapshot_refresh", principal, timeout_s=self._scan_timeout_s, on_progress=on_progress, consent=consent
        ) as admitted:
            return await self._fetching.refresh(admitted, name, where)

    async def snapshot_drop(self, principal: Principal, name: str) -> SnapshotDropAnswer:
        async with self.engine.admit("snapshot_drop", principal) as admitted:
            return await self._fetching.drop(admitted, name)

    async def snapshot_prune(
        self,
        principal: Principal,
        *,
        older_than: str | None = None,
        larger_than: str | None = None,
        expired: bool = False,
        dry_run: bool = False,
    ) -> SnapshotPrune:
        async with self.engine.admit("snapshot_prune", principal) as admitted:
            return await self._fetching.prune(admitted, older_than, larger_than, expired, dry_run)

    async def disk_info(self, principal: Principal) -> DiskUsage:
        async with self.engine.admit("disk_info", principal) as admitted:
            return await self._fetching.disk_usage(admitted)

    async def usage(self, principal: Principal) -> UsageAnswer:
        async with self.engine.admit("usage", principal):
            engine, scan = self.engine, self.settings.api.scan
            return UsageAnswer(
                principal=principal.name,
                quota=engine.quota.left(principal.name, engine.limits(principal)),
                max_scan_bytes=scan.max_scan_bytes,
                confirm_above_bytes=scan.confirm_above_bytes,
                max_limit=scan.max_limit,
                request_timeout_seconds=scan.request_timeout_seconds,
                tables_visible=len(visible_tables(engine.registry, engine.access, principal)),
                bigquery=engine.bigquery_health(),
                server_time=utc_now(),
                version=__version__,
            )

    async def record_refusal(
        self, tool: str, principal: Principal, error: AgnesError, table_id: str | None = None
    ) -> None:
        """One audit line for a call that was refused before it could be admitted."""
        with suppress(AgnesError):
            async with self.engine.admit(tool, principal, table_id=table_id):
                raise error

    @property
    def _scan_timeout_s(self) -> float:
        return self.settings.api.scan.request_timeout_seconds
