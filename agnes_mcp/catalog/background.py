"""What the catalog learns of remote tables while nobody waits: one thread, each question once at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table, TableSchema
from agnes_mcp.sources.kinds import Sources

logger = logging.getLogger(__name__)

#: One question may take so long: it holds up the others, as one thread asks. A table that failed is not asked about
#: again for a while: the catalog is opened often, and would ask each time.
QUESTION_TIMEOUT_S = 30.0
RETRY_AFTER_S = 30.0


class Background:
    """Thread-safe. Starts its thread with the first question; it ends with the process or with `close`."""

    def __init__(self, calls: Calls, tables: Tables, sources: Sources) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._lock = threading.Lock()
        self._asked: dict[str, float] = {}
        self._executor: ThreadPoolExecutor | None = None
        self.problem: AgnesError | None = None  # why the datasets could not be listed

    def learn(self, table: Table, remember: Callable[[Table, TableSchema], None]) -> None:
        """Ask for the table's schema; `remember` is called with it, from the thread."""

        def work() -> None:
            call = self._calls.background("catalog", QUESTION_TIMEOUT_S)
            remember(table, self._sources.of(table).schema(table, call))

        self._ask(table.id, work)

    def list_datasets(self, *, again: bool) -> bool:
        """Have the configured datasets listed; True while the first listing has not come back."""
        if not self._tables.lists_datasets:
            return False
        if again or not self._tables.listed:
            self._ask("datasets:", self._list)
        return not self._tables.listed

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _list(self) -> None:
        try:
            self._tables.list_datasets(self._calls.background("catalog", QUESTION_TIMEOUT_S))
            self.problem = None
        except AgnesError as error:
            self.problem = error
            raise

    def _ask(self, key: str, work: Callable[[], None]) -> None:
        with self._lock:
            if time.monotonic() - self._asked.get(key, -RETRY_AFTER_S) < RETRY_AFTER_S:
                return
            self._asked[key] = time.monotonic()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "agnes-behind")
        self._executor.submit(self._answer, key, work)

    def _answer(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
        except AgnesError as error:
            logger.warning("metadata of %s not read: %s", key, error.kind)
            return
        with self._lock:
            self._asked.pop(key, None)
