"""One instance: its parts, built once per process; the operations that it lends; and their end, in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType

import anyio
import anyio.to_thread

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.audit import Audit
from agnes_mcp.calls.frame import Calls
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.catalog.index import FILE_NAME, Index
from agnes_mcp.catalog.learning import Learning
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import EngineSettings, Settings
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
from agnes_mcp.operations.upkeep import Attaching, Restoring, Upkeep
from agnes_mcp.operations.usage import Usage
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.sources.kinds import Makers, Sources, source_makers
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.consent import Questions
from agnes_mcp.spending.purchase import Purchases
from agnes_mcp.spending.recovery import Recovery
from agnes_mcp.spending.statements import Statements
from agnes_mcp.spending.stores import open_books
from agnes_mcp.workbench.workbench import JOB as QUERIES
from agnes_mcp.workbench.workbench import Workbench

MakeSources = Callable[[Settings, Warehouse, Processes], Makers]


class Gateway:
    """Use it as an async context, or call `aclose`. Whatever loads slowly or starts processes waits for its first use.

    `makers` replaces how sources are made; `ahead` is done once a client has seen the tools. The demo brings its own.
    """

    def __init__(
        self, settings: Settings, makers: MakeSources = source_makers, ahead: Callable[[], None] | None = None
    ) -> None:
        api, engine, bigquery = settings.api, settings.engine, settings.data_source.bigquery
        self.settings = settings
        self.access = Access(settings.access.users, settings.access.groups, bigquery.project if bigquery else "")
        self.registry = Registry.from_settings(settings)
        self.books = open_books(settings.quota.store, settings.data_dir / "books")
        self.store = SnapshotStore.from_settings(settings)
        self.warehouse = Warehouse(memory_limit_bytes=engine.memory_limit_bytes, threads=engine.threads)
        self.processes = _open_processes(engine)
        self.workbench = Workbench(self.processes, timeout_s=engine.query_timeout_seconds)
        self.sources = Sources(makers(settings, self.warehouse, self.processes))
        audit = Audit(settings.data_dir / "audit", settings.audit.rotate_at_bytes)
        self.calls = Calls(audit, engine.workers, self.processes.size, lambda: self._restoring.restore())
        self.directory = AgnesDirectory.from_settings(settings)
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
        per_second = bigquery.discovery_requests_per_second if bigquery else 1.0
        self._learning = Learning(self.calls, self.tables, self.sources, settings.data_dir, per_second)
        billed_project = bigquery.billed_project if bigquery else None
        self.accounts = Accounts(self.calls, self.access, self.books, api.scan, settings.quota, billed_project)
        self.recovery = Recovery(self.calls, self.books, self.sources)
        statements = Statements(self.calls, self.tables, self.sources, self.store, api.scan)
        self.purchases = Purchases(self.calls, self.tables, self.sources, self.accounts, api.scan, statements)

        self.questions = Questions()
        self.catalog = Catalog(self.calls, self.tables, self.sources, self._learning, api)
        self.descriptions = Descriptions(self.calls, self.tables, self.sources, self.purchases, self.catalog, api)
        self.scans = Scans(self.calls, self.tables, self.purchases, self.accounts, self.store, api)
        self.fetches = Fetches(
            self.calls, self.tables, self.purchases, self.accounts, self.store, self.scans, self.workbench, api
        )
        self.retention = Retention(audit, self.store, settings.audit, settings.snapshots)
        published = settings.data_dir / "published"
        self.snapshots = Snapshots(self.calls, self.store, published, api.max_result_chars, self.retention.of_snapshots)
        self.queries = Queries(self.calls, self.tables, self.access, self.sources, self.store, self.workbench, api)
        self.published = Publisher(published, self.sources.of)
        self.manifests = Manifests(self.calls, self.tables, self.registry, self.published, api.scan)
        self.charts = Charts(self.calls, self.queries, self.purchases, self.tables, self.store, self.access, api.scan)
        self.overviews = Overviews(self.calls, self.access, self.accounts, self.store, self.retention)
        self.usage = Usage(self.calls, self.access, self.registry, self.sources, self.accounts, self.recovery, api.scan)
        self._restoring = Restoring(
            self.calls,
            self.registry,
            self.store,
            self.accounts,
            self.recovery,
            self.retention,
            settings.data_dir,
        )
        wanted = bigquery is not None and bigquery.attach in ("auto", "eager")
        self.attaching = Attaching(self.calls, self.registry, self.sources, wanted=wanted)
        self.upkeep = Upkeep(
            self.calls, self.access, self.registry, self.tables, self.sources, self.attaching, api.scan, ahead
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
        self._learning.close()
        self.attaching.close()
        self._restoring.close()
        self.calls.close()
        self.sources.close()
        self.processes.close()
        self.warehouse.close()
        self.books.close()


def _open_processes(engine: EngineSettings) -> Processes:
    """Where runs what cannot be bounded on the shared connection; started with the first use, or when warmed."""
    from agnes_mcp.sources.local.source import JOB as READS

    return Processes(
        {**QUERIES, **READS}, size=engine.query_workers, memory_bytes=engine.query_memory_bytes, threads=engine.threads
    )
