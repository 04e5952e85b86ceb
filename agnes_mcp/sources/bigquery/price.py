"""What a statement would bill: a dry run of exactly that statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Statement, TableSchema
from agnes_mcp.sources.bigquery.fields import count_of
from agnes_mcp.sources.bigquery.requests import NO_RETRY, Attempts

if TYPE_CHECKING:
    from google.cloud import bigquery

MIB = 2**20
#: "a minimum of 10 MB data processed per table referenced by the query": https://cloud.google.com/bigquery/pricing
MINIMUM_PER_TABLE_BYTES = 10 * MIB
#: Failures that leave the price unknown. Whatever else a dry run says, the statement itself would be told too.
_UNKNOWN_PRICE = ("bq_upstream_error", "bq_unreachable", "bq_response_too_large")


def price_of(
    client: bigquery.Client, statement: Statement, schema: TableSchema, location: str, attempts: Attempts
) -> Price:
    """The bytes that BigQuery says it would process, and the most it can bill for them.

    `path` is `direct_read` for a plain projection of a base table: no job runs, and Storage Read bills the bytes it
    reads, which are those of the selected columns: the same figure as the dry run's, at a lower rate. `scan_bytes` is
    None where BigQuery itself cannot tell (federated sources, row access policies): then it is never a direct read,
    as only a job has a cap that BigQuery holds, and `least_bytes` is the lower bound that it gave. Raises
    `estimate_failed` when no dry run came about, and BigQuery's own complaint about the statement as it is.
    """
    job = _dry_run(client, statement.sql, location, attempts)
    tables = sorted({f"{t.project}.{t.dataset_id}.{t.table_id}" for t in job.referenced_tables})
    scan_bytes = scan_bytes_of(job)
    if scan_bytes == 0 and _must_read(statement, schema):
        scan_bytes = None
    billed = max(len(tables), len(statement.places))
    return Price(
        scan_bytes=scan_bytes,
        reserved_bytes=None if scan_bytes is None else reserved_bytes(scan_bytes, billed),
        least_bytes=_least_bytes(job) if scan_bytes is None else None,
        path="direct_read" if scan_bytes is not None and readable_directly(statement, schema) else "query_job",
        referenced_tables=tables,
        referenced_routines=_routines(job),
        statement_type=job.statement_type or "",
    )


def _routines(job: bigquery.QueryJob) -> list[str]:
    """The functions and procedures of a dataset that the statement calls."""
    query = (job._properties.get("statistics") or {}).get("query") or {}  # the client has no word for them
    listed = query.get("referencedRoutines") or []
    return [".".join(str(entry.get(key)) for key in ("projectId", "datasetId", "routineId")) for entry in listed]


def reserved_bytes(scan_bytes: int, tables: int) -> int:
    """The most that a query over `tables` tables can bill for `scan_bytes` bytes.

    The bill is rounded up per table, Σ max(10 MiB, bytes rounded up to MiB), and a dry run gives only the sum of
    bytes. The bill for it is highest when one table holds all of it and every other one costs its minimum.
    """
    rounded = -(-scan_bytes // MIB) * MIB
    return max(MINIMUM_PER_TABLE_BYTES, rounded) + max(0, tables - 1) * MINIMUM_PER_TABLE_BYTES


def readable_directly(statement: Statement, schema: TableSchema) -> bool:
    """Whether Storage Read gives the statement's rows without a job: whole columns of a base table and nothing else."""
    return (
        statement.plain
        and schema.entity_type == "BASE TABLE"
        and not (schema.partition is not None and schema.partition.filter_required)
        and {name.casefold() for name in statement.source_columns} <= {c.name.casefold() for c in schema.columns}
    )


def unpriced() -> AgnesError:
    """A statement that nothing was set aside for."""
    return AgnesError(
        "estimate_failed",
        "What this would cost is not known, so it was not run.",
        "Ask for something whose cost BigQuery can tell: a table instead of a federated source.",
    )


def _dry_run(client: bigquery.Client, sql: str, location: str, attempts: Attempts) -> bigquery.QueryJob:
    from google.cloud import bigquery

    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)

    def run(timeout_s: float) -> bigquery.QueryJob:
        return client.query(
            sql, config, location=location or None, retry=NO_RETRY, timeout=timeout_s, job_retry=NO_RETRY
        )

    try:
        return attempts.run("estimating the cost", run)
    except AgnesError as error:
        if error.kind not in _UNKNOWN_PRICE:
            raise
        failed = AgnesError(
            "estimate_failed",
            f"The cost could not be estimated, so nothing was run. {error.message}",
            error.hint,
            {**error.details, "cause": error.kind},
        )
    raise failed


def scan_bytes_of(job: bigquery.QueryJob) -> int | None:
    """None where BigQuery gives no figure, or one that the bill may pass: a lower bound is no price."""
    if _accuracy(job) in ("UNKNOWN", "LOWER_BOUND"):
        return None
    return stated_bytes_processed(job)


def stated_bytes_processed(job: Any) -> int | None:
    return _figure(lambda: job.total_bytes_processed)


def stated_bytes_billed(job: Any) -> int | None:
    """None where BigQuery does not say what the job was billed."""
    return _figure(lambda: job.total_bytes_billed)


def _figure(read: Callable[[], object]) -> int | None:
    """A figure of a job; Google's client raises for what is no number, or where there are no statistics."""
    try:
        return count_of(read())
    except (ValueError, TypeError, AttributeError):
        return None


def _least_bytes(job: bigquery.QueryJob) -> int | None:
    return (stated_bytes_processed(job) or None) if _accuracy(job) == "LOWER_BOUND" else None


def _accuracy(job: bigquery.QueryJob) -> str:
    statistics = job._properties.get("statistics") or {}  # the client has no public word for it
    return str((statistics.get("query") or {}).get("totalBytesProcessedAccuracy") or "")


def _must_read(statement: Statement, schema: TableSchema) -> bool:
    """Whether no bytes cannot be true: columns of a table with rows, and no condition by which BigQuery could leave
    out all of its partitions. A row access policy hides the figure so."""
    reads = statement.source_columns or statement.predicate_sql
    return bool(schema.size_bytes and reads and not statement.places) and not _may_prune(statement, schema)


def _may_prune(statement: Statement, schema: TableSchema) -> bool:
    """Whether its condition names what the table is cut by; every name in it is quoted, as the schema spells it."""
    cut_by = {column.name for column in schema.pseudo_columns}
    if schema.partition is not None and schema.partition.column is not None:
        cut_by.add(schema.partition.column)
    return any(f"`{name}`" in statement.predicate_sql for name in cut_by)
