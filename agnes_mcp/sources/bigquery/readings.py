"""Running reads: a query job's rows, and a base table's rows without a job, counted as a Storage Read bills them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Receipt, Statement
from agnes_mcp.sources.bigquery.fields import columns_of
from agnes_mcp.sources.bigquery.jobs import QueryJob
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.requests import NO_RETRY, Attempts
from agnes_mcp.sources.bigquery.rows import Rows, StorageReads, TableRows

if TYPE_CHECKING:
    from google.cloud import bigquery

    from agnes_mcp.sources.bigquery.clients import Clients

# How many bytes BigQuery counts for values. https://cloud.google.com/bigquery/pricing#data-size-calculation: NULL is 0
# bytes, a STRUCT the sum of its fields, an ARRAY the sum of its elements, text 2 bytes and its UTF-8 length, JSON its
# length, GEOGRAPHY 16 bytes and 24 a vertex.
_FIXED = {
    "INT64": 8,
    "FLOAT64": 8,
    "NUMERIC": 16,
    "BIGNUMERIC": 32,
    "BOOL": 1,
    "DATE": 8,
    "DATETIME": 8,
    "TIME": 8,
    "TIMESTAMP": 8,
    "INTERVAL": 16,
}
_RANGE = 16
_TEXT = 2
_GEOGRAPHY, _VERTEX = 16, 24
_POSITION = r"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)? -?[0-9][0-9.]*"  # one longitude and latitude in WKT


def logical_bytes(batch: pa.RecordBatch, columns: list[Column]) -> int:
    """The bytes of a batch whose columns are `columns`, in that order."""
    return sum(_array_bytes(array, column) for array, column in zip(batch.columns, columns, strict=True))


def _array_bytes(array: pa.Array, column: Column) -> int:
    values = array.flatten() if column.mode == "REPEATED" else array
    present: int = len(values) - values.null_count
    if not present:
        return 0
    if column.type == "STRUCT":
        # flatten() gives each field with the struct's own NULLs in it.
        return sum(_array_bytes(part, field) for part, field in zip(values.flatten(), column.fields, strict=True))
    if column.type.startswith("RANGE<"):
        return _RANGE * present
    if column.type in _FIXED:
        return _FIXED[column.type] * present
    if column.type == "GEOGRAPHY":
        return _GEOGRAPHY * present + _VERTEX * int(pc.sum(pc.count_substring_regex(values, _POSITION)).as_py() or 0)
    prefix = 0 if column.type == "JSON" else _TEXT
    return prefix * present + int(pc.sum(pc.binary_length(values)).as_py() or 0)


class QueryReading:
    """The rows of a query job. The job runs when `schema` is first asked for or the first row is.

    `receipt` is exact after the `with` block: after an error and a cancel, too.
    """

    def __init__(self, clients: Clients, attempts: Attempts, storage: StorageReads, job: QueryJob) -> None:
        self._clients = clients
        self._attempts = attempts
        self._storage = storage
        self._job = job
        self._rows: TableRows | None = None

    @property
    def receipt(self) -> Receipt:
        return self._job.receipt

    @property
    def schema(self) -> pa.Schema:
        """Columns and types of the result. Blocks until the job is done. Raises what the job ended with."""
        return self._run().schema

    @property
    def columns(self) -> list[Column]:
        return self._run().columns

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self._run()

    def close(self) -> None:
        """Cancel what still runs; settle the bill."""
        self._job.settle()

    def _run(self) -> TableRows:
        """Reading the result table is free, whichever way its rows come."""
        if self._rows is None:
            result = self._job.run()
            self._attempts.details["bytes_billed"] = self.receipt.bytes_billed
            columns, total = self._describe(result)
            self._rows = TableRows(self._clients, self._attempts, self._storage, result, columns, total)
        return self._rows

    def _describe(self, result: TablePath) -> tuple[list[Column], int]:
        """Columns and exact row count of the result table: `tables.get`, free."""
        from google.cloud import bigquery

        reference = bigquery.DatasetReference(result.project, result.dataset).table(result.table)

        def get(timeout_s: float) -> bigquery.Table:
            return self._clients.rest.get_table(reference, retry=NO_RETRY, timeout=timeout_s)

        found = self._attempts.run("reading the result", get)
        return columns_of(field.to_api_repr() for field in found.schema), int(found.num_rows or 0)


class DirectReading:
    """Whole columns of a base table: no job, nothing to wait for.

    Storage Read has no cap of its own, so what has arrived is counted as BigQuery counts it, and the read ends with an
    error before more than `reserved_bytes` is handed on. The receipt is that count, with what was read in vain: also of
    a read that ended early, whose last messages on the wire (a few MiB) are billed and not counted.
    """

    def __init__(self, rows: Rows, columns: list[Column], reserved_bytes: int, call: Call) -> None:
        self._call = call
        self._rows = rows
        self.columns = columns
        self._reserved_bytes = reserved_bytes
        self._read_bytes = 0
        self._begun = False

    @property
    def receipt(self) -> Receipt:
        if not self._begun:
            return Receipt()
        beside = self._rows.beside_bytes
        return Receipt(bytes_billed=beside + (0 if self._read_bytes and self._rows.free else self._read_bytes))

    @property
    def schema(self) -> pa.Schema:
        return self._rows.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._reserved_bytes > 0:
            self._call.intend()
        self._begun = True
        for batch in self._rows:
            self._read_bytes += logical_bytes(batch, self.columns)
            billed = self.receipt.bytes_billed
            if billed > self._reserved_bytes:
                raise _over_cap(billed, self._reserved_bytes)
            yield batch

    def stop(self) -> None:
        """Wake whoever waits for the next row, from any thread: nobody wants it. It ends with an error then."""
        self._rows.cancel()

    def close(self) -> None:
        """Nothing is left running: the stream ends with its iteration."""


def _over_cap(read: int, reserved_bytes: int) -> AgnesError:
    return AgnesError(
        "bytes_billed_cap_reached",
        f"The read was stopped after {read:,} bytes: {reserved_bytes:,} were set aside for it.",
        "The table has grown since it was priced. Call `estimate` again; select fewer columns, or narrow with WHERE.",
        {"bytes_billed": read, "cap_bytes": reserved_bytes},
    )


def direct_columns(statement: Statement, columns: list[Column]) -> list[Column]:
    """The columns of a plain statement, in its order, as the table spells them."""
    by_name = {column.name.casefold(): column for column in columns}
    return [by_name[name.casefold()] for name in statement.source_columns]
