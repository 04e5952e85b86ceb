"""What travels between the rooms, and in which shape.

Sizes are bytes, times are RFC 3339 UTC, money is USD. `None` is "not known", `0` is zero: they are never the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import not_
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Dialect = Literal["bigquery", "duckdb"]
Mode = Literal["NULLABLE", "REQUIRED", "REPEATED"]
QueryMode = Literal["local", "remote"]
SourceType = Literal["bigquery", "local", "attached"]
AggregateFunction = Literal["count", "count_if", "count_distinct", "approx_count_distinct", "sum", "avg", "min", "max"]
Verdict = Literal["ok", "needs_approval", "over_scan_cap", "over_daily_quota", "price_unknown"]
QuotaStore = Literal["process", "file", "postgresql"]  # the day's books: of this process, `data_dir` or a database

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
    location: str = ""  # BigQuery: where its jobs run; "" is where BigQuery says that the table is
    source_schema: str = "main"  # local: the schema of that table
    place: str = ""  # BigQuery: `project.dataset.table`, which the table is by, whatever its id; the registry sets it
    attach: tuple[str, str, str, str] | None = None  # attached: see `sources.extensions`; `bucket` is its schema there
    path: str = ""  # local: a file, a glob or a folder, absolute
    csv: dict[str, Any] = Field(default_factory=dict)  # local: how its text is read, by the names of the configuration
    hive: bool | None = None  # local: whether folders like `key=value` are columns; None: where they look like it
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
    """How a table is cut: `column` is None for ingestion time; `type` is HOUR, DAY, MONTH, YEAR, RANGE, HIVE, SHARD.
    `also`: of a view over several tables that require a filter, the other columns that have to be filtered too."""

    column: str | None = None
    type: str = "DAY"
    filter_required: bool = False
    also: list[str] = Field(default_factory=list, exclude_if=not_)


class TableSchema(Model):
    """What is known of a table without reading it. `rows` and `size_bytes` are None for a view."""

    table_id: str
    columns: list[Column]
    left_out: dict[str, str] = Field(default_factory=dict)  # columns that cannot be read, and why
    pseudo_columns: list[Column] = Field(default_factory=list)
    partition: Partition | None = None
    clustered_by: list[str] = Field(default_factory=list)
    primary_key: list[str] = Field(default_factory=list)
    description: str = ""
    entity_type: str = "BASE TABLE"
    rows: int | None = None
    size_bytes: int | None = None
    modified: datetime | None = None
    etag: str = ""  # the source's own word for this state of it; "" where it has none
    labels: dict[str, str] = Field(default_factory=dict)
    location: str = ""  # BigQuery: where jobs over it run
    heavy_values: dict[str, int] = Field(default_factory=dict)  # bytes that one may take, by column; "" for any of them
    longest_text: int = 0  # bytes that a text may take, as far as it can be told without reading; 0 where nothing tells
    always: str = ""  # a condition that every statement over it has: it is part of what the table is

    def column(self, name: str) -> Column | None:
        """The top-level column of that name, without regard to case; of several the first."""
        known = self.__dict__.get("_named")  # kept: who asks for each of 20,000 must not look through all of them
        if known is None or known[0] is not self.columns:  # a copy with other columns keeps what was found in the first
            known = self.__dict__["_named"] = self.columns, {c.name.casefold(): c for c in reversed(self.columns)}
        return known[1].get(name.casefold())

    def walk(self) -> Iterator[tuple[str, Column]]:
        """Every column and nested field with its dotted path."""
        stack = [(c.name, c) for c in reversed(self.columns)]
        while stack:
            yield (found := stack.pop())
            stack.extend((f"{found[0]}.{f.name}", f) for f in reversed(found[1].fields))


class Aggregate(Model):
    """One aggregate: `count` without a column, or of `*`, counts rows; `count_if` names a BOOL, every other function a
    column. Which functions there are is checked where the table is known, so that a refusal can say what to call."""

    function: Annotated[str, Field(json_schema_extra={"enum": list(get_args(AggregateFunction))})]
    column: str | None = None
    alias: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, given: Any) -> Any:
        given = {"function": given} if isinstance(given, str) else given
        if not isinstance(given, dict) or not isinstance(given.get("function"), str):
            return given
        folded = given["function"].strip().lower()
        every_row = {"column": None} if (folded, given.get("column")) == ("count", "*") else {}
        return {**given, "function": folded, **every_row}


class ScanRequest(Model):
    """What a scan asks for, unchecked: of one table, by the arguments below; or one SELECT over remote tables."""

    table_id: str = ""
    select: list[str] | None = None
    where: str = ""
    group_by: list[str] | None = None
    aggregates: list[Aggregate] | None = None
    order_by: list[str] | None = None
    limit: int | None = None
    googlesql: str = ""

    @property
    def of_every_column(self) -> bool:
        return self.select is None or "*" in self.select


class Statement(Model):
    """One SELECT that the server built. `columns` are the output columns' names, in order."""

    sql: str
    dialect: Dialect
    columns: list[str]
    source_columns: list[str]
    predicate_sql: str = ""  # the predicate as it was rendered; "" is none
    plain: bool = False  # a projection of whole columns: no predicate, grouping, order or limit
    limit: int | None = None
    bounded: bool = True  # what its predicate costs per row is bounded by the row; False: only where it can be killed
    places: dict[str, str] = Field(default_factory=dict)  # of a text over several tables: each id with its place
    alone: dict[str, str] = Field(default_factory=dict)  # what it reads of each of them, as a statement of its own
    advice: list[str] = Field(default_factory=list)


class Price(Model):
    """What a statement would cost. `scan_bytes` None: cannot be known; 0: served from files, nothing is billed."""

    scan_bytes: int | None
    reserved_bytes: int | None = None  # what to set aside: the bill's own rounding included
    repeat_bytes: int = 0  # of those: what reading all of it a second time may bill, where the first way may break
    least_bytes: int | None = None  # where `scan_bytes` is not known: what BigQuery says that it is at least
    path: Literal["local", "query_job", "direct_read", "preview", "snapshot"] = "local"
    referenced_tables: list[str] = Field(default_factory=list)
    referenced_routines: list[str] = Field(default_factory=list)
    statement_type: str = ""  # BigQuery's word for it

    @property
    def agreed_bytes(self) -> int:
        """What limits and persons are asked about: its bytes, or where these are not known the cap for that."""
        return (self.reserved_bytes or 0) if self.scan_bytes is None else self.scan_bytes + self.repeat_bytes

    def unknown(self) -> Price:
        """The same statement, of which it cannot be told what it would bill."""
        return self.model_copy(update={"scan_bytes": None, "reserved_bytes": None, "path": "query_job"})


class JobReference(Model):
    """What BigQuery must be told to be asked about one job."""

    project: str
    location: str = ""  # "" lets BigQuery look in its multi-regions
    job_id: str


class BudgetLeft(Model):
    """A budget that others spend from too."""

    kind: Literal["group", "project"]
    name: str
    bytes_limit: int
    bytes_left: int


class QuotaLeft(Model):
    """A principal's standing today. What is left is the least that its own and the shared budgets leave."""

    daily_bytes_used: int
    daily_bytes_assumed: int = Field(default=0, exclude_if=not_)  # of those: set aside, where the bill is not known
    daily_bytes_reserved: int
    daily_bytes_limit: int
    daily_bytes_left: int
    shared: list[BudgetLeft] = Field(default_factory=list, exclude_if=not_)
    warning: str | None = Field(default=None, exclude_if=not_)  # once most of a budget is taken
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
    job_id: str | None = None
    cache_hit: bool = False
    assumed: bool = False  # BigQuery does not say what was billed: `bytes_billed` is what was set aside


@dataclass(frozen=True)
class Principal:
    """Who asks, as a transport proved it. Grants are looked up by name on every call, never carried along."""

    name: str
    local: bool = False  # the OS user over stdio
    address: str = field(default="", compare=False)  # of the connection that the call came by


class Relation(NamedTuple):
    """Where a table stands in its engine: catalog and schema may be empty."""

    catalog: str
    schema: str
    name: str
    alias: str = ""

    def apart_from(self, schema: TableSchema) -> Relation:
        """The same table, by another name if a column has its own: `orders`.`id` would be the id of that column."""
        if schema.column(self.name) is None:
            return self
        return self._replace(alias=next(t for n in range(len(schema.columns) + 1) if not schema.column(t := f"t{n}")))


@dataclass
class Priced:
    """A request that has been checked and priced, ready to run."""

    table: Table
    schema: TableSchema
    request: ScanRequest
    statement: Statement
    price: Price
    beside: list[tuple[Table, TableSchema]] = field(default_factory=list)  # what else a text over several tables reads

    @property
    def reads(self) -> list[tuple[Table, TableSchema]]:
        """Every table that it reads."""
        return [(self.table, self.schema), *self.beside]

    @property
    def tables_shown(self) -> str:
        """What it reads, by id, for people and lists."""
        return ", ".join(table.id for table, _ in self.reads)


@dataclass(frozen=True)
class Consent:
    """Bytes that a person allowed, by the digest of the statement that will bill them. Empty: none was asked for."""

    allowed: Mapping[str, int] = field(default_factory=dict)

    def covers(self, priced: Priced) -> bool:
        return priced.price.agreed_bytes <= self.allowed.get(digest_of(priced.statement), -1)


def digest_of(statement: Statement) -> str:
    """What stands for a statement in a question and in the consent to it."""
    return hashlib.sha256(statement.sql.encode()).hexdigest()[:16]
