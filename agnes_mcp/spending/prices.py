"""Bytes into money, rows, advice and refusals. Formulas only; nothing here reads a table."""

from __future__ import annotations

import re

from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Price, Priced, QuotaLeft, ScanRequest, Statement, TableSchema, Verdict

#: BigQuery bills by the TiB; its price list says "per TiB".
BYTES_PER_PRICED_UNIT = 2**40
#: Bytes that a value of a type takes, for guessing rows from bytes. Fixed widths are BigQuery's documented sizes; text
#: and bytes are typical lengths.
_TYPE_BYTES = {
    "INT64": 8, "FLOAT64": 8, "DATE": 8, "TIMESTAMP": 8, "DATETIME": 8, "TIME": 8,
    "BIGINT": 8, "DOUBLE": 8, "INTEGER": 8, "STRING": 32, "VARCHAR": 32, "BYTES": 64, "BLOB": 64,
    "BOOL": 1, "BOOLEAN": 1,
}  # fmt: skip
_OTHER_TYPE_BYTES = 16
# A literal of either dialect, or a quoted name: backticks in BigQuery, double quotes in DuckDB.
_LITERAL_OR_NAME = re.compile(r"""'(?:[^'\\]|\\.|'')*'|[`"](?P<name>[^`"]+)[`"]""", re.DOTALL)
_COSTLY_SHARE = 0.2
_COSTLY_COLUMNS = 3


def cost_usd(scan_bytes: int | None, usd_per_tb: float) -> float | None:
    """bytes / 2^40 × price, to a hundredth of a cent, and where that is nothing to 10^-8 USD. None stays None."""
    if scan_bytes is None:
        return None
    exact = scan_bytes / BYTES_PER_PRICED_UNIT * usd_per_tb
    return round(exact, 4) or round(exact, 8)


def rate_usd(price: Price, scan: ScanSettings) -> float:
    """The price per TiB along its path."""
    return scan.bq_storage_read_cost_per_tb_usd if price.path == "direct_read" else scan.bq_cost_per_tb_usd


def estimate_usd(price: Price, statement: Statement, scan: ScanSettings) -> float | None:
    """What the statement will be billed at most, minimums included; None: not known. A direct read has no minimum, nor
    has a job that reads no column, as a count of all rows, which BigQuery gives for nothing."""
    free = price.path in ("local", "snapshot", "preview")
    if price.scan_bytes is None or free:
        return 0.0 if free else None
    reads = statement.source_columns or statement.predicate_sql or statement.places
    rounded = price.path == "query_job" and (price.scan_bytes > 0 or reads)
    return cost_usd(price.reserved_bytes if rounded else price.scan_bytes, rate_usd(price, scan))


def row_bytes(columns: list[Column]) -> int:
    """A guess of one row's bytes, at least 1."""
    return max(1, sum(_column_bytes(column) for column in columns))


def _column_bytes(column: Column) -> int:
    if column.fields:
        return row_bytes(column.fields)
    return _TYPE_BYTES.get(column.type.upper().split("(", 1)[0], _OTHER_TYPE_BYTES)


def guess_result(
    request: ScanRequest, statement: Statement, schema: TableSchema, price: Price
) -> tuple[int | None, int | None]:
    """Rows and bytes of the answer, capped by the limit. A predicate's selectivity is not guessed at."""
    if request.googlesql:
        return statement.limit, None
    if request.aggregates is not None or request.group_by is not None:
        return (1, None) if not request.group_by else (None, None)
    selected = [column for column in schema.columns if column.name in statement.source_columns]
    width = row_bytes(selected)
    rows = None if price.scan_bytes is None else price.scan_bytes // width
    if price.path == "local" or (not statement.predicate_sql and schema.rows is not None):
        rows = schema.rows
    if rows is None:
        return request.limit, None if request.limit is None else request.limit * width
    rows = rows if request.limit is None else min(rows, request.limit)
    return rows, rows * width


def judge(price: Price, scan: ScanSettings, left: QuotaLeft, unasked_bytes: int = 0) -> Verdict:
    """Whether a scan at this price would run, and if not, what stands in its way. `unasked_bytes` is what the caller
    has spent lately without a person's word. An unknown price is said to be that even where a cap lets it run."""
    return "price_unknown" if price.scan_bytes is None else judge_capped(price, scan, left, unasked_bytes)


def judge_capped(price: Price, scan: ScanSettings, left: QuotaLeft, unasked_bytes: int = 0) -> Verdict:
    """The same of the bytes that it may bill, where an unknown price is worth the cap that is set for it."""
    reserved_bytes = price.reserved_bytes or 0
    if price.scan_bytes is None and max(1, price.least_bytes or 0) > reserved_bytes:
        return "price_unknown"
    if price.agreed_bytes > scan.max_scan_bytes:
        return "over_scan_cap"
    if reserved_bytes > left.daily_bytes_left:
        return "over_daily_quota"
    return "needs_approval" if asks([price], scan, unasked_bytes) else "ok"


def asks(prices: list[Price], scan: ScanSettings, unasked_bytes: int) -> bool:
    """Whether a person is asked about them, as one sum: their bytes, or with what was spent unasked their bills."""
    if sum(price.agreed_bytes for price in prices) > scan.confirm_above_bytes:
        return True
    bills = sum(price.reserved_bytes or 0 for price in prices)
    together = unasked_bytes > 0 or len(prices) > 1
    return together and bills > 0 and unasked_bytes + bills > scan.confirm_above_bytes


def refuse_over_cap(priced: Priced, scan: ScanSettings) -> None:
    """Raises `estimate_failed` where the price is not known and no cap is set for that, and `over_scan_cap`."""
    price, scan_bytes = priced.price, priced.price.agreed_bytes
    least = max(1, price.least_bytes or 0)
    if price.scan_bytes is None and least > scan_bytes:
        capped = f" with the {scan_bytes:,} bytes that may be billed unpriced here" if scan_bytes else ""
        raise AgnesError(
            "estimate_failed",
            f"What this statement would bill cannot be known, so it was not run{capped}.",
            "Calling again does not help: BigQuery cannot price it. Read a table that is priced; or whoever runs this "
            "server sets api.scan.unknown_price_cap_bytes.",
            {"least_scan_bytes": price.least_bytes, "unknown_price_cap_bytes": scan.unknown_price_cap_bytes},
        )
    if scan_bytes > scan.max_scan_bytes:
        raise AgnesError(
            "over_scan_cap",
            f"This statement would scan {scan_bytes:,} bytes; one statement may scan {scan.max_scan_bytes:,}.",
            "Select fewer columns, filter on the partition column, or aggregate; `estimate` is free.",
            {"estimated_scan_bytes": price.scan_bytes, "max_scan_bytes": scan.max_scan_bytes},
        )


def advise(
    request: ScanRequest, statement: Statement, schema: TableSchema, price: Price, verdict: Verdict
) -> list[str]:
    """What would make this scan cheaper or its answer shorter, most useful first."""
    if request.googlesql:
        return [*_advise_verdict(verdict), *_advise_unknown(price), *statement.advice]
    advice = [
        *_advise_verdict(verdict),
        *_advise_unknown(price),
        *_advise_repeat(price),
        *_advise_partition(statement, schema),
        *_advise_columns(request, schema, price),
    ]
    if price.path != "local":
        advice += _advise_clustering(statement, schema)
    if request.where == "" and request.limit is None and request.aggregates is None and request.group_by is None:
        advice.append("Neither where nor limit is given: this reads the whole table.")
    if request.limit is not None and price.scan_bytes:
        advice.append("limit shortens the answer; it does not lower the price.")
    return advice


def _advise_verdict(verdict: Verdict) -> list[str]:
    said = {
        "over_scan_cap": "One statement may not scan this much here: narrow it before calling scan or fetch.",
        "over_daily_quota": "This is more than what is left of today's bytes.",
        "needs_approval": "A person is asked before this runs.",
    }
    return [said[verdict]] if verdict in said else []


def _advise_unknown(price: Price) -> list[str]:
    if price.scan_bytes is not None:
        return []
    least = f" It will scan at least {price.least_bytes:,} bytes." if price.least_bytes is not None else ""
    if price.reserved_bytes is None:
        return [
            f"BigQuery cannot say what this would bill, so it does not run here.{least} Read another table; or whoever "
            "runs this server sets api.scan.unknown_price_cap_bytes."
        ]
    return [
        f"BigQuery cannot say what this would bill.{least} It runs with {price.reserved_bytes:,} bytes as the cap, "
        "which BigQuery holds: beyond it nothing is read."
    ]


def _advise_repeat(price: Price) -> list[str]:
    if not price.repeat_bytes:
        return []
    return [
        "It is read through DuckDB's extension: what breaks there is read again as the stream, so as many bytes more "
        "may be billed."
    ]


def _advise_partition(statement: Statement, schema: TableSchema) -> list[str]:
    if schema.partition is None or schema.partition.type == "HIVE":
        return []
    column = schema.partition.column or "_PARTITIONTIME"
    if _names_in(statement) & {column.casefold(), *(() if schema.partition.column else ("_partitiondate",))}:
        return []
    if schema.partition.type == "SHARD":
        return [f"No condition compares {column} with constants, so every shard is read: filter on {column}."]
    must = "requires a filter" if schema.partition.filter_required else "is partitioned by it: filter"
    return [f"No condition on {column}: the table {must} on {column} so that only some partitions are read."]


def _names_in(statement: Statement) -> set[str]:
    """The columns that a rendered predicate names: all of them are quoted, and text in literals is none of them."""
    pieces = _LITERAL_OR_NAME.finditer(statement.predicate_sql)
    return {piece["name"].casefold() for piece in pieces if piece["name"] is not None}


def _advise_columns(request: ScanRequest, schema: TableSchema, price: Price) -> list[str]:
    if not request.of_every_column or request.aggregates is not None or request.group_by is not None:
        return []
    if price.path == "local" or len(schema.columns) < 2:
        return ["select is not given, or *: every column is in the answer."] if len(schema.columns) > 10 else []
    total = row_bytes(schema.columns)
    dearest = sorted(schema.columns, key=_column_bytes, reverse=True)[:_COSTLY_COLUMNS]
    costly = [c.name for c in dearest if _column_bytes(c) / total >= _COSTLY_SHARE] or [dearest[0].name]
    return [f"select is not given, or *: every column is billed. The dearest are probably {', '.join(costly)}."]


def _advise_clustering(statement: Statement, schema: TableSchema) -> list[str]:
    if not schema.clustered_by or not statement.predicate_sql:
        return []
    if _names_in(statement) & {column.casefold() for column in schema.clustered_by}:
        return ["The condition uses a clustering column: the bill may be lower than this estimate."]
    return [f"A condition on {schema.clustered_by[0]}, by which the table is clustered, would lower the bill."]
