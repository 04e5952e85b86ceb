"""Where rows come from. A source answers four questions about its tables, in a worker thread, and knows no policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Price, Receipt, Statement, Table, TableSchema

if TYPE_CHECKING:
    import pyarrow as pa


class Reading(Protocol):
    """One running read. Iterating gives record batches and raises rather than end early; `receipt` is exact once the
    iteration has ended, and is what is known so far when it has not."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def receipt(self) -> Receipt: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


class Source(Protocol):
    """Blocking; called in a worker thread. Every method raises `AgnesError` only."""

    def schema(self, table: Table, call: Call) -> TableSchema:
        """The table's columns, partitioning, sizes. Free: no query job, no scan."""
        ...

    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        """Up to `n` rows, free; None where the source cannot give rows of this table for free."""
        ...

    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        """What reading exactly this statement would bill. Raises `estimate_failed` when that cannot be known."""
        ...

    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> AbstractContextManager[Reading]:
        """Run the statement, billing at most `price.reserve_bytes`. Leaving early cancels what still runs."""
        ...
