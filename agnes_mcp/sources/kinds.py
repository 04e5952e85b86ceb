"""One source per kind of table, made when a table of that kind is first asked about."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import JobReference, SourceType, Table
from agnes_mcp.sources import Source
from agnes_mcp.sources.warehouse import Warehouse

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings
    from agnes_mcp.sources.bigquery.attached import Attached
    from agnes_mcp.sources.bigquery.tokens import TokenSource

Makers = Mapping[SourceType, Callable[[], Source]]


class Sources:
    """Thread-safe. What is never asked is never made, because its libraries load slowly."""

    def __init__(self, makers: Makers) -> None:
        self._makers = makers
        self.kinds = frozenset(makers)  # of which tables can be served
        self._made: dict[SourceType, Source] = {}  # one a kind, for as long as the instance lives
        self._making = threading.Lock()

    def of(self, table: Table) -> Source:
        """The source that serves this table. Blocking. Raises `not_configured`."""
        return self._of_kind(table.source_type)

    def discover(self, call: Call) -> list[Table]:
        """Every table that any source lists by itself. Blocking; free."""
        return [table for kind in self._makers for table in self._of_kind(kind).discover(call)]

    def learn_bill(self, job: JobReference, call: Call) -> int | None:
        """What a job of an earlier call was billed; None: not known. Blocking. Raises `bq_not_found` and the like."""
        return self._of_kind("bigquery").learn_bill(job, call)

    def problem(self, table: Table) -> str:
        """Why the table cannot be read now, where its source has found that out; ""; asks nobody."""
        made = self._made.get(table.source_type)
        return made.problem(table) if made else ""

    def health(self, kind: SourceType) -> dict[str, Any]:
        """How the source of that kind is doing; `used` False: not asked yet. Empty: there is none."""
        made = self._made.get(kind)
        return made.health() if made else {"used": False} if kind in self.kinds else {}

    def make_ready(self, kind: SourceType, call: Call, registered: Sequence[Table]) -> float | None:
        """Have the source of that kind do in advance what a first read would wait for; see `Source.stand_ready`.
        Blocking."""
        return self._of_kind(kind).stand_ready(call, [table for table in registered if table.source_type == kind])

    def try_again(self) -> None:
        """What failed earlier and waits for its next try has it with the next use."""
        for source in list(self._made.values()):
            source.try_again()

    def close(self) -> None:
        for source in list(self._made.values()):
            source.close()

    def _of_kind(self, kind: SourceType) -> Source:
        with self._making:
            if kind not in self._made:
                self._made[kind] = self._maker(kind)()
            return self._made[kind]

    def _maker(self, kind: SourceType) -> Callable[[], Source]:
        if kind not in self._makers:
            raise AgnesError("not_configured", "BigQuery is not configured.", "Set data_source.bigquery.project.")
        return self._makers[kind]


def source_makers(settings: Settings, warehouse: Warehouse, processes: Processes) -> Makers:
    """How the sources of this instance are made, over the shared connection and the worker processes."""
    bigquery = settings.data_source.bigquery

    def make_local() -> Source:
        from agnes_mcp.sources.local.source import LocalSource

        return LocalSource(warehouse, processes)

    def make_bigquery() -> Source:
        from agnes_mcp.sources.bigquery.source import BigQuerySource

        assert bigquery is not None  # noqa: S101 - offered only where it is configured, see below
        return BigQuerySource(bigquery, warehouse, make_attached)

    def make_attached(to: BigQuerySettings, tokens: TokenSource) -> Attached | str:
        from agnes_mcp.sources.bigquery.attached import make_attached

        engine = settings.engine
        return make_attached(to, tokens, memory_bytes=engine.memory_limit_bytes, threads=engine.threads)

    def make_attached_tables() -> Source:
        from agnes_mcp.sources.extensions.source import ExtensionSource

        return ExtensionSource(memory_bytes=settings.engine.memory_limit_bytes, threads=settings.engine.threads)

    return {
        "local": make_local,
        **({"bigquery": make_bigquery} if bigquery else {}),
        **({"attached": make_attached_tables} if settings.data_source.agnes else {}),
    }
