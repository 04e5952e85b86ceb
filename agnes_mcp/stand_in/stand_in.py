"""The stand-in itself: what it serves, how tables come into it, and its two ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.fields import Field, read_schema
from agnes_mcp.stand_in.googlesql.session import Names
from agnes_mcp.stand_in.jobs.queue import Jobs
from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.sql.analysis import References, analyse
from agnes_mcp.stand_in.store import Store, parquet_source, rows_source
from agnes_mcp.stand_in.tables import Dataset, Partition, Table
from agnes_mcp.stand_in.wire.faults import Faults, Request, Requests
from agnes_mcp.stand_in.wire.grpc import StorageRead
from agnes_mcp.stand_in.wire.rest import RestServer
from agnes_mcp.stand_in.wire.routes import Routes
from agnes_mcp.stand_in.wire.tokens import Tokens

Schema = str | Sequence[Mapping[str, Any] | Field]


class StandIn:
    """BigQuery on loopback: a context manager, or `start()` and `stop()`. Tables may be made at any time."""

    def __init__(
        self,
        project: str = "my-project",
        location: str = "US",
        *,
        require_token: bool = False,
        job_latency_s: float = 0.0,
        port: int = 0,
        grpc_port: int = 0,
        grpc_certificate: tuple[bytes, bytes] | None = None,
        threads: int | None = None,
    ) -> None:
        self.project = project
        self.location = location
        self.catalog = Catalog(project, location)
        self.store = Store(threads=threads)
        self.faults = Faults()
        self.requests = Requests()
        self.tokens = Tokens(require_token)
        self._jobs = Jobs(self.catalog, self.store, self.faults)
        self._jobs.latency_s = job_latency_s
        self._storage = StorageRead(self.catalog, self.store, self.faults, self.requests, self.tokens)
        self._ports = (port, grpc_port)
        self._grpc_certificate = grpc_certificate
        self._rest: RestServer | None = None
        self.api_endpoint = ""
        self.grpc_target = ""

    def start(self) -> StandIn:
        """Open both ports. `grpc_certificate` is a (private key, certificate chain) pair in PEM."""
        routes = Routes(self.catalog, self.store, self._jobs, self.tokens)
        self._rest = RestServer(self._ports[0], routes, self._jobs, self.faults, self.requests, self.tokens)
        self.api_endpoint = f"http://127.0.0.1:{self._rest.start()}"
        self.grpc_target = f"127.0.0.1:{self._storage.start(self._ports[1], self._grpc_certificate)}"
        return self

    def stop(self) -> None:
        """Close both ports and cancel what runs."""
        if self._rest is not None:
            self._rest.stop()
        self._storage.stop()
        self._jobs.cancel_all()
        self.store.close()

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def job_latency_s(self) -> float:
        """How long every job made from now on stays RUNNING at least."""
        return self._jobs.latency_s

    @job_latency_s.setter
    def job_latency_s(self, seconds: float) -> None:
        self._jobs.latency_s = seconds

    @property
    def bills_cancelled(self) -> bool:
        """Whether a job that was cancelled while it ran is billed in full, as BigQuery may do, or not at all."""
        return self._jobs.bills_cancelled

    @bills_cancelled.setter
    def bills_cancelled(self, billed: bool) -> None:
        self._jobs.bills_cancelled = billed

    @property
    def references(self) -> References:
        """What `referencedTables` lists: the base tables, the names that the text writes, or views and base tables."""
        return self._jobs.references

    @references.setter
    def references(self, listing: References) -> None:
        self._jobs.references = listing

    @property
    def max_streams(self) -> int:
        """The most streams a read session is given."""
        return self._storage.max_streams

    @max_streams.setter
    def max_streams(self, count: int) -> None:
        self._storage.max_streams = count

    def query_jobs(self) -> list[Request]:
        """The calls that made a query job: what is billed. Dry runs are none."""
        made = [*self.requests.named("jobs.insert"), *self.requests.named("jobs.query")]
        return sorted((call for call in made if not call.dry_run and call.status == 200), key=lambda call: call.at)

    def create_dataset(
        self,
        name: str,
        *,
        location: str | None = None,
        project: str | None = None,
        description: str = "",
        forbidden: bool = False,
        gone: bool = False,
    ) -> Dataset:
        """A dataset that is there already stays as it is; see `drop_dataset`."""
        dataset = Dataset(project or self.project, name, location or self.location, description)
        dataset.forbidden, dataset.gone = forbidden, gone
        return self.catalog.add_dataset(dataset)

    def create_table(
        self,
        dataset: str,
        name: str,
        schema: Schema | None = None,
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        parquet: str | Path | Iterable[str | Path] | None = None,
        arrow: pa.Table | None = None,
        sql: str | None = None,
        partition: Partition | None = None,
        ingested: str | None = None,
        snapshot: bool = False,
        **described: Any,
    ) -> Table:
        """A stored table, from one of `rows`, `parquet`, `arrow` or `sql` (a DuckDB SELECT); with none, an empty one.

        `schema` is GoogleSQL column definitions or REST fields, and is inferred where it is absent. `ingested` is a
        DuckDB expression over the source's columns: the load time of an ingestion-time partitioned table. `described`:
        clustering, primary_key, description, friendly_name, labels, expires_ms, project, and `descriptions`, the
        columns' by name.
        """
        fields = read_schema(schema) if schema is not None else None
        source, bound = self._source(fields, rows, parquet, arrow, sql)
        kind = "SNAPSHOT" if snapshot else "TABLE"
        table = self._table(dataset, name, kind, fields or self.store.infer(source, bound), described)
        table.partition = partition
        self.store.fill(table, source, ingested, bound)
        return self.catalog.add_table(table)

    def create_view(
        self, dataset: str, name: str, query: str, *, schema: Schema | None = None, **described: Any
    ) -> Table:
        """A view over GoogleSQL. `schema` adds descriptions; its columns are those of the query."""
        fields = read_schema(schema) if schema is not None else self._analysed(query, described)
        table = self._table(dataset, name, "VIEW", fields, described)
        table.view_sql = query
        return self.catalog.add_table(table)

    def create_materialized_view(self, dataset: str, name: str, query: str, **described: Any) -> Table:
        """A materialized view: its rows are those of now, and reading it costs its own bytes."""
        project = described.get("project") or self.project
        found = analyse(query, self.catalog, self.store, Names(project))
        table = self._table(dataset, name, "MATERIALIZED_VIEW", found.fields, described)
        table.view_sql = query
        self.store.fill(table, found.duckdb_sql)
        return self.catalog.add_table(table)

    def create_external(
        self,
        dataset: str,
        name: str,
        parquet: str | Path | Iterable[str | Path],
        *,
        schema: Schema | None = None,
        **described: Any,
    ) -> Table:
        """An external table over Parquet: only a query reads it; its metadata name no rows and no bytes."""
        source = parquet_source(parquet)
        fields = read_schema(schema) if schema is not None else self.store.infer(source)
        table = self._table(dataset, name, "EXTERNAL", fields, described)
        self.store.fill(table, source)
        return self.catalog.add_table(table)

    def create_routine(
        self, dataset: str, name: str, arguments: Iterable[str], body: str, *, project: str | None = None
    ) -> Routine:
        """A persistent SQL function: a GoogleSQL expression over its arguments."""
        routine = Routine(project or self.project, dataset, name, tuple(arguments), body)
        self.create_dataset(dataset, project=routine.project)
        self.catalog.routines[(routine.project, dataset, name)] = routine
        return routine

    def keep_past(self, table: Table, until: datetime, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rows that `table` held before `until`, for FOR SYSTEM_TIME AS OF; it then existed a week before it."""
        earlier = replace(table, name=f"{table.name}@{len(table.past)}", past=[])
        earlier.segments = []
        self.store.fill(earlier, rows_source(rows, table.fields))
        earlier.name = table.name
        table.past.append((until, earlier))
        table.created_ms = min(table.created_ms, int((until - timedelta(days=7)).timestamp() * 1000))

    def touch(self, table: Table) -> None:
        """As if the table had just been written: cached results of it no longer count."""
        table.modified_ms += 1

    def drop_dataset(self, name: str, *, project: str | None = None) -> None:
        self.catalog.drop_dataset(project or self.project, name)

    def drop_table(self, dataset: str, name: str, *, project: str | None = None) -> None:
        self.catalog.drop_table(project or self.project, dataset, name)

    def _source(
        self,
        fields: tuple[Field, ...] | None,
        rows: Sequence[Mapping[str, Any]] | None,
        parquet: str | Path | Iterable[str | Path] | None,
        arrow: pa.Table | None,
        sql: str | None,
    ) -> tuple[str, dict[str, pa.Table]]:
        if parquet is not None:
            return parquet_source(parquet), {}
        if arrow is not None:
            return "SELECT * FROM arrow_rows", {"arrow_rows": arrow}
        if sql is not None:
            return sql, {}
        if fields is None:
            raise ValueError("rows need a schema")
        return rows_source(rows or [], fields), {}

    def _table(
        self, dataset: str, name: str, kind: Any, fields: tuple[Field, ...], described: Mapping[str, Any]
    ) -> Table:
        rest = dict(described)
        project = rest.pop("project", None) or self.project
        self.create_dataset(dataset, project=project)
        for key in ("clustering", "primary_key"):
            rest[key] = tuple(rest.get(key) or ())
        told = rest.pop("descriptions", None) or {}
        fields = tuple(replace(field, description=told.get(field.name, field.description)) for field in fields)
        return Table(project, dataset, name, kind, fields, **rest)

    def _analysed(self, query: str, described: Mapping[str, Any]) -> tuple[Field, ...]:
        project = described.get("project") or self.project
        return analyse(query, self.catalog, self.store, Names(project), priced=False).fields
