"""A statement, understood: its result schema, the tables it names, its bytes, and the DuckDB SQL that answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.fields import Field, from_duckdb, from_sql_type
from agnes_mcp.stand_in.jobs.bill import Scan, billed, qualified, scans_of, schema_of
from agnes_mcp.stand_in.jobs.pruning import partition_filter, required_filter_missing
from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.sql.dialect import executable, refuse_repeated_names, to_duckdb
from agnes_mcp.stand_in.sql.functions import GEOGRAPHY_FUNCTIONS
from agnes_mcp.stand_in.sql.rows_read import rows_of
from agnes_mcp.stand_in.sql.signatures import refuse_mixed_types
from agnes_mcp.stand_in.sql.statement import Names, Resolved, bind_parameters, name_outputs, parse, resolve
from agnes_mcp.stand_in.sql.wording import refusal_of, unresolved_name
from agnes_mcp.stand_in.store import Store, bounds_of
from agnes_mcp.stand_in.tables import Statistics, Table
from agnes_mcp.stand_in.wire.replies import tag_denied

#: Types that DuckDB keeps as text or as a struct: only the statement's own typing tells them apart.
_HIDDEN_TYPES = frozenset({"BIGNUMERIC", "GEOGRAPHY", "RANGE"})
#: Within each of these the statement's own typing is BigQuery's; DuckDB's arithmetic sometimes answers another member.
_FAMILIES = (
    frozenset({"INT64", "FLOAT64", "NUMERIC", "BIGNUMERIC"}),
    frozenset({"DATE", "DATETIME", "TIMESTAMP"}),
    frozenset({"STRING", "JSON", "GEOGRAPHY", "BIGNUMERIC"}),
)
#: Functions whose answer changes from call to call, so that a result is never taken from the cache.
_VOLATILE = (exp.CurrentDate, exp.CurrentTimestamp, exp.CurrentDatetime, exp.CurrentTime, exp.Rand, exp.Uuid)

#: How `referencedTables` lists a statement over views: which of the three BigQuery does is not documented.
References = Literal["bases", "named", "both"]


@dataclass
class Analysis:
    """`fields` are the result's columns; `referenced` the stored tables it reads, `opened` the views it reads them
    through, `named` those of both that the text itself names; `bytes_by_table` what each stored table would cost."""

    sql: str
    duckdb_sql: str
    fields: tuple[Field, ...]
    referenced: list[Table]
    opened: list[Table]
    bytes_by_table: dict[Table, int] = field(default_factory=dict)
    deterministic: bool = True
    location: str | None = None
    named: list[Table] = field(default_factory=list)
    routines: list[Routine] = field(default_factory=list)

    def references(self, listing: References) -> list[dict[str, str]]:
        """As `referencedTables`, which may list a statement's base tables, the names it writes, or views and both."""
        tables = {"bases": self.referenced, "named": self.named, "both": [*self.opened, *self.referenced]}[listing]
        return [table.reference for table in dict.fromkeys(tables)]

    @property
    def hides_bytes(self) -> Statistics:
        """What is shown of its bytes: the least that one of its tables lets through."""
        hidden = {table.hides_bytes for table in self.referenced}
        return "absent" if "absent" in hidden else "zero" if "zero" in hidden else "shown"

    @property
    def bytes_processed(self) -> int:
        return sum(self.bytes_by_table.values())

    @property
    def bytes_estimated(self) -> int:
        """What a dry run says: of external tables it knows nothing beforehand."""
        return sum(read for table, read in self.bytes_by_table.items() if table.kind != "EXTERNAL")

    @property
    def accuracy(self) -> str:
        """BigQuery's word for how good the estimate is."""
        told = [table.accuracy for table in [*self.referenced, *self.opened] if table.accuracy]
        if told:
            return told[0]
        if any(table.kind == "EXTERNAL" for table in self.bytes_by_table):
            return "LOWER_BOUND"
        return "UPPER_BOUND" if any(table.clustering for table in self.bytes_by_table) else "PRECISE"

    @property
    def bytes_billed(self) -> int:
        return sum(billed(read) for read in self.bytes_by_table.values())


def analyse(
    sql: str,
    catalog: Catalog,
    store: Store,
    names: Names,
    location: str | None = None,
    parameters: Callable[[str | int], exp.Expr] | None = None,
    priced: bool = True,
) -> Analysis:
    """Understand `sql` without reading a row. Raises `ApiError` in BigQuery's words for whatever is wrong with it.

    What is not `priced` is a view's definition: it may lack a filter that its reader will give.
    """
    query = parse(sql, names)
    if parameters is not None:
        bind_parameters(query, parameters)
    name_outputs(query)
    resolved = resolve(query, catalog, names, location)
    tree = _qualify(resolved, sql)
    rows = {table: rows_of(table) for table in resolved.tables.values()}
    duckdb_sql = executable(resolved.query, resolved.tables, rows, sql)
    with store.cursor() as cursor:
        computed = _computed_fields(cursor, duckdb_sql, sql)
        fields = _typed_fields(computed, tree, resolved)
        sizes: dict[Table, int] = {}
        for scan in scans_of(resolved, tree) if priced else ():
            _refuse_tagged(scan)
            sizes |= _scan_bytes(cursor, scan)
    return Analysis(
        sql,
        duckdb_sql,
        fields,
        list(sizes),
        resolved.opened,
        sizes,
        query.find(*_VOLATILE) is None,
        resolved.location,
        resolved.named,
        resolved.routines,
    )


def _refuse_tagged(scan: Scan) -> None:
    for table in scan.table.shards.values() or (scan.table,):
        for leaf in sorted(scan.leaves):
            column = leaf.split(".")[0]
            if column in table.policy_tags:
                raise tag_denied(table.policy_tags[column], f"{table.dotted}.{column}")


def _qualify(resolved: Resolved, sql: str) -> exp.Expr:
    try:
        return qualified(resolved)
    except SqlglotError as error:
        raise unresolved_name(str(error), resolved.query, sql, list(resolved.tables.values())) from None


def _computed_fields(cursor: duckdb.DuckDBPyConnection, duckdb_sql: str, sql: str) -> list[Field]:
    """The result's columns as DuckDB types them."""
    try:
        described = cursor.execute(f"SELECT * FROM ({duckdb_sql}) LIMIT 0").description or []  # noqa: S608 - rendered
    except duckdb.Error as error:
        raise refusal_of(error, sql) from None
    return [from_duckdb(column[0], column[1]) for column in described]


def _typed_fields(computed: list[Field], tree: exp.Expr, resolved: Resolved) -> tuple[Field, ...]:
    """The result's columns as BigQuery types them. Raises for two of one name and for operands that do not mix."""
    annotated = annotate_types(tree, schema=schema_of(resolved), dialect="bigquery")
    refuse_mixed_types(annotated)
    projections = annotated.selects if isinstance(annotated, exp.Query) else []
    if len(projections) != len(computed):
        return tuple(computed)
    refuse_repeated_names([projection.alias_or_name for projection in projections])
    return tuple(_typed(seen, projection) for seen, projection in zip(computed, projections, strict=True))


def _typed(computed: Field, projection: exp.Expr) -> Field:
    """`computed`, typed as the statement itself types it where DuckDB has no word for that or answers a near one."""
    call = projection.unalias()
    if isinstance(call, exp.Anonymous) and call.name.upper() in GEOGRAPHY_FUNCTIONS:
        return Field(computed.name, "GEOGRAPHY")
    kind = projection.type
    written = kind.sql("bigquery").upper() if kind is not None else ""
    near = any(written in family and computed.type in family for family in _FAMILIES) and not computed.repeated
    if kind is None or not (near or any(name in written for name in _HIDDEN_TYPES)):
        return computed
    return from_sql_type(computed.name, kind).without_requirement()


def _scan_bytes(cursor: duckdb.DuckDBPyConnection, scan: Scan) -> dict[Table, int]:
    """The bytes of the scanned leaves in the partitions, or the shards, that some reading of the table needs."""
    table = scan.table
    if table.shards:
        read = _kept_shards(cursor, table, [partition_filter(table, conditions) for conditions in scan.filters])
        return {shard: sum(s.bytes_of(scan.leaves) for s in shard.segments) for shard in read}
    filters = [partition_filter(table, conditions) for conditions in scan.filters]
    if table.partition and table.partition.require_filter and any(condition is None for condition in filters):
        raise required_filter_missing(table)
    kept = _kept_partitions(cursor, table, filters)
    return {table: sum(s.bytes_of(scan.leaves) for s in table.segments if kept is None or s.id in kept)}


def _kept_shards(cursor: duckdb.DuckDBPyConnection, table: Table, filters: list[exp.Expr | None]) -> list[Table]:
    usable = [condition for condition in filters if condition is not None]
    if not usable or len(usable) < len(filters):
        return list(table.shards.values())
    suffixes = ", ".join("('" + suffix.replace("'", "''") + "')" for suffix in table.shards)
    # S608: literals, and a condition rendered from its tree
    sql = f"SELECT low FROM (SELECT s AS low, s AS high FROM (VALUES {suffixes}) AS r(s)) WHERE {to_duckdb(exp.or_(*usable))}"  # noqa: S608, E501
    try:
        return [table.shards[row[0]] for row in cursor.execute(sql).fetchall()]
    except duckdb.Error as error:
        raise refusal_of(error) from None


def _kept_partitions(
    cursor: duckdb.DuckDBPyConnection, table: Table, filters: list[exp.Expr | None]
) -> set[str] | None:
    usable = [condition for condition in filters if condition is not None]
    if table.partition is None or not usable or len(usable) < len(filters):
        return None
    condition = to_duckdb(exp.or_(*usable))
    sql = f"SELECT id FROM {bounds_of(table)} WHERE id = '__UNPARTITIONED__' OR ({condition})"  # noqa: S608 - rendered
    try:
        return {row[0] for row in cursor.execute(sql).fetchall()}
    except duckdb.Error as error:
        raise refusal_of(error) from None
