"""A snapshot as it travels: what was asked, what it cost, what is known of its rows; and what became of it.

Sizes are bytes, times are RFC 3339 UTC. `None` is "not known", `0` is zero.
"""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from agnes_mcp.models import Aggregate, Column, Model, ScanRequest


class SnapshotFacts(Model):
    """What was asked, of which table, and what it cost: what the gateway knows of a snapshot before its rows arrive.

    `where` is the agent's text, `where_sql` the predicate as it was rendered for the engine (the one that is compared).
    `columns` of the source at the time of the fetch stay in `source_columns`, so that drift can be named later.
    """

    table_id: str = ""
    place: str | None = None  # the table itself, whatever its id means later; None: fetched before places were kept
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
    cut_by: str | None = None  # why rows that were paid for are missing, as in `result_bytes`
    sql: str = ""
    googlesql: str = ""  # of rows of a text over several tables: that text, as it ran
    places: dict[str, str] = Field(default_factory=dict)  # and the tables in it, each id with its place

    @property
    def table_ids(self) -> list[str]:
        """The tables that its rows are of."""
        return list(self.places) or [self.table_id]

    @property
    def tables(self) -> list[tuple[str, str | None]]:
        """The same, each with its place; None: fetched before places were kept."""
        return list(self.places.items()) or [(self.table_id, self.place)]

    def request(self) -> ScanRequest:
        """The request that made it, to be run again."""
        asked = {name: getattr(self, name) for name in ScanRequest.model_fields}
        return ScanRequest.model_validate(asked)

    def again(self) -> SnapshotFacts:
        """The facts of a refresh, to be filled: without what only the earlier run knew (time, job, bill)."""
        kept = {name: getattr(self, name) for name in SnapshotFacts.model_fields}
        return SnapshotFacts.model_validate(
            {**kept, "effective_as_of": None, "bytes_billed": None, "job_id": None, "cut_by": None}
        )


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
        """Whether it holds every row that matched: nothing was cut, and no limit was given or it was not reached."""
        return self.rows is not None and self.cut_by is None and (self.limit is None or self.rows < self.limit)


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


class KeptChart(Model):
    """The specification of a chart, as JSON, with the tables that it shows; `snapshots` are the caller's own of them,
    with which it goes. Files of before have no `principal`."""

    spec: str
    principal: str = ""
    tables: list[str] = Field(default_factory=list)
    snapshots: list[str] = Field(default_factory=list)


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
    """Where snapshots are and what they take. `used_bytes` counts every file below the folder, charts too, and with
    the answer of `disk_info` also the tables that are kept as files for mirrors."""

    snapshots_dir: str
    used_bytes: int
    snapshot_count: int
    chart_count: int = 0
    free_bytes: int
    quota_gb: float
    retention: str | None = None  # what removes snapshots that nobody drops, in words
