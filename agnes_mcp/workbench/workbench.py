"""Agent-written SQL over local tables and snapshots, in processes that can be killed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import PROCESS, Call
from agnes_mcp.calls.processes.processes import Processes, Question
from agnes_mcp.errors import AgnesError
from agnes_mcp.sql import duckdb_errors
from agnes_mcp.sql.views import View
from agnes_mcp.workbench.admission import check_text

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Result:
    """`batches` hold at most `limit_rows` rows and `max_bytes` bytes of Arrow; `schema` stands for no rows too.

    `types` are DuckDB's names of the column types (Arrow has none for HUGEINT and gives DECIMAL(38,0)). `tables` are
    those that the SQL reads. `cut_by` is what cut the rows off: "rows", "bytes", or "" when all are here. `elapsed_s`
    counts from the call, waiting for a worker included. Column names are unique: the second `a` becomes `a_2`.
    `cut_cells` are those that were cut where they were made, by row and column, with their length (see `sql.cells`).
    """

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    types: list[str]
    tables: list[str]
    cut_by: str
    elapsed_s: float
    cut_cells: Mapping[tuple[int, int], int | None]

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
    """Queries in `processes`, which have to have been handed `JOB`. Blocking; safe to use from many threads.

    `timeout_s` bounds one call, what it has waited for its turn included, whatever the call itself allows.
    """

    def __init__(self, processes: Processes, *, timeout_s: float = 30.0) -> None:
        self.processes, self.timeout_s = processes, timeout_s

    def run(self, sql: str, views: Sequence[View], *, limit_rows: int, max_bytes: int, call: Call) -> Result:
        """One read-only SELECT over `views`, which are exactly what the caller may read.

        Raises AgnesError: `query_refused` (not admitted), `table_not_found`, `query_failed` (DuckDB's word),
        `query_out_of_memory`, `table_unavailable`, `result_too_large` (one row over `max_bytes`), `timeout`,
        `cancelled`, `internal_error` (no worker could be started or locked).
        """
        check_text(sql)  # the gate does too; here it spares a worker a text that no parser should see
        started = time.monotonic()
        own_s, remaining_s = max(0.0, self.timeout_s - call.waits.get(PROCESS, 0.0)), call.remaining_s
        limit_s = own_s if remaining_s is None else min(own_s, remaining_s)
        granting = _Granting({view.name: view for view in views})
        content = {"sql": sql, "tables": list(granting.views), "limit_rows": limit_rows, "max_bytes": max_bytes}
        question = Question("query", content, duckdb_errors.query_out_of_memory, died)
        with self.processes.ask(question, granting, call, limit_s) as answer:
            schema, rows = answer.schema_and_batches()
            batches = list(rows)
        elapsed_s = time.monotonic() - started
        done = answer.done
        cut_cells = {(row, column): chars for row, column, chars in done["cut_cells"]}
        return Result(schema, batches, done["types"], granting.tables, done["cut_by"], elapsed_s, cut_cells)


class _Granting:
    """What one query may read; `tables` is known once the gate has passed."""

    def __init__(self, views: dict[str, View]) -> None:
        self.views = views
        self.tables: list[str] = []

    def __call__(self, needed: dict[str, Any]) -> Mapping[str, Any]:
        """The views over the tables the SQL reads, of those the caller may read."""
        self.tables = needed["tables"]
        return {"views": [self.views[name].as_message() for name in self.tables]}


def died(code: int) -> AgnesError:
    """What to say of a query whose process ended by itself with this exit code."""
    return AgnesError(
        "query_failed",
        "The query ended the process that ran it.",
        "Write it another way; if it sorts, joins or builds lists over many rows, aggregate first.",
        {"exit_code": code},
    )
