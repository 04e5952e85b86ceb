"""The query jobs of a stand-in: made, priced, cached, found again, cancelled."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from typing import Any

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.googlesql.grammar import NotASelectError
from agnes_mcp.stand_in.googlesql.session import Names
from agnes_mcp.stand_in.jobs.job import Job, new_job_id
from agnes_mcp.stand_in.sql.analysis import Analysis, References, analyse
from agnes_mcp.stand_in.sql.kinds import other_statement
from agnes_mcp.stand_in.sql.parameters import parameters_of
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import Dataset, Table
from agnes_mcp.stand_in.wire.faults import Faults
from agnes_mcp.stand_in.wire.replies import ApiError, drive_denied, invalid, not_found


class Jobs:
    """`latency_s` is how long every job stays RUNNING at least; `bills_cancelled` bills a cancelled one in full;
    `references` is what `referencedTables` lists."""

    def __init__(self, catalog: Catalog, store: Store, faults: Faults) -> None:
        self.latency_s = 0.0
        self.bills_cancelled = False
        self.references: References = "bases"
        self._catalog = catalog
        self._store = store
        self._faults = faults
        self._jobs: dict[tuple[str, str], Job] = {}
        self._cache: dict[str, Table] = {}
        self._lock = threading.Lock()

    def dry_run(
        self, project: str, configuration: dict[str, Any], location: str | None, drive: bool = False
    ) -> dict[str, Any]:
        """The Job resource of a dry run: priced and typed, with no job id, DONE at once.

        A statement that is no SELECT is told from one by its `statementType`; nothing here runs it.
        """
        try:
            analysis = self._analyse(project, configuration, location, drive)
        except NotASelectError as other:
            told = other_statement(other.kind, other.statements, *_default_of(project, configuration))
            return self._dry_resource(project, configuration, location or self._catalog.location, told)
        query = {
            "statementType": "SELECT",
            "totalBytesBilled": "0",
            "cacheHit": False,
            "totalBytesProcessedAccuracy": analysis.accuracy,
            "referencedTables": analysis.references(self.references),
            "referencedRoutines": [routine.reference for routine in analysis.routines],
            "schema": {"fields": [field.rest() for field in analysis.fields]},
        }
        if analysis.hides_bytes != "absent":
            estimated = 0 if analysis.hides_bytes == "zero" else analysis.bytes_estimated
            query["totalBytesProcessed"] = str(estimated)
        return self._dry_resource(project, configuration, self._location(analysis, location), query)

    def _dry_resource(
        self, project: str, configuration: dict[str, Any], where: str, query: dict[str, Any]
    ) -> dict[str, Any]:
        processed = {key: query[key] for key in ("totalBytesProcessed",) if key in query}
        return {
            "kind": "bigquery#job",
            "id": f"{project}:{where}.",
            "user_email": "analyst@my-project.example",
            "configuration": configuration,
            "jobReference": {"projectId": project, "location": where},
            "statistics": {"creationTime": "0"} | processed | {"query": query},
            "status": {"state": "DONE"},
        }

    def insert(
        self,
        project: str,
        configuration: dict[str, Any],
        location: str | None,
        job_id: str | None = None,
        drive: bool = False,
    ) -> Job:
        """Make a job and start it. A refused statement makes a job too: DONE, with its error."""
        job = Job(project, job_id or new_job_id(), location or self._catalog.location, configuration)
        with self._lock:
            if (project, job.id) in self._jobs:
                raise ApiError(409, "duplicate", f"Already Exists: Job {project}:{job.location}.{job.id}")
            self._jobs[(project, job.id)] = job
        try:
            job.analysis = self._analyse(project, configuration, location, drive)
        except NotASelectError as other:
            job.statement_type = other.kind
            job.finish(other)
            return job
        except ApiError as error:
            job.finish(error)
            return job
        job.location = self._location(job.analysis, location)
        self._start(job, job.analysis)
        return job

    def _start(self, job: Job, analysis: Analysis) -> None:
        key = self._cache_key(job, analysis)
        found = self._cache.get(key) if job.query.get("useQueryCache", True) else None
        if found is not None and not found.expired:
            job.cache_hit, job.result = True, found
            job.query["destinationTable"] = found.reference
        else:
            job.query["destinationTable"] = self._destination(job)
        job.latency_s, job.bills_cancelled = self.latency_s, self.bills_cancelled
        job.references = self.references
        fault = self._faults.take("job", job.id)
        threading.Thread(target=self._run, args=(job, fault, key), name=f"job {job.id}", daemon=True).start()

    def _run(self, job: Job, fault: Any, key: str) -> None:
        def publish(result: Table) -> None:
            self._catalog.dataset(result.project, result.dataset).tables[result.name] = result
            if job.analysis is not None and job.analysis.deterministic:
                self._cache[key] = result

        job.run(self._store, fault, publish)

    def _destination(self, job: Job) -> dict[str, str]:
        if job.query.get("destinationTable"):
            raise invalid("The stand-in writes results to anonymous tables only")
        hidden = "_" + hashlib.sha256(f"{job.project}/{job.location}".encode()).hexdigest()[:40]
        self._catalog.add_dataset(Dataset(job.project, hidden, job.location, hidden=True))
        return {"projectId": job.project, "datasetId": hidden, "tableId": f"anon{secrets.token_hex(20)}"}

    def _cache_key(self, job: Job, analysis: Analysis) -> str:
        """The statement with its parameters and the state of every table it reads."""
        state = sorted(
            (table.dotted, table.modified_ms, id(table)) for table in [*analysis.referenced, *analysis.opened]
        )
        given = job.query.get("queryParameters")
        return json.dumps([job.project, analysis.sql, given, job.query.get("defaultDataset"), state])

    def _analyse(self, project: str, configuration: dict[str, Any], location: str | None, drive: bool) -> Analysis:
        query = configuration.get("query") or {}
        if not isinstance(query.get("query"), str) or not query["query"].strip():
            raise invalid("Required parameter is missing: query")
        if query.get("useLegacySql", True):
            raise invalid("The stand-in speaks GoogleSQL only: set useLegacySql to false")
        names = Names(*_default_of(project, configuration))
        bound = parameters_of(query.get("queryParameters"), query.get("parameterMode"))
        analysis = analyse(query["query"], self._catalog, self._store, names, location, bound)
        if not drive and any(table.drive for table in analysis.referenced):
            raise drive_denied()
        return analysis

    def _location(self, analysis: Analysis, asked: str | None) -> str:
        return asked or analysis.location or self._catalog.location

    def get(self, project: str, job_id: str, location: str | None = None) -> Job:
        job = self._jobs.get((project, job_id))
        if job is None or (location and location.lower() != job.location.lower()):
            raise not_found("Job", f"{project}:{location + '.' if location else ''}{job_id}")
        return job

    def listed(self, project: str) -> list[Job]:
        """Newest first."""
        with self._lock:
            found = [job for (owner, _), job in self._jobs.items() if owner == project]
        return found[::-1]

    def cancel_all(self) -> None:
        with self._lock:
            running = list(self._jobs.values())
        for job in running:
            job.cancel()
        for job in running:
            job.done.wait(5)


def _default_of(project: str, configuration: dict[str, Any]) -> tuple[str, str | None]:
    """The project and dataset that complete a statement's names."""
    default = (configuration.get("query") or {}).get("defaultDataset") or {}
    return default.get("projectId") or project, default.get("datasetId")
