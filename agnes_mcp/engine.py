"""The parts of one instance, and the frame around every call: who, how long, how it ended, one audit line.

Made once per process; `aclose` ends what still runs and gives everything back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from agnes_mcp.access.grants import Access, find_table
from agnes_mcp.calls.audit import Audit, AuditLine, Status
from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.workers import INTERRUPT_EVERY_S, Workers
from agnes_mcp.catalog.cache import TtlCache
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import Consent, Principal, Progress, Relation, Table, TableSchema
from agnes_mcp.parts import open_bigquery, open_snapshots, open_warehouse, open_workbench
from agnes_mcp.spending.quota import Limits, Quota, utc_now

if TYPE_CHECKING:
    from agnes_mcp.answers.models import SampleAnswer
    from agnes_mcp.models import Consent
    from agnes_mcp.sources import Source
    from agnes_mcp.workbench import Workbench

MAX_SCHEMAS = 512
MAX_SAMPLES = 512
logger = logging.getLogger(__name__)

# Calls that spend nothing answer soon or not at all; a scan has its own limit.
FREE_CALL_TIMEOUT_S = 60.0


@dataclass(eq=False)
class Admitted:
    """A call that is under way, and what the audit will say of it."""

    call: Call
    principal: Principal
    line: AuditLine
    consent: Consent | None = None  # what a person allowed; None: there is nobody to ask
    ended: anyio.Event = field(default_factory=anyio.Event)


class Engine:
    """`make_bigquery` replaces how the BigQuery source is made; the demo brings its own."""

    def __init__(self, settings: Settings, make_bigquery: Callable[[Engine], Source] | None = None) -> None:
        self.settings = settings
        self._make_bigquery = make_bigquery or open_bigquery
        self._making = threading.Lock()
        self.registry = Registry.from_settings(settings)
        self.access = Access(settings.access.users)
        self.quota = Quota()
        self.audit = Audit(settings.data_dir / "audit")
        self.workers = Workers(settings.engine.workers)
        self._bookkeeping = Workers(1)
        # queries wait among themselves: a full pool of theirs holds up no catalog and no scan
        self.query_turns = Workers(settings.engine.query_workers)
        self.warehouse = open_warehouse(settings.engine)
        self.schemas: TtlCache[TableSchema] = TtlCache(MAX_SCHEMAS, settings.api.schema_cache_ttl_seconds)
        self.samples: TtlCache[SampleAnswer] = TtlCache(MAX_SAMPLES, settings.api.sample_cache_ttl_seconds)
        self.snapshots = open_snapshots(settings)
        self._workbench: Workbench | None = None
        self.listed = False  # whether the datasets have been listed
        self._closing: list[Callable[[], object]] = []
        self._sources: dict[str, Source] = {}
        self._restored = anyio.Lock()
        self._restored_state = False
        self._running: set[Admitted] = set()
        self.observers: list[Callable[[AuditLine], None]] = []  # told of every call once it has ended

    def source(self, table: Table) -> Source:
        """The source that serves this table. Blocking: made on first use, because its libraries load slowly."""
        kind = table.source_type
        with self._making:
            if kind not in self._sources:
                self._sources[kind] = self._make_source(kind)
            return self._sources[kind]

    @property
    def workbench(self) -> Workbench:
        """Where agent-written SQL runs; its processes start on first use."""
        with self._making:
            if self._workbench is None:
                self._workbench = open_workbench(self.settings.engine)
            return self._workbench

    def relation(self, table: Table) -> Relation:
        """How a statement names this table."""

        bigquery = self.settings.data_source.bigquery
        if table.source_type != "bigquery" or bigquery is None:
            return Relation("", "", table.id)
        return Relation(table.project or bigquery.project, table.bucket, table.source_table)

    def discover(self, call: Call) -> None:
        """List the configured datasets and register what they hold. Blocking; free."""
        probe = Table(id="_", source_type="bigquery")
        listing = getattr(self.source(probe), "discover", None)
        if listing is not None:
            self.registry.replace_discovered(listing(call))
        self.listed = True

    def at_close(self, action: Callable[[], object]) -> None:
        """Have this done when the engine closes."""
        self._closing.append(action)

    def limits(self, principal: Principal) -> Limits:
        grants, scan = self.access.grants(principal), self.settings.api.scan
        return Limits(
            max_concurrent=scan.max_concurrent_per_user if grants.max_concurrent is None else grants.max_concurrent,
            max_daily_bytes=scan.max_daily_bytes_per_user if grants.max_daily_bytes is None else grants.max_daily_bytes,
        )

    async def find(self, admitted: Admitted, table_id: str) -> Table:
        """The table, with the grant checked now. Raises `table_not_found`.

        An id that is not known yet may be in a dataset that has not been listed yet: then that is awaited.
        """
        if (
            self.registry.find(table_id) is None
            and self._unlisted()
            and self.access.may_read(admitted.principal, table_id)
        ):
            await self.workers.run(admitted.call, lambda: self.discover(admitted.call))
        return find_table(self.registry, self.access, admitted.principal, table_id)

    def _unlisted(self) -> bool:
        bigquery = self.settings.data_source.bigquery
        return bigquery is not None and bool(bigquery.datasets) and not self.listed

    async def schema(self, admitted: Admitted, table: Table) -> TableSchema:
        """The table's schema, cached; making it is free."""

        async def make() -> TableSchema:
            return await self.workers.run(admitted.call, lambda: self.source(table).schema(table, admitted.call))

        return await self.schemas.fetch(table.id, make)

    def bigquery_health(self) -> dict[str, Any]:
        """How BigQuery is doing, without asking it. `configured` False: there are no remote tables."""
        if self.settings.data_source.bigquery is None:
            return {"configured": False}
        health = getattr(self._sources.get("bigquery"), "health", None)
        return {"configured": True, **(health() if health else {"used": False})}

    def forget(self, table_id: str) -> None:
        """Nothing that was cached of this table is true any more."""
        self.schemas.invalidate(table_id)
        self.samples.invalidate(table_id)

    @asynccontextmanager
    async def admit(
        self,
        tool: str,
        principal: Principal,
        *,
        table_id: str | None = None,
        timeout_s: float = FREE_CALL_TIMEOUT_S,
        on_progress: Callable[[Progress], None] | None = None,
        consent: Consent | None = None,
        noted: bool = True,
    ) -> AsyncIterator[Admitted]:
        """The frame of one call. However it ends, one audit line says so before the answer leaves.

        `noted` False: part of a call that has its own frame, so that only a failure, which ends both, is written down.
        """
        await self._restore()
        call = Call(tool=tool, principal=principal.name, timeout_s=timeout_s, on_progress=on_progress)
        line = AuditLine(request_id=call.request_id, tool=tool, principal=principal.name, table_id=_clip(table_id))
        admitted = Admitted(call, principal, line, consent)
        self._running.add(admitted)
        try:
            yield admitted
        except AgnesError as error:
            if error.kind == "schema_changed" and table_id:
                self.forget(table_id)
            line.status, line.error_kind = _status_of(error), error.kind
            error.details.setdefault("request_id", call.request_id)
            raise
        except anyio.get_cancelled_exc_class():
            line.status, line.error_kind = "cancelled", "cancelled"
            raise
        except BaseException:
            line.status, line.error_kind = "error", "internal_error"
            raise
        finally:
            if noted or line.error_kind is not None:
                await self._note(line, int(call.elapsed_s * 1000))
            self._running.discard(admitted)
            admitted.ended.set()

    async def _note(self, line: AuditLine, latency_ms: int) -> None:
        line.latency_ms = latency_ms
        with anyio.CancelScope(shield=True):
            await self._bookkeeping.run(Call("audit", line.principal), lambda: self.audit.write(line))
        for observe in self.observers:
            observe(line)

    async def stop_calls(self, within_s: float) -> None:
        """End every call that runs and wait, for so long, until none is left."""
        for admitted in list(self._running):
            admitted.call.stop(cancelled())
        with anyio.move_on_after(within_s):
            while self._running:
                for admitted in list(self._running):  # an interrupt that arrives before DuckDB has started is lost
                    admitted.call.interrupt()
                with anyio.move_on_after(INTERRUPT_EVERY_S):
                    await next(iter(self._running)).ended.wait()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        for action in self._closing:
            action()
        for source in self._sources.values():
            close = getattr(source, "close", None)
            if close is not None:
                close()
        if self._workbench is not None:
            self._workbench.processes.close()
        self.warehouse.close()

    def _make_source(self, kind: str) -> Source:
        if kind == "bigquery":
            return self._make_bigquery(self)
        from agnes_mcp.sources.local.source import LocalSource

        return LocalSource(self.warehouse)

    async def _restore(self) -> None:
        """Before the first call: what the audit says was billed today counts, and leftovers of a crash are removed."""
        if self._restored_state:
            return
        async with self._restored:
            if not self._restored_state:
                self.quota.restore(await self._bookkeeping.run(Call("restore", ""), self._recover))
                self._restored_state = True

    def _recover(self) -> dict[str, int]:
        try:
            self.snapshots.sweep()
        except AgnesError as error:
            logger.warning("leftovers of snapshots not removed: %s", error.kind)
        return self.audit.billed_today(utc_now())


def _clip(text: str | None) -> str | None:
    return None if text is None else text[:64]


def _status_of(error: AgnesError) -> Status:
    if isinstance(error, QuotaError):
        return "quota_exceeded"
    if error.kind in ("cancelled", "approval_cancelled"):
        return "cancelled"
    return "rejected" if error.exit_code in (2, 3, 6, 7, 8) else "error"
