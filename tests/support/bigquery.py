"""What the tests of the BigQuery source say often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Price, Principal, Progress, Receipt, Statement, Table
from agnes_mcp.sources.bigquery.source import BigQuerySource

ORDERS = Table(id="orders", source_type="bigquery", query_mode="remote", bucket="my_dataset", source_table="orders")


def table(name: str, dataset: str = "my_dataset", **more: Any) -> Table:
    return Table(id=name, source_type="bigquery", query_mode="remote", bucket=dataset, source_table=name, **more)


def call(timeout_s: float | None = 60, on_progress: Callable[[Progress], None] | None = None, **more: Any) -> Call:
    return Call("scan", Principal("ana@example.com"), timeout_s=timeout_s, on_progress=on_progress, **more)


def statement(
    of: Table, columns: list[str], tail: str = "", select: str = "", project: str = "my-project"
) -> Statement:
    """`SELECT columns FROM of` and whatever `tail` adds; plain without a tail."""
    names = select or ", ".join(f"`{name}`" for name in columns)
    sql = f"SELECT {names} FROM `{of.project or project}.{of.bucket}.{of.source_table}`{' ' if tail else ''}{tail}"
    plain = not tail and not select
    return Statement(sql=sql, dialect="bigquery", columns=columns, source_columns=columns, plain=plain)


def read_all(
    source: BigQuerySource, of: Table, asked: Statement, on: Call | None = None, price: Price | None = None
) -> tuple[pa.Table, Receipt]:
    """Price it unless a price is given, read it, and give rows and receipt."""
    schema = source.schema(of, on or call())
    paid = price or source.price(of, schema, asked, on or call())
    with source.read(of, schema, asked, paid, on or call()) as reading:
        batches = list(reading)
        rows = pa.Table.from_batches(batches, schema=reading.schema)
    return rows, reading.receipt
