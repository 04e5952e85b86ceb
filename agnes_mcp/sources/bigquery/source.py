"""BigQuery as a `Source`. Importing this is cheap; Google's libraries load with the first question asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import JobReference, Price, Relation, Statement, Table, TableSchema
from agnes_mcp.sources import Reading, Source

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.config.settings import BigQuerySettings
    from agnes_mcp.sources.bigquery.attaching import MakeAttached, Parts
    from agnes_mcp.sources.bigquery.names import TablePath
    from agnes_mcp.sources.bigquery.readings import DirectReading, QueryReading
    from agnes_mcp.sources.bigquery.registered import Registered
    from agnes_mcp.sources.bigquery.requests import Attempts
    from agnes_mcp.sources.warehouse import Warehouse
#: What ends a read although BigQuery did its part.
_NOT_ITS_FAULT = (
    "result_too_large", "bytes_billed_cap_reached", "cancelled", "disk_full", "storage_failed", "snapshot_busy",
    "schema_drift", "invalid_argument",
)  # fmt: skip
_NEWEST_KEPT_S = 600.0  # for so long is the newest partition of a table taken for its newest
#: What passes: the dataset is still what it was when it was last listed.
_PASSING = ("bq_unreachable", "bq_upstream_error", "bq_rate_limited", "auth_failed")


class BigQuerySource(Source):
    """Tables of BigQuery. Blocking; safe to share between threads. `warehouse`: where the stream of whole columns is
    registered; without one it is read as it comes. `make_attached`: how the process with DuckDB's extension is made.
    """

    def __init__(
        self, settings: BigQuerySettings, warehouse: Warehouse | None = None, make_attached: MakeAttached | None = None
    ) -> None:
        self._settings = settings
        self._warehouse = warehouse
        self._make_attached = make_attached
        self._lock = threading.Lock()
        self._parts: Parts | None = None
        self._last_error = ""
        self._dataset_problems: dict[str, AgnesError] = {}  # of the last listing, replaced whole
        # One a family; read anew with its schema, which has its time.
        self._newest_shards: dict[TablePath, TablePath] = {}
        self._newest: dict[str, tuple[float, str]] = {}  # one a table that needs a filter, for `_NEWEST_KEPT_S`
        self._policied: set[TablePath] = set()  # tables that turned out to have row access policies
        self._listed: dict[str, list[Table]] = {}  # one a configured dataset, as last listed

    def schema(self, table: Table, call: Call) -> TableSchema:
        """One free `tables.get`, and of a view free dry runs, which tell whether it has to be filtered, and by what.

        Raises `bq_not_found`, `bq_forbidden` and the like; never runs a job.
        """
        from agnes_mcp.sources.bigquery.metadata import fetch_resource, schema_of
        from agnes_mcp.sources.bigquery.shards import family_schema, newest_shard

        with self._asking(table, call) as (parts, path, attempts):
            if path.is_family:
                rest, days_only = parts.clients.rest, table.discovered
                shards = newest_shard(rest, path, attempts, days_only=days_only)
                self._newest_shards[path] = shards.newest
                of = [schema_of(table, fetch_resource(rest, each, attempts)) for each in dict.fromkeys(shards)]
                return family_schema(of[0], of[-1], days_only=days_only)
            schema = schema_of(table, fetch_resource(parts.clients.rest, path, attempts))
        if schema.entity_type == "VIEW":
            from agnes_mcp.sources.bigquery.newest import find_required

            schema.partition = find_required(schema, lambda where: self._dry_bytes(table, schema, where, call), call)
        return schema

    def _dry_bytes(self, table: Table, schema: TableSchema, condition: str, call: Call) -> int | None:
        """What reading all of the table under that condition would take; free."""
        where = f" WHERE {condition}" if condition else ""
        sql = f"SELECT * FROM `{'.'.join(self.relation(table)[:3])}`{where}"  # noqa: S608 - checked names
        asked = Statement(sql=sql, dialect="bigquery", columns=[], source_columns=[], predicate_sql=condition)
        return self.price(table, schema, asked, call).scan_bytes

    def newest(self, table: Table, schema: TableSchema, call: Call) -> str:
        """Found by dry runs, free; kept for a while, so that what a person is asked about is what runs."""
        from agnes_mcp.sources.bigquery.newest import newest_condition, today_utc

        if "*" in table.source_table:
            family, newest = self._shard_of(table, schema, call)
            return f"_TABLE_SUFFIX = '{newest.table[len(family.table) - 1 :]}'"
        if schema.partition is None or not schema.partition.filter_required:
            return ""
        key = ".".join(self.relation(table)[:3])
        kept = self._newest.get(key)
        if kept is not None and time.monotonic() - kept[0] < _NEWEST_KEPT_S:
            return kept[1]
        found = newest_condition(schema, lambda where: self._dry_bytes(table, schema, where, call), today_utc())
        self._newest[key] = (time.monotonic(), found)
        return found

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        """Up to `n` rows by `tabledata.list`, free; None for what holds no rows of its own (views, external tables),
        and where BigQuery gives rows to a query only, as under row access policies."""
        from agnes_mcp.sources.bigquery.metadata import STORED, preview_rows

        family = "*" in table.source_table
        if schema.entity_type not in STORED and not family:
            return None
        newest = self._shard_of(table, schema, call)[1] if family else None
        with self._asking(table, call, schema) as (parts, path, attempts):
            path = newest or path
            try:
                return preview_rows(parts.clients.rest, path, schema, columns, n, attempts)
            except AgnesError as error:
                if error.kind != "bq_forbidden" or "columns" in error.details:
                    raise
                if "row_access_policies" in error.details:
                    self._policied.add(path)
        call.check()
        return None

    def _shard_of(self, table: Table, schema: TableSchema, call: Call) -> tuple[TablePath, TablePath]:
        """A family of shards, and its newest table."""
        from agnes_mcp.sources.bigquery.shards import newest_shard

        with self._asking(table, call, schema) as (parts, path, attempts):
            if path not in self._newest_shards:
                rest, days_only = parts.clients.rest, table.discovered
                self._newest_shards[path] = newest_shard(rest, path, attempts, days_only=days_only).newest
            return path, self._newest_shards[path]

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        """A dry run of exactly this statement; see `price_of` for what its figures mean."""
        from agnes_mcp.sources.bigquery.price import price_of

        with self._asking(table, call, schema, statement) as (parts, path, attempts):
            location = schema.location or self._settings.location  # where a job over the table runs
            price = price_of(parts.clients.rest, statement, schema, location, attempts)
        if path not in self._policied:
            return parts.attaching.may_repeat(price, statement, schema)
        # Row access policies hide how much is read, and "nothing" is one way in which BigQuery hides it.
        return price.unknown() if price.scan_bytes == 0 else price.model_copy(update={"path": "query_job"})

    @contextmanager
    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> Iterator[Reading]:
        """Run the statement along `price.path`. BigQuery is asked when the reading's `schema` or first row is.

        A query job bills at most `price.reserved_bytes`: BigQuery itself holds that cap. The receipt is exact after the
        `with` block, however it ended; an error that a job ended with holds `job_id` and `bytes_billed` in `details`.
        """
        with self._asking(table, call, schema, statement) as (parts, path, attempts):
            from agnes_mcp.sources.bigquery.refusals import only_by_query

            reading = self._reading(parts, path, attempts, schema, statement, price)
            try:
                yield reading
            except AgnesError as error:
                if price.path != "direct_read" or "row_access_policies" not in error.details:
                    raise
                self._policied.add(path)
                raise only_by_query(error) from None
            finally:
                reading.close()

    def relation(self, table: Table) -> Relation:
        """Project, dataset and table: the project is the table's own, or the configured one."""
        return Relation(table.project or self._settings.project, table.bucket, table.source_table)

    def discover(self, call: Call) -> list[Table]:
        """Every table of the configured `datasets`, by `tables.list`, free. Nothing is read of any single table.

        A dataset that is misspelt, forbidden or not to be reached hides no other: `health` names it, and what it held
        stays where that passes. Raises only what was wrong with every one of them.
        """
        problems: dict[str, AgnesError] = {}
        for dataset in self._settings.datasets:
            try:
                self._listed[dataset] = self._list(dataset, call)
            except AgnesError as error:
                if error.kind in ("cancelled", "timeout"):  # ends the call itself
                    raise
                problems[dataset] = error
                if error.kind not in _PASSING:
                    self._listed.pop(dataset, None)
        self._dataset_problems = problems
        if len(problems) == len(self._settings.datasets) and all(e.kind in _PASSING for e in problems.values()):
            raise next(iter(problems.values()))
        return [table for dataset in self._settings.datasets for table in self._listed.get(dataset, [])]

    def _list(self, dataset: str, call: Call) -> list[Table]:
        from agnes_mcp.sources.bigquery.metadata import list_dataset

        with self._asking(None, call) as (parts, _, attempts):
            return list_dataset(parts.clients.rest, self._settings.project, dataset, attempts)

    def learn_bill(self, job: JobReference, call: Call) -> int | None:
        """What a job of an earlier call was billed; see `jobs.learn_bill`."""
        from agnes_mcp.sources.bigquery.jobs import learn_bill

        with self._asking(None, call) as (parts, _, attempts):
            return learn_bill(parts.clients, attempts, job)

    def health(self) -> dict[str, Any]:
        """Token age, Storage Read's state, the last error's kind. No network, no secrets."""
        parts = self._parts
        state: dict[str, Any] = {"project": self._settings.project, "billing_project": self._settings.billed_project}
        if parts is not None:
            state["token"] = parts.clients.tokens.health()
            state["storage_read"] = parts.storage.problem or "ok"
            state["extension"] = parts.attaching.state()
        if self._last_error:
            state["last_error"] = self._last_error
        if self._dataset_problems:
            state["datasets"] = {
                name: {"error": problem.kind, "message": problem.message, "hint": problem.hint}
                for name, problem in self._dataset_problems.items()
            }
        return state

    def stand_ready(self, call: Call, registered: Sequence[Table]) -> float | None:
        """Attach the datasets of these tables and the configured ones, where `attach` says so; else see `health`."""
        named = [(table.project or self._settings.project, table.bucket) for table in registered]
        datasets = [*named, *((self._settings.project, name) for name in self._settings.datasets)]
        with self._asking(None, call) as (parts, _, _):
            return parts.attaching.stand_ready(list(dict.fromkeys(datasets)), call)

    def try_again(self) -> None:
        if self._parts is not None:
            self._parts.attaching.hurry()

    def close(self) -> None:
        with self._lock:
            parts, self._parts = self._parts, None
        if parts is not None:
            parts.attaching.close()
            parts.clients.close()

    @contextmanager
    def _asking(
        self, table: Table | None, call: Call, schema: TableSchema | None = None, statement: Statement | None = None
    ) -> Iterator[tuple[Parts, TablePath, Attempts]]:
        """What a question needs; notes the kind of the error it ends with. An error names what the question names."""
        from agnes_mcp.sources.bigquery.names import TablePath, table_path
        from agnes_mcp.sources.bigquery.refusals import Known, asks_for_filter
        from agnes_mcp.sources.bigquery.requests import Attempts

        try:
            parts = self._open()
            path = table_path(table, self._settings.project) if table is not None else TablePath("", "", "")
            known = None
            if table is not None:
                places = {path.dotted, *(statement.places.values() if statement else ())}
                known = Known(frozenset(places), frozenset(c.name for c in schema.columns) if schema else frozenset())
            yield parts, path, Attempts(call, parts.clients.tokens, {"table_id": table.id} if table else {}, known)
        except AgnesError as error:
            if error.kind not in _NOT_ITS_FAULT and not asks_for_filter(error.message):
                self._last_error = error.kind
            raise

    def _open(self) -> Parts:
        with self._lock:
            if self._parts is None:
                from agnes_mcp.sources.bigquery.attaching import Parts

                self._parts = Parts.of(self._settings, self._make_attached)
            return self._parts

    def _reading(
        self,
        parts: Parts,
        path: TablePath,
        attempts: Attempts,
        schema: TableSchema,
        statement: Statement,
        price: Price,
    ) -> DirectReading | QueryReading | Registered:
        from agnes_mcp.sources.bigquery.jobs import QueryJob
        from agnes_mcp.sources.bigquery.price import unpriced
        from agnes_mcp.sources.bigquery.readings import DirectReading, QueryReading, direct_columns
        from agnes_mcp.sources.bigquery.rows import TableRows

        if price.reserved_bytes is None:
            raise unpriced()
        if price.path != "direct_read":
            location = schema.location or self._settings.location
            job = QueryJob(parts.clients, attempts, statement.sql, price.reserved_bytes, location)
            return QueryReading(parts.clients, attempts, parts.storage, job)
        columns = direct_columns(statement, schema.columns)
        stream = TableRows(parts.clients, attempts, parts.storage, path, columns)
        rows = parts.attaching.rows(path, columns, price, attempts, stream)
        reading = DirectReading(rows, columns, price.reserved_bytes, attempts.call)
        if self._warehouse is None:
            return reading
        from agnes_mcp.sources.bigquery.registered import Registered

        return Registered(reading, self._warehouse, attempts.call)
