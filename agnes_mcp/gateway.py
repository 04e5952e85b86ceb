"""One instance: its parts, made once per process; the operations that it lends; and their end, in order."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.audit import Audit
from agnes_mcp.calls.frame import Calls
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.catalog.index import FILE_NAME, Index
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import Settings
from agnes_mcp.operations.upkeep import Attaching, Restoring, Upkeep
from agnes_mcp.sources.kinds import Makers, Sources, source_makers
from agnes_mcp.sources.local import JOB as READS
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.workbench import JOB as QUERIES

if TYPE_CHECKING:
    from agnes_mcp.catalog.learning import Learning
    from agnes_mcp.extracts.directory import AgnesDirectory
    from agnes_mcp.extracts.published import Publisher
    from agnes_mcp.operations.catalog import Catalog
    from agnes_mcp.operations.chart import Charts
    from agnes_mcp.operations.describe import Descriptions
    from agnes_mcp.operations.fetch import Fetches
    from agnes_mcp.operations.manifest import Manifests
    from agnes_mcp.operations.overview import Overviews
    from agnes_mcp.operations.query import Queries
    from agnes_mcp.operations.retention import Retention
    from agnes_mcp.operations.scan import Scans
    from agnes_mcp.operations.snapshots import Snapshots
    from agnes_mcp.operations.usage import Usage
    from agnes_mcp.snapshots import SnapshotStore
    from agnes_mcp.spending.accounts import Accounts
    from agnes_mcp.spending.books import Books
    from agnes_mcp.spending.consent import Questions
    from agnes_mcp.spending.purchase import Purchases
    from agnes_mcp.spending.recovery import Recovery
    from agnes_mcp.workbench.workbench import Workbench

MakeSources = Callable[[Settings, Warehouse, Processes], Makers]
P = TypeVar("P")


def part(make: Callable[[Any], P]) -> cached_property[P]:
    """A part that is made, and its module loaded, when it is first asked for; once, whichever threads ask."""

    def once(gateway: Gateway) -> P:
        with gateway.making:
            made = gateway.__dict__
            if make.__name__ not in made:
                made[make.__name__] = make(gateway)
            return made[make.__name__]  # type: ignore[no-any-return]

    return cached_property(once)


class Gateway:
    """Use it as an async context, or call `aclose`. Whatever loads slowly or starts processes waits for its first use:
    a host waits for the handshake, which needs no operation yet.

    `makers` replaces how sources are made; `ahead` is done once a client has seen the tools. The demo brings its own.
    Raises `ConfigError` where the books need a driver that is missing.
    """

    def __init__(
        self, settings: Settings, makers: MakeSources = source_makers, ahead: Callable[[], None] | None = None
    ) -> None:
        api, engine, bigquery = settings.api, settings.engine, settings.data_source.bigquery
        self.settings = settings
        self.making = threading.RLock()
        self.access = Access(settings.access.users, settings.access.groups, bigquery.project if bigquery else "")
        self.registry = Registry.from_settings(settings)
        self.warehouse = Warehouse(memory_limit_bytes=engine.memory_limit_bytes, threads=engine.threads)
        self.processes = Processes(
            {**QUERIES, **READS},
            size=engine.query_workers,
            memory_bytes=engine.query_memory_bytes,
            threads=engine.threads,
        )
        self.sources = Sources(makers(settings, self.warehouse, self.processes))
        audit = Audit(settings.data_dir / "audit", settings.audit.rotate_at_bytes)
        self.calls = Calls(audit, engine.workers, self.processes.size, lambda: self._restoring.restore())
        self.directory = _directory(settings)
        self.tables = Tables(
            self.calls,
            self.access,
            self.registry,
            self.sources,
            api,
            lists_datasets=bool(bigquery and bigquery.datasets),
            directory=self.directory,
            index=Index(settings.data_dir / FILE_NAME),
        )
        wanted = bigquery is not None and bigquery.attach in ("auto", "eager")
        self.attaching = Attaching(self.calls, self.registry, self.sources, wanted=wanted)
        self.upkeep = Upkeep(
            self.calls, self.access, self.registry, self.tables, self.sources, self.attaching, api.scan, ahead
        )
        if settings.quota.store not in ("process", "file"):
            _ = self.books  # whose driver may be missing, which is said at the start

    @part
    def books(self) -> Books:
        from agnes_mcp.spending.stores import open_books

        return open_books(self.settings.quota.store, self.settings.data_dir / "books")

    @part
    def store(self) -> SnapshotStore:
        from agnes_mcp.snapshots import SnapshotStore

        return SnapshotStore.from_settings(self.settings)

    @part
    def workbench(self) -> Workbench:
        from agnes_mcp.workbench.workbench import Workbench

        return Workbench(self.processes, timeout_s=self.settings.engine.query_timeout_seconds)

    @part
    def _learning(self) -> Learning:
        from agnes_mcp.catalog.learning import Learning

        bigquery = self.settings.data_source.bigquery
        per_second = bigquery.discovery_requests_per_second if bigquery else 1.0
        return Learning(self.calls, self.tables, self.sources, self.settings.data_dir, per_second)

    @part
    def accounts(self) -> Accounts:
        from agnes_mcp.spending.accounts import Accounts

        bigquery = self.settings.data_source.bigquery
        billed_project = bigquery.billed_project if bigquery else None
        quota, scan = self.settings.quota, self.settings.api.scan
        return Accounts(self.calls, self.access, self.books, scan, quota, billed_project)

    @part
    def recovery(self) -> Recovery:
        from agnes_mcp.spending.recovery import Recovery

        return Recovery(self.calls, self.books, self.sources)

    @part
    def purchases(self) -> Purchases:
        from agnes_mcp.spending.purchase import Purchases
        from agnes_mcp.spending.statements import Statements

        scan = self.settings.api.scan
        statements = Statements(self.calls, self.tables, self.sources, self.store, scan)
        return Purchases(self.calls, self.tables, self.sources, self.accounts, scan, statements)

    @part
    def questions(self) -> Questions:
        from agnes_mcp.spending.consent import Questions

        return Questions()

    @part
    def catalog(self) -> Catalog:
        from agnes_mcp.operations.catalog import Catalog

        return Catalog(self.calls, self.tables, self.sources, self._learning, self.settings.api)

    @part
    def descriptions(self) -> Descriptions:
        from agnes_mcp.operations.describe import Descriptions

        api = self.settings.api
        return Descriptions(self.calls, self.tables, self.sources, self.purchases, self.catalog, api)

    @part
    def scans(self) -> Scans:
        from agnes_mcp.operations.scan import Scans

        return Scans(self.calls, self.tables, self.purchases, self.accounts, self.store, self.settings.api)

    @part
    def fetches(self) -> Fetches:
        from agnes_mcp.operations.fetch import Fetches

        api = self.settings.api
        return Fetches(
            self.calls, self.tables, self.purchases, self.accounts, self.store, self.scans, self.workbench, api
        )

    @part
    def retention(self) -> Retention:
        from agnes_mcp.operations.retention import Retention

        return Retention(self.calls.audit, self.store, self.settings.audit, self.settings.snapshots)

    @part
    def snapshots(self) -> Snapshots:
        from agnes_mcp.operations.snapshots import Snapshots

        published, chars = self.settings.data_dir / "published", self.settings.api.max_result_chars
        return Snapshots(self.calls, self.store, published, chars, self.retention.of_snapshots)

    @part
    def queries(self) -> Queries:
        from agnes_mcp.operations.query import Queries

        api = self.settings.api
        return Queries(self.calls, self.tables, self.access, self.sources, self.store, self.workbench, api)

    @part
    def published(self) -> Publisher:
        from agnes_mcp.extracts.published import Publisher

        return Publisher(self.settings.data_dir / "published", self.sources.of)

    @part
    def manifests(self) -> Manifests:
        from agnes_mcp.operations.manifest import Manifests

        return Manifests(self.calls, self.tables, self.registry, self.published, self.settings.api.scan)

    @part
    def charts(self) -> Charts:
        from agnes_mcp.operations.chart import Charts

        scan = self.settings.api.scan
        return Charts(self.calls, self.queries, self.purchases, self.tables, self.store, self.access, scan)

    @part
    def overviews(self) -> Overviews:
        from agnes_mcp.operations.overview import Overviews

        return Overviews(self.calls, self.access, self.accounts, self.store, self.retention)

    @part
    def usage(self) -> Usage:
        from agnes_mcp.operations.usage import Usage

        scan = self.settings.api.scan
        return Usage(self.calls, self.access, self.registry, self.sources, self.accounts, self.recovery, scan)

    @part
    def _restoring(self) -> Restoring:
        return Restoring(
            self.calls,
            self.registry,
            self.store,
            self.accounts,
            self.recovery,
            self.retention,
            self.settings.data_dir,
        )

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, within_s: float = math.inf) -> bool:
        """Give everything back. Calls that still run are the caller's to end: `calls.stop_all`.

        False: a thread outlasts it, so that the process ends only by `os._exit`.
        """
        with anyio.move_on_after(within_s, shield=True) as closing:
            await anyio.to_thread.run_sync(self._close, abandon_on_cancel=True)
        return not closing.cancelled_caught and self.calls.stuck == 0

    def _close(self) -> None:
        """Whoever asks before whom it asks: what begins calls, the calls, what they read from; last the books, in which
        each call is settled."""
        for name in ("_learning", "attaching", "_restoring", "calls", "sources", "processes", "warehouse", "books"):
            if name in self.__dict__:  # else nobody has asked for it
                self.__dict__[name].close()


def _directory(settings: Settings) -> AgnesDirectory | None:
    """What is served beside the configured tables; None, and nothing loaded, where that is nothing."""
    if settings.data_source.agnes is None:
        return None
    from agnes_mcp.extracts.directory import AgnesDirectory

    return AgnesDirectory.from_settings(settings)
