"""One query job: its life from RUNNING to DONE, and its REST resource at any moment of it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import duckdb

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.sql.analysis import Analysis, References
from agnes_mcp.stand_in.sql.wording import refusal_of
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import Segment, Table, now_ms
from agnes_mcp.stand_in.wire.faults import Fault
from agnes_mcp.stand_in.wire.replies import ApiError

STOPPED = ApiError(499, "stopped", "Job execution was cancelled: User requested cancellation")
_PLAN_UNITS = 10


class Job:
    """`analysis` is None for a job whose statement was refused; then `error` says why and the job is DONE."""

    def __init__(self, project: str, job_id: str, location: str, configuration: dict[str, Any]) -> None:
        self.project = project
        self.id = job_id
        self.location = location
        self.configuration = configuration
        self.analysis: Analysis | None = None
        self.error: ApiError | None = None
        self.result: Table | None = None
        self.cache_hit = False
        self.created_ms = self.started_ms = now_ms()
        self.ended_ms: int | None = None
        self.done = threading.Event()
        self.cancelled = threading.Event()
        self._done_or_cancelled = threading.Event()
        self.latency_s = 0.0
        self.bills_cancelled = False
        self.references: References = "bases"
        self.statement_type = "SELECT"
        self._began = time.monotonic()

    @property
    def reference(self) -> dict[str, str]:
        return {"projectId": self.project, "jobId": self.id, "location": self.location}

    @property
    def state(self) -> str:
        return "DONE" if self.done.is_set() else "RUNNING"

    @property
    def query(self) -> dict[str, Any]:
        """Its `configuration.query`."""
        found: dict[str, Any] = self.configuration.setdefault("query", {})
        return found

    @property
    def bytes_processed(self) -> int:
        return 0 if self.cache_hit or self.analysis is None else self.analysis.bytes_processed

    @property
    def bytes_billed(self) -> int:
        """Nothing for a cached, refused or failed job; of a cancelled one all or nothing, as `bills_cancelled` says."""
        if self.cache_hit or self.analysis is None:
            return 0
        if self.error is not None and not (self.bills_cancelled and self.error is STOPPED):
            return 0
        return self.analysis.bytes_billed

    def byte_figures(self) -> dict[str, str]:
        """Both byte counts of a job that is done, as its statistics show them: none where they are hidden."""
        shown = self.analysis.hides_bytes if self.analysis is not None else "shown"
        if shown == "absent":
            return {}
        processed, paid = (0, 0) if shown == "zero" else (self.bytes_processed, self.bytes_billed)
        return {"totalBytesProcessed": str(processed), "totalBytesBilled": str(paid)}

    def finish(self, error: ApiError | None = None) -> None:
        if not self.done.is_set():
            self.error = error
            self.ended_ms = now_ms()
            self.done.set()
            self._done_or_cancelled.set()

    def run(self, store: Store, fault: Fault | None, publish: Callable[[Table], None]) -> None:
        """Execute into the anonymous table, at least `latency_s` long. Never raises: the outcome is the job's.

        `publish` is told of the table before the job is done: whoever sees it done finds its rows.
        """
        outcome: ApiError | None = ApiError(500, "internalError", "The job broke the stand-in")
        try:
            if fault is not None and fault.stuck:
                self.cancelled.wait()
            self.cancelled.wait(self.latency_s + (fault.stall_s if fault else 0.0))
            self._refuse()
            if fault is not None and fault.refuses:
                raise fault.error(default_status=400)
            if self.result is None:
                self.result = self._materialise(store)
            publish(self.result)
            outcome = None
        except ApiError as error:
            outcome = error
        except duckdb.Error as error:
            outcome = STOPPED if self.cancelled.is_set() else refusal_of(error)
        finally:
            self.finish(outcome)

    def _refuse(self) -> None:
        if self.cancelled.is_set():
            raise STOPPED
        cap = self.query.get("maximumBytesBilled")
        needed = 0 if self.cache_hit or self.analysis is None else self.analysis.bytes_billed
        if cap is not None and needed > int(cap):
            message = f"Query exceeded limit for bytes billed: {int(cap)}. {needed} or higher required."
            raise ApiError(400, "bytesBilledLimitExceeded", message)

    def _materialise(self, store: Store) -> Table:
        if self.analysis is None:
            raise ApiError(500, "internalError", "The job has no statement")
        target = self.query["destinationTable"]
        table = Table(
            target["projectId"],
            target["datasetId"],
            target["tableId"],
            fields=self.analysis.fields,
            location=self.location,
            expires_ms=now_ms() + 24 * 3600 * 1000,  # anonymous results live a day
        )
        table.physical = store.place(table.project, table.dataset, table.name)
        names = ", ".join(f"c{i}" for i in range(len(table.fields)))
        columns = ", ".join(f"CAST(c{i} AS {f.duckdb_type()}) AS {quoted(f.name)}" for i, f in enumerate(table.fields))
        with store.cursor() as cursor:
            store.create_schema(cursor, table.physical)
            threading.Thread(target=self._interrupt, args=(cursor,), daemon=True).start()
            # S608: identifiers are the stand-in's own, the statement was rendered from its tree
            source = f"SELECT {columns} FROM ({self.analysis.duckdb_sql}) AS r({names})"  # noqa: S608
            cursor.execute(store.knowing(f"CREATE TABLE {table.physical} AS {source}"))
            counted = cursor.execute(f"SELECT count(*) FROM {table.physical}").fetchone()  # noqa: S608
        table.segments = [Segment("", counted[0] if counted else 0, {})]
        return table

    def _interrupt(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Interrupt the running statement once the job is cancelled, however late it starts."""
        self._done_or_cancelled.wait()
        while not self.done.wait(0.02):
            try:
                cursor.interrupt()
            except duckdb.Error:
                return

    def cancel(self) -> None:
        if not self.done.is_set():
            self.cancelled.set()
            self._done_or_cancelled.set()

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"state": self.state}
        if self.done.is_set() and self.error is not None:
            proto = self.error.proto() | ({"location": "query"} if self.error.reason == "invalidQuery" else {})
            answer |= {"errorResult": proto, "errors": [proto]}
        return answer

    def rest(self) -> dict[str, Any]:
        """As the Job resource."""
        return {
            "kind": "bigquery#job",
            "etag": f"etag-{self.created_ms}",
            "id": f"{self.project}:{self.location}.{self.id}",
            "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/projects/{self.project}/jobs/{self.id}",
            "user_email": "analyst@my-project.example",
            "configuration": self.configuration,
            "jobReference": self.reference,
            "statistics": self.statistics(),
            "status": self.status(),
        }

    def statistics(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"creationTime": str(self.created_ms), "startTime": str(self.started_ms)}
        if self.ended_ms is not None:
            answer["endTime"] = str(self.ended_ms)
            answer |= {key: value for key, value in self.byte_figures().items() if key == "totalBytesProcessed"}
        query: dict[str, Any] = {"statementType": self.statement_type}
        if self.analysis is not None:
            if self.analysis.hides_bytes == "shown":
                query["estimatedBytesProcessed"] = str(self.analysis.bytes_processed)
            query |= {
                "referencedTables": self.analysis.references(self.references),
                "referencedRoutines": [routine.reference for routine in self.analysis.routines],
                "queryPlan": [self._stage()],
                "timeline": [self._moment()],
            }
        if self.done.is_set():
            query |= self.byte_figures() | {
                "billingTier": 1,
                "cacheHit": self.cache_hit,
                "totalSlotMs": str(self.elapsed_ms),
            }
        return answer | {"query": query}

    @property
    def elapsed_ms(self) -> int:
        return (
            (self.ended_ms - self.started_ms)
            if self.ended_ms is not None
            else int((time.monotonic() - self._began) * 1000)
        )

    @property
    def _completed_units(self) -> int:
        if self.done.is_set():
            return _PLAN_UNITS
        share = (time.monotonic() - self._began) / self.latency_s if self.latency_s else 0.5
        return min(int(share * _PLAN_UNITS), _PLAN_UNITS - 1)

    def _stage(self) -> dict[str, Any]:
        return {
            "id": "0",
            "name": "S00: Output",
            "status": "COMPLETE" if self.done.is_set() else "RUNNING",
            "parallelInputs": str(_PLAN_UNITS),
            "completedParallelInputs": str(self._completed_units),
            "recordsRead": str(sum(table.rows for table in self.analysis.referenced) if self.analysis else 0),
            "recordsWritten": str(self.result.rows if self.result else 0),
        }

    def _moment(self) -> dict[str, Any]:
        return {
            "elapsedMs": str(self.elapsed_ms),
            "totalSlotMs": str(self.elapsed_ms),
            "completedUnits": str(self._completed_units),
            "pendingUnits": str(_PLAN_UNITS - self._completed_units),
            "activeUnits": "0" if self.done.is_set() else "1",
        }


def new_job_id() -> str:
    return f"job_{secrets.token_urlsafe(18)}"
