"""Prices for the question that a person is asked. Uncounted: no slot, no bytes, and no audit line unless it fails.

Some protocol versions ask over several requests. The price of the first is then kept for the others, so that the
question stays the same while a table grows; the call itself is priced anew, and must not cost more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from agnes_mcp.answers.fitting import compact
from agnes_mcp.catalog.cache import TtlCache
from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.operations.describe import Describing
from agnes_mcp.operations.fetch import Fetching
from agnes_mcp.operations.scan import Scanning
from agnes_mcp.spending.consent import Quote, quote

#: How long a person may think before the price is asked for again.
KEPT_FOR_S = 600.0
_MAX_KEPT = 1_000


class Quoting:
    """One method for each call that may bill; None: nobody needs to be asked."""

    def __init__(self, engine: Engine, scanning: Scanning, describing: Describing, fetching: Fetching) -> None:
        self._engine = engine
        self._scanning = scanning
        self._describing = describing
        self._fetching = fetching
        self._asked: TtlCache[Quote] = TtlCache(_MAX_KEPT, KEPT_FOR_S)

    async def ask(
        self, principal: Principal, call: list[object], make: Callable[[], Awaitable[Quote | None]], *, again: bool
    ) -> Quote | None:
        """What `make` quotes for that call; with `again`, a further round of the same call, what was quoted before."""
        key = compact([principal.name, *call])
        kept = self._asked.get(key) if again else None
        if kept is not None:
            return kept
        quoted = await make()
        if quoted is not None:
            self._asked.put(key, quoted)
        return quoted

    async def scan(self, principal: Principal, request: ScanRequest) -> Quote | None:
        async with self._admit("scan", principal, request.table_id) as admitted:
            if not await self._may_be_costly(admitted, request.table_id):
                return None
            return quote(self._engine, admitted, [await self._scanning.price(admitted, request)])

    async def fetch(self, principal: Principal, request: ScanRequest, name: str, force: bool) -> Quote | None:
        async with self._admit("fetch", principal, request.table_id) as admitted:
            if not await self._may_be_costly(admitted, request.table_id):
                return None
            priced = await self._scanning.price(admitted, request, one_more=False)
            if not force and await self._fetching.is_kept_already(admitted, priced, name):
                return None
            return quote(self._engine, admitted, [priced])

    async def refresh(self, principal: Principal, name: str, where: str) -> Quote | None:
        async with self._admit("snapshot_refresh", principal, None) as admitted:
            priced = await self._fetching.price_refresh(admitted, name, where)
            return quote(self._engine, admitted, [priced])

    async def describe(self, principal: Principal, table_id: str, n: int, profile: bool) -> Quote | None:
        async with self._admit("describe", principal, table_id) as admitted:
            if not await self._may_be_costly(admitted, table_id):
                return None
            statements = await self._describing.price(admitted, table_id, n, None, profile=profile)
            return quote(self._engine, admitted, statements)

    async def sample(self, principal: Principal, table_id: str, n: int, select: list[str] | None) -> Quote | None:
        async with self._admit("sample", principal, table_id) as admitted:
            if not await self._may_be_costly(admitted, table_id):
                return None
            statements = await self._describing.price(admitted, table_id, n, select, profile=False)
            return quote(self._engine, admitted, statements)

    def _admit(self, tool: str, principal: Principal, table_id: str | None) -> AbstractAsyncContextManager[Admitted]:
        return self._engine.admit(tool, principal, table_id=table_id, noted=False)

    async def _may_be_costly(self, admitted: Admitted, table_id: str) -> bool:
        """False where no statement over the table can pass the threshold: files, and small base tables."""
        table = await self._engine.find(admitted, table_id)
        if table.source_type != "bigquery":
            return False
        schema = await self._engine.schema(admitted, table)
        return schema.size_bytes is None or schema.size_bytes > self._engine.settings.api.scan.confirm_above_bytes
