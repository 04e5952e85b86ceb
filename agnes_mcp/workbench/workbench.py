"""Agent-written SQL over local tables and snapshots, in processes that can be killed."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call, timed_out
from agnes_mcp.calls.processes import frames
from agnes_mcp.calls.processes.pool import Pool
from agnes_mcp.calls.processes.watch import Watch
from agnes_mcp.calls.processes.worker import CHILD, Answer, UnreadyError, Worker
from agnes_mcp.errors import AgnesError
from agnes_mcp.workbench import failures
from agnes_mcp.workbench.admission import check_text
from agnes_mcp.workbench.views import View

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_MEMORY_BYTES = 1024**3
#: Kinds after which the process that answered may serve again: the engine itself was not in trouble.
_SOUND_KINDS = frozenset({"query_refused", "query_failed", "table_not_found", "table_unavailable", "result_too_large"})
#: A worker may have ended while nobody used it; then the next one is asked.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Result:
    """`batches` hold at most `limit_rows` rows and `max_bytes` bytes of Arrow; `schema` stands for no rows too.

    `types` are DuckDB's names of the column types (Arrow has none for HUGEINT and gives DECIMAL(38,0)). `tables` are
    those that the SQL reads. `cut_by` is what cut the rows off: "rows", "bytes", or "" when all are here. `elapsed_s`
    counts from the call, waiting for a worker included. Column names are unique: the second `a` becomes `a_2`.
    """

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    types: list[str]
    tables: list[str]
    cut_by: str
    elapsed_s: float

    @property
    def truncated(self) -> bool:
        return self.cut_by != ""

    @property
    def row_count(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def table(self) -> pa.Table:
        import pyarrow as pa

        return pa.Table.from_batches(self.batches, self.schema)


class Workbench:
    """A pool of worker processes. Blocking; safe to use from many threads.

    `memory_bytes` is what one query may use beside the process itself, `threads` are DuckDB's per query, `timeout_s`
    bounds one call, waiting included, whatever the call itself allows. `command` are the interpreter's arguments that
    start a worker. Nothing is started before `warm` or the first `run`.
    """

    def __init__(
        self,
        *,
        pool_size: int = 2,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        threads: int = 2,
        timeout_s: float = 30.0,
        command: Sequence[str] = CHILD,
    ) -> None:
        self.memory_bytes, self.threads, self.timeout_s = memory_bytes, threads, timeout_s
        self._pool = Pool(pool_size, partial(Worker, memory_bytes, threads, command))
        self._confined: dict[str, bool] = {}

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self) -> None:
        """Start the processes and return at once."""
        self._pool.warm()

    def close(self) -> None:
        """End every process, running or not. Whoever still waits gets `cancelled`."""
        self._pool.close()

    def state(self) -> dict[str, Any]:
        """Size, processes, and what confines them; `confined` is empty before the first one has answered."""
        workers = self._pool.workers()
        return {
            "pool_size": self._pool.size,
            "processes": [worker.pid for worker in workers if worker.alive],
            "processes_started": self._pool.started,
            "memory_bytes": self.memory_bytes,
            "threads": self.threads,
            "timeout_s": self.timeout_s,
            "confined": dict(self._confined),
        }

    def run(self, sql: str, views: Sequence[View], *, limit_rows: int, max_bytes: int, call: Call) -> Result:
        """One read-only SELECT over `views`, which are exactly what the caller may read.

        Raises AgnesError: `query_refused` (not admitted), `table_not_found`, `query_failed` (DuckDB's word),
        `query_out_of_memory`, `table_unavailable`, `result_too_large` (one row over `max_bytes`), `timeout`,
        `cancelled`, `internal_error` (no worker could be started or locked).
        """
        check_text(sql)  # the gate does too; here it spares a worker a text that no parser should see
        started = time.monotonic()
        remaining_s = call.remaining_s
        limit_s = self.timeout_s if remaining_s is None else min(self.timeout_s, remaining_s)
        deadline = started + limit_s
        query = _Query(sql, {view.name: view for view in views}, limit_rows, max_bytes)
        for _ in range(_ATTEMPTS):
            try:
                answer = self._ask_one(query, call, deadline, limit_s)
            except UnreadyError:
                continue
            schema, batches = answer.read()
            elapsed_s = time.monotonic() - started
            return Result(schema, batches, answer.types, query.tables, answer.cut_by, elapsed_s)
        raise AgnesError(
            "internal_error", "No query worker could be started.", "Run `agnes-mcp doctor`; check free memory."
        )

    def _ask_one(self, query: _Query, call: Call, deadline: float, limit_s: float) -> Answer:
        worker = self._pool.acquire(call, deadline)
        watch = Watch(worker, deadline, limit_s, self.memory_bytes)
        reusable = False
        try:
            with watch.watching(), call.interruptible(watch.kill):
                worker.wait_ready()
                self._confined = worker.confined
                answer = worker.ask(query.question(self._cpu_s(deadline)), query.grant)
            reusable = True
        except AgnesError as error:
            reusable = error.kind in _SOUND_KINDS
            raise
        except UnreadyError:
            self._raise_what_ended(call, watch)
            raise
        except frames.ClosedError:
            self._raise_what_ended(call, watch)
            raise _explain_death(worker.reap(), limit_s) from None
        finally:
            self._pool.release(worker, reusable)
        return answer

    def _raise_what_ended(self, call: Call, watch: Watch) -> None:
        """Where it was we who ended the process: why."""
        call.check()
        self._pool.check_open()
        if watch.reason is not None:
            raise watch.reason from None

    def _cpu_s(self, deadline: float) -> int:
        """CPU time that a query can use by its deadline, in whole seconds: the limit behind the deadline."""
        return self.threads * (max(0, math.ceil(deadline - time.monotonic())) + 1)


class _Query:
    """One query and what it may read; `tables` is known once the gate has passed."""

    def __init__(self, sql: str, views: dict[str, View], limit_rows: int, max_bytes: int) -> None:
        self._sql, self._views = sql, views
        self._limit_rows, self._max_bytes = limit_rows, max_bytes
        self.tables: list[str] = []

    def question(self, cpu_s: int) -> dict[str, Any]:
        return {
            "sql": self._sql,
            "tables": list(self._views),
            "limit_rows": self._limit_rows,
            "max_bytes": self._max_bytes,
            "cpu_s": cpu_s,
        }

    def grant(self, tables: list[str]) -> list[View]:
        """The views the SQL reads, of those the caller may read."""
        self.tables = tables
        return [self._views[name] for name in tables]


def _explain_death(code: int, limit_s: float) -> AgnesError:
    """The error for a worker that ended by itself."""
    if os.name == "posix" and code == -signal.SIGXCPU:
        return timed_out(round(limit_s, 1))
    if os.name == "posix" and code == -signal.SIGKILL:
        return failures.out_of_memory()
    return AgnesError(
        "query_failed",
        "The query ended the process that ran it.",
        "Write it another way; if it sorts, joins or builds lists over many rows, aggregate first.",
        {"exit_code": code},
    )
