"""How the remote tables become known while nobody waits: one thread, at a fixed rate, those first that are asked about.

Of all processes over one data directory one reads at a time, turn by turn, and what one has read the others find in
the index: however many start, BigQuery is asked at the rate of one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.tables import MAX_CALLERS, Tables
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal, Table
from agnes_mcp.sources.kinds import Sources

logger = logging.getLogger(__name__)

LOCK_NAME = "tables.lock"
#: One question may take so long, and listing every dataset: it holds up the others, as one thread asks.
QUESTION_TIMEOUT_S = 30.0
LISTING_TIMEOUT_S = 300.0
#: What failed is not tried again for a while: the catalog is opened often, and would ask each time.
RETRY_AFTER_S = 30.0
FAILED_AGAIN_S = 600.0
#: Datasets are listed again after so long, for the tables that were made since.
LIST_AGAIN_S = 3600.0
#: A process reads for so long before another one may, which looks so often whether it can.
TURN_S = 5.0
TURN_POLL_S = 0.2
#: What is older is read again although nobody has asked for the table.
OLD_AFTER_S = 86_400.0
#: What was learned is written by then; a request that does not end is left to the process's own end.
_CLOSE_WITHIN_S = 2.0
#: What is wrong with BigQuery as a whole, not with the table that was asked about.
_OF_EVERY_TABLE = ("bq_unreachable", "auth_failed", "bq_rate_limited", "not_configured", "config_invalid")


class _Wanted(NamedTuple):
    """A table that is to be read unless it was since that moment."""

    table: Table
    since: datetime


class Learning:
    """Thread-safe. Starts its thread with the first question; it ends with the process or with `close`.

    `problem` says why the datasets could not be listed; `failed` which tables could not be read, by place, and why.
    """

    def __init__(self, calls: Calls, tables: Tables, sources: Sources, folder: Path, per_second: float) -> None:
        self._calls = calls
        self._tables = tables
        self._sources = sources
        self._lock_path = folder / LOCK_NAME
        self._pause_s = 1 / per_second
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._call: Call | None = None
        self._first: deque[_Wanted] = deque()  # tables on a page that somebody looks at
        self._asked: deque[_Wanted] = deque()  # what a caller may see
        self._others: deque[_Wanted] = deque()
        self._seen: dict[Principal, list[Table]] = {}  # what was asked for, by caller
        self._registered: object = None  # the tables that were asked for as a whole
        self._not_before = 0.0
        self._listing: float | None = None  # when it was last asked for
        self._list_now = False
        self.problem: AgnesError | None = None
        # By place, so one a table; gone with the next that succeeds, tried again when it is old.
        self.failed: dict[str, tuple[str, float]] = {}

    def look_at(self, page: Iterable[Table], ttl_s: float, *, again: bool) -> None:
        """Read these first, where what is known of them is older than `ttl_s`, or whatever it is."""
        self._want(self._first, page, timedelta(0) if again else timedelta(seconds=ttl_s))

    def learn(self, principal: Principal, visible: list[Table], *, again: bool) -> None:
        """Read what that caller may see before everything else."""
        if principal not in self._seen and len(self._seen) >= MAX_CALLERS:
            self._seen.clear()
        if again or self._seen.get(principal) is not visible:
            self._seen[principal] = visible
            self._want(self._asked, visible, timedelta(0) if again else None)
        elif self.failed:
            self._want(self._asked, [table for table in visible if self._may_try_again(table)], None)

    def learn_all(self) -> None:
        """Read every registered table, once those have been read that somebody asks about."""
        registered = self._tables.registered
        if self._registered is not registered:
            self._registered = registered
            self._want(self._others, registered.values(), None)

    def list_datasets(self, *, again: bool) -> bool:
        """Have the configured datasets listed; True while the first listing has not come back."""
        if not self._tables.lists_datasets:
            return False
        with self._changed:
            wait_s = RETRY_AFTER_S if again or not self._tables.listed else LIST_AGAIN_S
            if self._listing is None or time.monotonic() - self._listing >= wait_s:
                self._listing, self._list_now = time.monotonic(), True
                self._wake()
        return not self._tables.listed

    def await_listing(self, within_s: float) -> None:
        """Until the datasets have been listed, or could not be, or so long. Blocking."""
        with self._changed:
            self._changed.wait_for(lambda: self._tables.listed or self.problem is not None, within_s)

    def failures(self, tables: Iterable[Table]) -> Mapping[str, int]:
        """How many of these could not be read, by kind of error."""
        failed = dict(self.failed)  # one that is read meanwhile goes out of it
        return Counter(failed[table.place][0] for table in tables if table.place in failed) if failed else {}

    def close(self) -> None:
        """Stop what is being asked, and keep what has been learned."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
            call, thread = self._call, self._thread
        if call is not None:
            call.stop(cancelled())
        if thread is not None:
            thread.join(_CLOSE_WITHIN_S)

    def _want(self, queue: deque[_Wanted], tables: Iterable[Table], old: timedelta | None) -> None:
        since = datetime.now(UTC) - (timedelta(seconds=OLD_AFTER_S) if old is None else old)
        wanted = [_Wanted(table, since) for table in tables if table.query_mode == "remote"]
        due = [each for each in wanted if self._is_due(each)]
        if due:
            with self._changed:
                queue.extend(due)
                self._wake()

    def _wake(self) -> None:
        """Under the condition."""
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="agnes-learning", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _is_due(self, wanted: _Wanted) -> bool:
        table = wanted.table
        known, failed = self._tables.index.get(table), self.failed.get(table.place)
        if failed is not None and time.monotonic() - failed[1] < RETRY_AFTER_S:
            return False
        return known is None or known.as_of < wanted.since

    def _may_try_again(self, table: Table) -> bool:
        failed = self.failed.get(table.place)
        return failed is not None and time.monotonic() - failed[1] >= FAILED_AGAIN_S

    def _run(self) -> None:
        while self._wait_for_work():
            if self._list_now:
                self._list()
            if time.monotonic() >= self._not_before:
                self._take_turn()  # also where nothing is to be read: what was listed is kept

    def _has_tables(self) -> bool:
        return bool(self._first or self._asked or self._others)

    def _wait_for_work(self) -> bool:
        """False: it is over."""
        with self._changed:
            while not self._closing.is_set():
                pause_s = self._not_before - time.monotonic()
                if self._list_now or (self._has_tables() and pause_s <= 0):
                    return True
                self._changed.wait(pause_s if self._has_tables() else None)
        return False

    def _take_turn(self) -> None:
        """Read for a while, alone among the processes over this data directory."""
        from filelock import FileLock, Timeout

        index = self._tables.index
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self._lock_path, timeout=0):
                index.load()
                self._read_for(TURN_S)
                index.save(self._tables.places_to_keep())
        except Timeout:
            self._closing.wait(TURN_POLL_S)  # somebody else reads
            index.load()
        except OSError as error:
            logger.warning("the tables' metadata cannot be read in turn: %s", error.strerror)
            self._not_before = time.monotonic() + RETRY_AFTER_S

    def _read_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing.is_set() and not self._list_now and time.monotonic() < until:
            wanted = self._next()
            if wanted is None or self._closing.wait(self._pause_s):
                return
            try:
                self._read(wanted.table)
            except AgnesError as error:
                if self._closing.is_set():
                    return
                self._note(wanted, error)
                if error.kind in _OF_EVERY_TABLE:
                    return

    def _next(self) -> _Wanted | None:
        """The next table that is still registered and not known."""
        with self._changed:
            for queue in (self._first, self._asked, self._others):
                while queue:
                    wanted = queue.popleft()
                    registered = self._tables.registered.get(wanted.table.id)
                    if registered is not None and registered.place == wanted.table.place and self._is_due(wanted):
                        return wanted
        return None

    def _read(self, table: Table) -> None:
        call = self._call = self._calls.background("catalog", QUESTION_TIMEOUT_S)
        if self._closing.is_set():
            call.stop(cancelled())
        self._tables.index.put(table, self._sources.of(table).schema(table, call))
        self.failed.pop(table.place, None)

    def _note(self, wanted: _Wanted, error: AgnesError) -> None:
        """A table that cannot be read is counted and left; what is wrong with all of them is waited for."""
        logger.warning("metadata of %s not read: %s", wanted.table.id, error.kind)
        if error.kind in _OF_EVERY_TABLE:
            with self._changed:
                self._first.appendleft(wanted)
                self._not_before = time.monotonic() + RETRY_AFTER_S
        else:
            self.failed[wanted.table.place] = (error.kind, time.monotonic())

    def _list(self) -> None:
        call = self._call = self._calls.background("catalog", LISTING_TIMEOUT_S)
        problem = None
        with self._changed:
            self._list_now = False  # before: who asks while they are listed may ask for what was made since
        try:
            self._tables.list_datasets(call)
        except AgnesError as error:
            logger.warning("the datasets could not be listed: %s", error.kind)
            problem = error
        with self._changed:
            self.problem = problem
            self._changed.notify_all()
        for principal in list(self._seen):
            self.learn(principal, self._tables.visible(principal), again=False)
        self.learn_all()
