"""Whole columns of BigQuery on the shared DuckDB connection: the Storage Read stream, registered as an Arrow reader.

DuckDB pulls the stream as it wants rows, in a thread of its own or in the reader's; nothing is copied into a table.
Resuming, the check for a cut stream, the cap and the bill stay with the stream, below; DuckDB adds nothing to them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.arrow import under_schema
from agnes_mcp.models import Column, Receipt
from agnes_mcp.sources.bigquery.readings import DirectReading

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.sources.warehouse import Warehouse

#: A batch that comes out has as many rows as the first message had: messages are cut by bytes, and memory stays
#: theirs however wide a row is. But not fewer than DuckDB's vector.
LEAST_BATCH_ROWS = 2048
_STREAM = "bigquery_stream"
#: The instance preserves the order of what it reads, so this is the table's own, also with several threads.
_SQL = f"FROM {_STREAM}"


class Registered:
    """A direct read whose rows come through the shared connection; the same rows, order, schema, bill and errors.

    Types that DuckDB has not, or would give in another layout (BIGNUMERIC, INTERVAL), pass beside it.
    """

    def __init__(self, reading: DirectReading, warehouse: Warehouse, call: Call) -> None:
        self._reading = reading
        self._warehouse = warehouse
        self._call = call

    @property
    def schema(self) -> pa.Schema:
        return self._reading.schema

    @property
    def columns(self) -> list[Column]:
        return self._reading.columns

    @property
    def receipt(self) -> Receipt:
        return self._reading.receipt

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if not all(_same_in_duckdb(field.type) for field in self.schema):
            yield from self._reading
            return
        batches = iter(self._reading)
        first = next(batches, None)
        if first is None:
            return
        yield first  # DuckDB would look for the second message before it gave a row of this one
        with self._warehouse.cursor(self._call) as cursor:
            yield from self._through(cursor, batches, first.num_rows)

    def close(self) -> None:
        self._reading.close()

    def _through(
        self, cursor: duckdb.DuckDBPyConnection, batches: Iterator[pa.RecordBatch], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        import duckdb

        feed = _Feed(batches)
        # The bare stream: a reader of pyarrow's DuckDB wraps in a scanner, which reads ahead without bound.
        cursor.register(_STREAM, pa.RecordBatchReader.from_batches(self.schema, feed).__arrow_c_stream__())
        reader = None
        try:
            reader = cursor.sql(_SQL).to_arrow_reader(max(batch_rows, LEAST_BATCH_ROWS))
            for batch in reader:
                yield under_schema(batch, self.schema)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise feed.failure or self._warehouse.explain(error, self._call) from None
        finally:
            feed.left.set()
            self._reading.stop()  # what waits for the wire is woken
            if reader is not None:
                reader.close()  # not before the thread that pulls has returned


class _Feed:
    """The batches of a read, pulled by whichever thread of DuckDB's; what they end with is kept as it was raised."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.left = threading.Event()  # nobody wants more
        self.failure: BaseException | None = None

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> pa.RecordBatch:
        if self.left.is_set():
            raise StopIteration
        try:
            return next(self._batches)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _same_in_duckdb(kind: pa.DataType) -> bool:
    """Whether an array of this type comes out of DuckDB with the layout that it went in with."""
    if pa.types.is_list(kind):
        return _same_in_duckdb(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_same_in_duckdb(field.type) for field in kind)
    return kind in _SAME


_SAME = frozenset(
    {
        pa.int64(),
        pa.float64(),
        pa.bool_(),
        pa.string(),
        pa.binary(),
        pa.date32(),
        pa.time64("us"),
        pa.timestamp("us"),
        pa.timestamp("us", tz="UTC"),
        pa.decimal128(38, 9),
    }
)
