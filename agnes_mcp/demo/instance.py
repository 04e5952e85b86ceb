"""The instance that is served when none is configured: its tables are made while it already answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.settings import Settings
from agnes_mcp.demo.bigquery import DemoBigQuery
from agnes_mcp.demo.making import SPEC, Making, make
from agnes_mcp.demo.tables import demo_folder, demo_settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Price, Relation, Statement, Table, TableSchema
from agnes_mcp.sources import Reading, Source
from agnes_mcp.sources.kinds import Makers, source_makers
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.sql.views import View

if TYPE_CHECKING:
    import pyarrow as pa


def open_demo(settings: Settings, *, at_once: bool = False) -> Gateway:
    """Serve the demo's tables, made first where they are missing.

    `at_once`: without waiting for them: `Upkeep.make_ready` has them made, and calls that need them wait.
    """
    demo = demo_settings(settings)
    making = Making(demo_folder(demo))
    if not at_once:
        make(making.folder)
    return Gateway(demo, _makers(making), making.begin)


def _makers(making: Making) -> Callable[[Settings, Warehouse, Processes], Makers]:
    """How the demo's sources are made: each waits for its data, and BigQuery is the stand-in that serves it."""

    def made(settings: Settings, warehouse: Warehouse, processes: Processes) -> Makers:
        local = source_makers(settings, warehouse, processes)["local"]
        spec = making.folder / SPEC
        return {
            "local": lambda: Awaited(making, local),
            "bigquery": lambda: Awaited(making, lambda: DemoBigQuery(warehouse, spec)),
        }

    return made


class Awaited(Source):
    """A source whose tables are still being made: whoever asks of a table waits until they are, or their call ends."""

    def __init__(self, making: Making, make: Callable[[], Source]) -> None:
        self._making, self._make = making, make
        self._lock = threading.Lock()
        self._source: Source | None = None

    def schema(self, table: Table, call: Call) -> TableSchema:
        return self._ready(call).schema(table, call)

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        return self._ready(call).preview(table, schema, columns, n, call)

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        return self._ready(call).price(table, schema, statement, call)

    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> AbstractContextManager[Reading]:
        return self._ready(call).read(table, schema, statement, price, call)

    def reads_apart(self, table: Table, statement: Statement) -> bool:
        return self._made().reads_apart(table, statement)

    def relation(self, table: Table) -> Relation:
        return self._made().relation(table)

    def view(self, table: Table, call: Call) -> View:
        return self._ready(call).view(table, call)

    def state(self, table: Table) -> object:
        return self._source.state(table) if self._source else None

    def health(self) -> dict[str, Any]:
        return self._source.health() if self._source else {"used": False}

    def close(self) -> None:
        if self._source:
            self._source.close()

    def _ready(self, call: Call) -> Source:
        self._making.wait(call)
        with self._lock:
            if self._source is None:
                self._source = self._make()
            return self._source

    def _made(self) -> Source:
        """What is asked of a table once its schema is known, and so without a call."""
        assert self._source is not None  # noqa: S101 - the schema came from it
        return self._source
