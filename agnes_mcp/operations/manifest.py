"""What others may mirror: the local tables as files with their hashes, and the remote ones by name."""

from __future__ import annotations

import logging

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.published import Manifest, ManifestEntry, PublishedFile, Publisher
from agnes_mcp.models import Principal, Table
from agnes_mcp.spending.books import utc_now

logger = logging.getLogger(__name__)


class Manifests:
    def __init__(
        self, calls: Calls, tables: Tables, registry: Registry, publisher: Publisher, scan: ScanSettings
    ) -> None:
        self._calls = calls
        self._tables = tables
        self._registry = registry
        self._publisher = publisher
        self._scan = scan

    async def manifest(self, principal: Principal) -> Manifest:
        """Every table that the principal may read. A table that cannot be read just now has no hash."""
        async with self._calls.open("manifest", principal, timeout_s=self._scan.request_timeout_seconds) as call:
            await self._tables.look(call)
            tables = self._tables.visible(principal)
            return await self._calls.run(call, lambda: self._describe(call, tables))

    async def open_table(self, principal: Principal, table_id: str) -> tuple[int, PublishedFile]:
        """A descriptor of the table's Parquet file, for the caller to close, and what is known of it.

        Raises `table_not_found`, also for a remote table: its rows are not here; `table_unavailable`.
        """
        timeout_s = self._scan.request_timeout_seconds
        async with self._calls.open("table_file", principal, table_id=table_id, timeout_s=timeout_s) as call:
            table = await self._tables.find(call, table_id)
            if table.query_mode == "remote":
                raise AgnesError(
                    "table_not_found",
                    f"The rows of {table_id!r} are not on this server, so there is no file of them.",
                    "Fetch what you need of it with the tools; a mirror passes it over.",
                    {"table_id": table_id},
                )
            return await self._calls.run(call, lambda: self._publisher.open(table, call))

    def _describe(self, call: Call, tables: list[Table]) -> Manifest:
        self._publisher.sweep(self._registry.by_id)
        manifest = Manifest(server_time=utc_now())
        for done, table in enumerate(tables):
            manifest.tables[table.id] = self._entry(call, table)
            call.report(done + 1, len(tables), table.id)
        return manifest

    def _entry(self, call: Call, table: Table) -> ManifestEntry:
        plain = ManifestEntry(query_mode=table.query_mode, source_type=table.source_type)
        if table.query_mode == "remote":
            return plain
        try:
            return self._publisher.publish(table, call).entry(table)
        except AgnesError as error:
            call.check()
            logger.warning("%s is in the manifest without a hash: %s", table.id, error.kind)
            return plain
