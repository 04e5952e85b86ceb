"""What the stand-in knows of a table: its columns, its partitions with their bytes, and its REST resource."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from agnes_mcp.stand_in.fields import Field

Kind = Literal["TABLE", "VIEW", "MATERIALIZED_VIEW", "EXTERNAL", "SNAPSHOT"]
#: How a statement's statistics show its bytes: as they are, left out, or as "0".
Statistics = Literal["shown", "absent", "zero"]

#: Kinds whose rows are stored by BigQuery and may be read without a query.
READABLE = ("TABLE", "SNAPSHOT")
#: Columns of an ingestion-time partitioned table that `*` leaves out.
PSEUDO_COLUMNS = (Field("_PARTITIONTIME", "TIMESTAMP"), Field("_PARTITIONDATE", "DATE"))

TABLE_SUFFIX = Field("_TABLE_SUFFIX", "STRING")


@dataclass(frozen=True)
class Partition:
    """How a table is cut. `field` None is ingestion time; `type` is HOUR, DAY, MONTH, YEAR or RANGE (with bounds)."""

    field: str | None = None
    type: str = "DAY"
    require_filter: bool = False
    start: int = 0
    end: int = 0
    interval: int = 0
    expiration_ms: int | None = None

    def rest(self) -> dict[str, Any]:
        if self.type == "RANGE":
            numbers = {key: str(getattr(self, key)) for key in ("start", "end", "interval")}
            answer: dict[str, Any] = {"rangePartitioning": {"field": self.field, "range": numbers}}
        else:
            cut: dict[str, Any] = {"type": self.type}
            if self.field:
                cut["field"] = self.field
            if self.expiration_ms is not None:
                cut["expirationMs"] = str(self.expiration_ms)
            if self.require_filter:
                cut["requirePartitionFilter"] = True
            answer = {"timePartitioning": cut}
        if self.require_filter:
            answer["requirePartitionFilter"] = True
        return answer


@dataclass(frozen=True)
class Segment:
    """One stored partition: its id, its rows, and the logical bytes of each leaf column in it."""

    id: str
    rows: int
    leaf_bytes: dict[str, int]

    def bytes_of(self, leaves: Iterable[str]) -> int:
        return sum(self.leaf_bytes.get(leaf, 0) for leaf in leaves)


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(eq=False)
class Table:
    """One table or view. `physical` is its DuckDB name, quoted; views have none and carry `view_sql` instead.

    Switches, which may be set at any time: `accuracy` is what dry runs say of their estimate, where it is not what
    BigQuery would say; `statistics` hides the bytes of every statement over the table; `row_filter` is a row access
    policy, the GoogleSQL condition of the rows that the caller may see ("FALSE": none); `policy_tags` are the columns
    that the caller may not read, each with its tag; `forbidden` denies the table itself; `drive` is an external table
    that only a token with Drive's scope opens.
    """

    project: str
    dataset: str
    name: str
    kind: Kind = "TABLE"
    fields: tuple[Field, ...] = ()
    physical: str = ""
    view_sql: str = ""
    location: str = "US"
    partition: Partition | None = None
    clustering: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    description: str = ""
    friendly_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    expires_ms: int | None = None
    created_ms: int = field(default_factory=now_ms)
    modified_ms: int = field(default_factory=now_ms)
    accuracy: str = ""
    statistics: Statistics = "shown"
    row_filter: str = ""
    policy_tags: dict[str, str] = field(default_factory=dict)
    forbidden: bool = False
    drive: bool = False
    past: list[tuple[datetime, Table]] = field(default_factory=list)  # earlier states, each with when it ended
    shards: dict[str, Table] = field(default_factory=dict)  # of a wildcard: its tables by `_TABLE_SUFFIX`

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)

    @property
    def bytes(self) -> int:
        return sum(sum(segment.leaf_bytes.values()) for segment in self.segments)

    @property
    def expired(self) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms()

    @property
    def label(self) -> str:
        """As error messages name it."""
        return f"{self.project}:{self.dataset}.{self.name}"

    @property
    def dotted(self) -> str:
        return f"{self.project}.{self.dataset}.{self.name}"

    @property
    def reference(self) -> dict[str, str]:
        return {"projectId": self.project, "datasetId": self.dataset, "tableId": self.name}

    @property
    def hides_bytes(self) -> Statistics:
        """A row access policy hides how much was read, as BigQuery's does."""
        return "absent" if self.statistics == "shown" and self.row_filter else self.statistics

    @property
    def pseudo_fields(self) -> tuple[Field, ...]:
        if self.shards:
            return (TABLE_SUFFIX,)
        ingested = self.partition is not None and self.partition.field is None
        return PSEUDO_COLUMNS if ingested else ()

    def leaves(self) -> list[tuple[str, Field]]:
        return [leaf for column in self.fields for leaf in column.leaves()]

    def listed(self) -> dict[str, Any]:
        """As an entry of tables.list."""
        answer: dict[str, Any] = {
            "kind": "bigquery#table",
            "id": self.label,
            "tableReference": self.reference,
            "type": self.kind,
            "creationTime": str(self.created_ms),
        }
        answer |= self._common()
        if self.kind in ("VIEW", "MATERIALIZED_VIEW"):
            answer["view" if self.kind == "VIEW" else "materializedView"] = {"useLegacySql": False}
        return answer

    def rest(self) -> dict[str, Any]:
        """As the Table resource that tables.get answers."""
        path = f"projects/{self.project}/datasets/{self.dataset}/tables/{self.name}"
        counted = self.kind not in ("VIEW", "EXTERNAL")
        rows, size = (str(self.rows), str(self.bytes)) if counted else ("0", "0")
        answer: dict[str, Any] = {
            "kind": "bigquery#table",
            "etag": f"etag-{self.modified_ms}",
            "id": self.label,
            "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/{path}",
            "tableReference": self.reference,
            "type": self.kind,
            "schema": {"fields": [self._column(column) for column in self.fields]},
            "location": self.location,
            "numRows": rows,
            "numBytes": size,
            "numLongTermBytes": "0",
            "numTotalLogicalBytes": size,
            "numActiveLogicalBytes": size,
            "numLongTermLogicalBytes": "0",
            "creationTime": str(self.created_ms),
            "lastModifiedTime": str(self.modified_ms),
        }
        if self.description:
            answer["description"] = self.description
        if self.primary_key:
            answer["tableConstraints"] = {"primaryKey": {"columns": list(self.primary_key)}}
        return answer | self._common() | self._definition()

    def _column(self, column: Field) -> dict[str, Any]:
        tag = self.policy_tags.get(column.name)
        named = f"projects/{self.project}/locations/{self.location.lower()}/taxonomies/1/policyTags/{tag}"
        return column.rest() | ({"policyTags": {"names": [named]}} if tag else {})

    def _common(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.partition.rest() if self.partition else {}
        if self.clustering:
            answer["clustering"] = {"fields": list(self.clustering)}
        if self.labels:
            answer["labels"] = dict(self.labels)
        if self.friendly_name:
            answer["friendlyName"] = self.friendly_name
        if self.expires_ms is not None:
            answer["expirationTime"] = str(self.expires_ms)
        return answer

    def _definition(self) -> dict[str, Any]:
        if self.kind == "VIEW":
            return {"view": {"query": self.view_sql, "useLegacySql": False}}
        if self.kind == "MATERIALIZED_VIEW":
            refresh = {"enableRefresh": True, "refreshIntervalMs": "1800000", "lastRefreshTime": str(self.modified_ms)}
            return {"materializedView": {"query": self.view_sql} | refresh}
        if self.kind == "EXTERNAL":
            kind, uri = ("PARQUET", f"gs://my-bucket/{self.name}/*.parquet")
            if self.drive:
                kind, uri = "GOOGLE_SHEETS", f"https://docs.google.com/spreadsheets/d/{self.name}"
            return {"externalDataConfiguration": {"sourceFormat": kind, "sourceUris": [uri]}}
        return {}


@dataclass(eq=False)
class Dataset:
    """`hidden` is a dataset of anonymous results; `forbidden` denies it and all that is in it; `gone` lists it, but
    nothing finds it any more."""

    project: str
    name: str
    location: str = "US"
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    hidden: bool = False
    forbidden: bool = False
    gone: bool = False
    created_ms: int = field(default_factory=now_ms)
    tables: dict[str, Table] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.project}:{self.name}"

    def listed(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "kind": "bigquery#dataset",
            "id": self.label,
            "datasetReference": {"datasetId": self.name, "projectId": self.project},
            "location": self.location,
        }
        return answer | ({"labels": dict(self.labels)} if self.labels else {})

    def rest(self) -> dict[str, Any]:
        times = {"creationTime": str(self.created_ms), "lastModifiedTime": str(self.created_ms)}
        described = {"description": self.description} if self.description else {}
        return self.listed() | {"type": "DEFAULT", "etag": f"etag-{self.created_ms}"} | times | described
