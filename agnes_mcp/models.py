"""What travels between the rooms, and in which shape.

Sizes are bytes, times are RFC 3339 UTC, money is USD. `None` is "not known", `0` is zero: they are never the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Dialect = Literal["bigquery", "duckdb"]
Mode = Literal["NULLABLE", "REQUIRED", "REPEATED"]
QueryMode = Literal["local", "remote"]
SourceType = Literal["bigquery", "local"]
AggregateFunction = Literal["count", "count_distinct", "approx_count_distinct", "sum", "avg", "min", "max"]
Verdict = Literal["ok", "needs_approval", "over_scan_cap", "over_daily_quota"]

#: A table's id, and every part of it that is fixed by us. Always matched whole.
TABLE_ID_PATTERN = r"[a-z0-9_]{1,64}"


class Model(BaseModel):
    """Built on first use: a process that only shakes hands needs none of them."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Table(Model):
    """One registered table: where it is, and what is said of it. Stays in the engine: `path` is of this machine."""

    id: str
    name: str = ""
    description: str = ""
    source_type: SourceType
    query_mode: QueryMode = "local"
    bucket: str = ""  # BigQuery: the dataset
    source_table: str = ""  # BigQuery: the table's name; local: a table inside a DuckDB file
    project: str = ""  # BigQuery: the project that holds the table; "" is the configured one
    path: str = ""  # local: a file, a glob or a folder, absolute
    primary_key: list[str] = Field(default_factory=list)
    discovered: bool = False

    @property
    def dialect(self) -> Dialect:
        return "bigquery" if self.source_type == "bigquery" else "duckdb"


class Column(Model):
    """One column, or one field of a STRUCT. `type` is the source's own word for it (`INT64`, `VARCHAR`, `STRUCT`)."""

    name: str
    type: str
    mode: Mode = "NULLABLE"
    description: str = ""
    fields: list[Column] = Field(default_factory=list)


class Partition(Model):
    """How a table is cut: `column` is None for ingestion time; `type` is HOUR, DAY, MONTH, YEAR, RANGE or HIVE."""

    column: str | None = None
    type: str = "DAY"
    filter_required: bool = False


class TableSchema(Model):
    """What is known of a table without reading it. `rows` and `size_bytes` are None for a view."""

    table_id: str
    columns: list[Column]
    pseudo_columns: list[Column] = Field(default_factory=list)
    partition: Partition | None = None
    clustered_by: list[str] = Field(default_factory=list)
    primary_key: list[str] = Field(default_factory=list)
    description: str = ""
    entity_type: str = "BASE TABLE"
    rows: int | None = None
    size_bytes: int | None = None
    modified: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    def column(self, name: str) -> Column | None:
        """The top-level column of that name, without regard to case."""
        folded = name.casefold()
        return next((c for c in self.columns if c.name.casefold() == folded), None)

    def walk(self) -> Iterator[tuple[str, Column]]:
        """Every column and nested field with its dotted path."""
        stack = [(c.name, c) for c in reversed(self.columns)]
        while stack:
            path, column = stack.pop()
            yield path, column
            stack.extend((f"{path}.{f.name}", f) for f in reversed(column.fields))


class Aggregate(Model):
    """One aggregate: `count` without a column counts rows; every other function names a column."""

    function: AggregateFunction
    column: str | None = None
    alias: str | None = None


class ScanRequest(Model):
    """What a scan asks for, before anything of it has been checked. `where` is the agent's text; "" is no predicate."""

    table_id: str
    select: list[str] | None = None
    where: str = ""
    group_by: list[str] | None = None
    aggregates: list[Aggregate] | None = None
    order_by: list[str] | None = None
    limit: int | None = None


class Statement(Model):
    """One SELECT that the server built. `columns` are the output columns' names, in order."""

    sql: str
    dialect: Dialect
    columns: list[str]
    source_columns: list[str]
    predicate_sql: str = ""  # the predicate as it was rendered; "" is none
    plain: bool = False  # a projection of whole columns: no predicate, grouping, order or limit
    limit: int | None = None


class Price(Model):
    """What a statement would cost. `scan_bytes` None: cannot be known; 0: served from files, nothing is billed."""

    scan_bytes: int | None
    reserve_bytes: int | None = None  # what to set aside: the bill's own rounding included
    path: Literal["local", "query_job", "direct_read", "preview", "snapshot"] = "local"
    referenced_tables: list[str] = Field(default_factory=list)


class QuotaLeft(Model):
    """A principal's standing today."""

    daily_bytes_used: int
    daily_bytes_reserved: int
    daily_bytes_limit: int
    daily_bytes_left: int
    running_scans: int
    max_concurrent_scans: int
    resets_at: datetime
    seconds_to_reset: int


class Progress(Model):
    """How far a running call is. `total` None: not known."""

    done: float
    total: float | None = None
    message: str = ""


class Receipt(Model):
    """What a read cost, once it is over."""

    bytes_billed: int = 0
    bytes_processed: int | None = None
    job_id: str | None = None
    cache_hit: bool = False


class Rows(Model):
    """Rows for an agent: columns once, then arrays."""

    columns: list[str]
    rows: list[list[Any]]


class SnapshotFacts(Model):
    """What was asked, of which table, and what it cost: what the gateway knows of a snapshot before its rows arrive.

    `where` is the agent's text, `where_sql` the predicate as it was rendered for the engine (the one that is compared).
    `columns` of the source at the time of the fetch stay in `source_columns`, so that drift can be named later.
    """

    table_id: str
    select: list[str] | None = None
    where: str = ""
    where_sql: str = ""
    group_by: list[str] | None = None
    aggregates: list[Aggregate] | None = None
    order_by: list[str] | None = None
    limit: int | None = None
    entity_type: str = ""
    source_columns: list[Column] = Field(default_factory=list)
    effective_as_of: AwareDatetime | None = None  # when the source evaluated the request; None: when it was fetched
    expires_at: AwareDatetime | None = None
    estimated_scan_bytes_at_fetch: int | None = None
    bytes_billed: int | None = None
    job_id: str | None = None
    sql: str = ""

    def request(self) -> ScanRequest:
        """The request that made it, to be run again."""
        asked = {name: getattr(self, name) for name in ScanRequest.model_fields}
        return ScanRequest.model_validate(asked)

    def again(self) -> SnapshotFacts:
        """The facts of a refresh, to be filled: without what only the earlier run knew (time, job, bill)."""
        kept = {name: getattr(self, name) for name in SnapshotFacts.model_fields}
        return SnapshotFacts.model_validate({**kept, "effective_as_of": None, "bytes_billed": None, "job_id": None})


class Snapshot(SnapshotFacts):
    """One Parquet file of a principal, and what is known of it. Holds no path.

    `columns` have the types that DuckDB gives them; `damaged` says why its rows cannot be served, None: they can.
    """

    table_id: str = ""  # not known of some damaged ones
    name: str
    principal: str = ""
    fetched_at: AwareDatetime | None = None
    rows: int | None = None
    bytes_local: int = 0
    columns: list[Column] = Field(default_factory=list)
    content_hash: str = ""
    file_sha256: str = ""
    format_version: int = 1
    damaged: str | None = None
    expired: bool = False
    stale: bool = False

    @property
    def complete(self) -> bool:
        """Whether it holds every row that matched: no limit was given, or the limit was not reached."""
        return self.rows is not None and (self.limit is None or self.rows < self.limit)


class SnapshotWrite(Model):
    """A snapshot that was written, and what its owner should know (`warnings`: over quota, …)."""

    snapshot: Snapshot
    warnings: list[str] = Field(default_factory=list)


class SnapshotRefresh(Model):
    """What a refresh changed. `identical`: the same rows again, so the file was kept and only the times moved on."""

    name: str
    identical: bool
    rows_old: int | None
    rows_new: int
    bytes_local_old: int
    bytes_local_new: int
    effective_as_of_old: AwareDatetime | None
    effective_as_of_new: AwareDatetime
    snapshot: Snapshot
    warnings: list[str] = Field(default_factory=list)


class PrunedSnapshot(Model):
    name: str
    bytes_local: int
    fetched_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


class SnapshotPrune(Model):
    """What was dropped, or with `dry_run` would be; `busy` matched too, but were being written."""

    dropped: list[PrunedSnapshot] = Field(default_factory=list)
    busy: list[str] = Field(default_factory=list)
    freed_bytes: int = 0
    dry_run: bool = False


class DiskUsage(Model):
    """Where snapshots are and what they take. `used_bytes` counts every file below the folder."""

    snapshots_dir: str
    used_bytes: int
    snapshot_count: int
    free_bytes: int
    quota_gb: float
