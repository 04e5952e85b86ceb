"""What each REST method answers. A route takes a `Call` and gives a JSON object, or raises `ApiError`."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.jobs.job import Job, new_job_id
from agnes_mcp.stand_in.jobs.queue import Jobs
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import READABLE, Table
from agnes_mcp.stand_in.wire.replies import ApiError, invalid, rows_denied
from agnes_mcp.stand_in.wire.rows import refuse_tagged, rest_rows, selected
from agnes_mcp.stand_in.wire.tokens import Tokens

Json = dict[str, Any]
T = TypeVar("T")

_DEFAULT_WAIT_MS = 10_000  # getQueryResults waits 10 s where the request names no timeoutMs
_LONGEST_WAIT_MS = 200_000
_DEFAULT_PAGE_ROWS = 100_000
_DEFAULT_PAGE_ENTRIES = 50


@dataclass
class Call:
    """One REST call: the path's names, the query string, the JSON body."""

    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Json = field(default_factory=dict)
    token: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)  # what a fault puts into columns, by name

    def number(self, name: str, default: int) -> int:
        given = self.query.get(name)
        if given is None or given == "":
            return default
        if not given.isdigit():
            raise invalid(f"Invalid value for {name}: {given}")
        return int(given)

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() == "true"


class Routes:
    """The REST methods over one catalog, by name: `tables.get`, `jobs.insert`, …"""

    def __init__(self, catalog: Catalog, store: Store, jobs: Jobs, tokens: Tokens) -> None:
        self._catalog = catalog
        self._store = store
        self._jobs = jobs
        self._tokens = tokens

    def match(self, verb: str, path: str) -> tuple[str, Callable[[Call], Json], dict[str, str]] | None:
        """The name, the method and the path's names of a request; None where there is no such method."""
        for known, name, pattern in _TABLE:
            found = pattern.fullmatch(path)
            if found is not None and known == verb:
                return name, getattr(self, name.replace(".", "_")), found.groupdict()
        return None

    def projects_list(self, call: Call) -> Json:
        project = self._catalog.project
        entry = {"kind": "bigquery#project", "id": project, "projectReference": {"projectId": project}}
        return {"kind": "bigquery#projectList", "projects": [entry], "totalItems": 1}

    def datasets_list(self, call: Call) -> Json:
        shown, token = _page(self._catalog.datasets(call.names["project"]), call)
        return {"kind": "bigquery#datasetList", "datasets": [dataset.listed() for dataset in shown]} | token

    def datasets_get(self, call: Call) -> Json:
        return self._catalog.readable_dataset(call.names["project"], call.names["dataset"]).rest()

    def tables_list(self, call: Call) -> Json:
        project, dataset = call.names["project"], call.names["dataset"]
        self._catalog.readable_dataset(project, dataset, "bigquery.tables.list")
        tables = self._catalog.tables(project, dataset)
        shown, token = _page(tables, call)
        listed = [table.listed() for table in shown]
        return {"kind": "bigquery#tableList", "tables": listed, "totalItems": len(tables)} | token

    def tables_get(self, call: Call) -> Json:
        return self._named_table(call).rest()

    def tabledata_list(self, call: Call) -> Json:
        table = self._named_table(call, "bigquery.tables.getData")
        if table.kind not in READABLE:
            raise invalid(f"Cannot list a table of type {table.kind}.")
        if table.row_filter:
            raise rows_denied(table.label)
        names = [name for name in call.query.get("selectedFields", "").split(",") if name]
        refuse_tagged(table, selected(table.fields, names))
        rows, token = self._rows(table, call, names)
        answer = {"kind": "bigquery#tableDataList", "totalRows": str(table.rows), "etag": "etag"}
        return answer | {"rows": rows} | token

    def jobs_insert(self, call: Call) -> Json:
        reference = call.body.get("jobReference") or {}
        configuration = copy.deepcopy(call.body.get("configuration") or {})
        project, location = call.names["project"], reference.get("location")
        if "query" not in configuration:
            raise invalid("The stand-in runs query jobs only")
        if configuration.get("dryRun"):
            return self._jobs.dry_run(project, configuration, location, self._drive(call))
        return self._jobs.insert(project, configuration, location, reference.get("jobId"), self._drive(call)).rest()

    def jobs_get(self, call: Call) -> Json:
        return self._named_job(call).rest()

    def jobs_list(self, call: Call) -> Json:
        shown, token = _page(self._jobs.listed(call.names["project"]), call)
        return {"kind": "bigquery#jobList", "jobs": [job.rest() | {"state": job.state} for job in shown]} | token

    def jobs_cancel(self, call: Call) -> Json:
        job = self._named_job(call)
        job.cancel()
        return {"kind": "bigquery#jobCancelResponse", "job": job.rest()}

    def jobs_query(self, call: Call) -> Json:
        """One call that makes a job and answers its first page of rows, or says that it still runs."""
        body, project = call.body, call.names["project"]
        copied = ("query", "useLegacySql", "defaultDataset", "maximumBytesBilled", "queryParameters", "parameterMode")
        query = {key: body[key] for key in (*copied, "useQueryCache") if key in body}
        configuration: Json = {"jobType": "QUERY", "query": query}
        configuration |= {key: body[key] for key in ("labels", "dryRun", "jobTimeoutMs") if key in body}
        if body.get("dryRun"):
            return _dry_query(self._jobs.dry_run(project, configuration, body.get("location"), self._drive(call)))
        job = self._jobs.insert(project, configuration, body.get("location"), new_job_id(), self._drive(call))
        job.done.wait(min(int(body.get("timeoutMs", _DEFAULT_WAIT_MS)), _LONGEST_WAIT_MS) / 1000)
        int_timestamps = bool((body.get("formatOptions") or {}).get("useInt64Timestamp"))
        asked = {"formatOptions.useInt64Timestamp": str(int_timestamps).lower()}
        if "maxResults" in body:
            asked["maxResults"] = str(body["maxResults"])
        return self._results(job, Call(call.names, asked, cells=call.cells)) | {"kind": "bigquery#queryResponse"}

    def jobs_getQueryResults(self, call: Call) -> Json:  # noqa: N802 - the method's own name
        job = self._named_job(call)
        wait_ms = min(call.number("timeoutMs", _DEFAULT_WAIT_MS), _LONGEST_WAIT_MS)
        job.done.wait(wait_ms / 1000)
        return self._results(job, call) | {"kind": "bigquery#getQueryResultsResponse"}

    def _results(self, job: Job, call: Call) -> Json:
        answer: Json = {"jobReference": job.reference, "jobComplete": job.done.is_set()}
        if not job.done.is_set():
            return answer
        if job.error is not None:
            raise job.error
        if job.result is None:
            raise ApiError(500, "internalError", "The job ended without a result")
        answer |= {
            "schema": {"fields": [column.rest() for column in job.result.fields]},
            "totalRows": str(job.result.rows),
            "cacheHit": job.cache_hit,
        }
        answer |= job.byte_figures()
        if call.number("maxResults", 1) == 0:
            return answer
        rows, token = self._rows(job.result, call, [])
        return answer | {"rows": rows} | token

    def _rows(self, table: Table, call: Call, names: Sequence[str]) -> tuple[list[Json], Json]:
        """A page of a table's rows, and the token of the next where there is one."""
        start = _read_token(call) if call.query.get("pageToken") else call.number("startIndex", 0)
        limit = call.number("maxResults", _DEFAULT_PAGE_ROWS)
        exact = call.flag("formatOptions.useInt64Timestamp")
        fields = selected(table.fields, names)
        rows = rest_rows(self._store, table, fields, start, limit, exact)
        for index, column in enumerate(fields):
            for row in rows if column.name in call.cells else ():
                row["f"][index] = {"v": call.cells[column.name]}
        after = start + len(rows)
        return rows, ({"pageToken": _token(after)} if rows and after < table.rows else {})

    def _named_table(self, call: Call, permission: str = "bigquery.tables.get") -> Table:
        names = call.names
        return self._catalog.readable_table(names["project"], names["dataset"], names["table"], permission)

    def _drive(self, call: Call) -> bool:
        return self._tokens.reads_drive(call.token)

    def _named_job(self, call: Call) -> Job:
        return self._jobs.get(call.names["project"], call.names["job"], call.query.get("location"))


def _dry_query(resource: Json) -> Json:
    statistics = resource["statistics"]["query"]
    return {
        "kind": "bigquery#queryResponse",
        "schema": statistics["schema"],
        "jobReference": resource["jobReference"],
        "jobComplete": True,
        "cacheHit": False,
    } | {key: statistics[key] for key in ("totalBytesProcessed",) if key in statistics}


def _page(entries: Sequence[T], call: Call) -> tuple[Sequence[T], Json]:
    start = _read_token(call) if call.query.get("pageToken") else 0
    after = start + call.number("maxResults", _DEFAULT_PAGE_ENTRIES)
    return entries[start:after], ({"nextPageToken": _token(after)} if after < len(entries) else {})


def _token(position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"row": position}).encode()).decode()


def _read_token(call: Call) -> int:
    try:
        return int(json.loads(base64.urlsafe_b64decode(call.query["pageToken"]))["row"])
    except (ValueError, KeyError, TypeError):
        raise invalid("Invalid value for: pageToken is not a valid value") from None


_PROJECT = "projects/(?P<project>[^/]+)"
_DATASET = f"{_PROJECT}/datasets/(?P<dataset>[^/]+)"
_TABLE_PATH = f"{_DATASET}/tables/(?P<table>[^/]+)"
_JOB = f"{_PROJECT}/jobs/(?P<job>[^/]+)"
_TABLE = [
    (verb, name, re.compile(pattern))
    for verb, name, pattern in (
        ("GET", "projects.list", "projects"),
        ("GET", "datasets.list", f"{_PROJECT}/datasets"),
        ("GET", "datasets.get", _DATASET),
        ("GET", "tables.list", f"{_DATASET}/tables"),
        ("GET", "tables.get", _TABLE_PATH),
        ("GET", "tabledata.list", f"{_TABLE_PATH}/data"),
        ("POST", "jobs.insert", f"{_PROJECT}/jobs"),
        ("GET", "jobs.list", f"{_PROJECT}/jobs"),
        ("GET", "jobs.get", _JOB),
        ("POST", "jobs.cancel", f"{_JOB}/cancel"),
        ("POST", "jobs.query", f"{_PROJECT}/queries"),
        ("GET", "jobs.getQueryResults", f"{_PROJECT}/queries/(?P<job>[^/]+)"),
    )
]
