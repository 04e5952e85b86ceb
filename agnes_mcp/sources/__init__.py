"""Where rows come from. A source answers four questions about its tables, in a worker thread, and knows no policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.calls.call import Call
    from agnes_mcp.models import Column, JobReference, Price, Receipt, Relation, Statement, Table, TableSchema
    from agnes_mcp.sql.views import View


class Reading(Protocol):
    """One running read. Iterating gives record batches and raises rather than end early; `receipt` is exact once the
    iteration has ended, and is what is known so far when it has not."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def columns(self) -> list[Column] | None:
        """What the source calls the columns' types; None: the schema tells as much."""

    @property
    def receipt(self) -> Receipt: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


class Source(ABC):
    """The tables of one kind. Blocking; called in worker threads, by several at once. Raises `AgnesError` only."""

    @abstractmethod
    def schema(self, table: Table, call: Call) -> TableSchema:
        """The table's columns, partitioning, sizes. Free: no query job, no scan."""

    @abstractmethod
    def preview(self, table: Table, schema: TableSchema, columns: list[str], n: int, call: Call) -> pa.Table | None:
        """Up to `n` rows, free; None where the source cannot give rows of this table for free."""

    @abstractmethod
    def price(self, table: Table, schema: TableSchema, statement: Statement, call: Call) -> Price:
        """What reading exactly this statement would bill. Raises `estimate_failed` when that cannot be known."""

    @abstractmethod
    def read(
        self, table: Table, schema: TableSchema, statement: Statement, price: Price, call: Call
    ) -> AbstractContextManager[Reading]:
        """Run the statement, billing at most `price.reserved_bytes`. Leaving early cancels what still runs."""

    def reads_apart(self, table: Table, statement: Statement) -> bool:
        """Whether a worker process reads it, so that a thread only waits; known once the schema is."""
        return False

    def newest(self, table: Table, schema: TableSchema, call: Call) -> str:
        """A predicate that keeps the table's newest partition, where it is read with a filter only; else ""."""
        return ""

    @abstractmethod
    def relation(self, table: Table) -> Relation:
        """How a statement names the table."""

    def view(self, table: Table, call: Call) -> View:
        """The table's files as they are now, for another process to read. Raises `table_unavailable` for no files."""
        raise AgnesError(
            "table_unavailable",
            f"{table.id} has no files here.",
            "It is remote: scan it, or fetch what you need of it.",
        )

    def state(self, table: Table) -> object:
        """Something that differs once what is known of the table may have; blocking, quick, asks nobody elsewhere.

        None: nothing here tells, so that what is kept is good for as long as it is kept.
        """
        return None

    def problem(self, table: Table) -> str:
        """Why the table cannot be read now and what to do about it, where that has been found out; asks nobody."""
        return ""

    def discover(self, call: Call) -> list[Table]:
        """Tables that nobody configured one by one; free. A source that cannot be listed has none."""
        return []

    def learn_bill(self, job: JobReference, call: Call) -> int | None:
        """What a job of an earlier call was billed, in bytes; one that still runs is ended. None: nobody tells."""
        return None

    def stand_ready(self, call: Call, registered: Sequence[Table]) -> float | None:
        """Do in advance what a first read would wait for. `registered` are the tables that are named one by one. Gives
        after how many seconds it is worth calling again; None: it is ready, or never will be."""
        return None

    def try_again(self) -> None:  # noqa: B027 - most have failed at nothing that they remember
        """What failed earlier and waits for its next try has it with the next use."""

    def health(self) -> dict[str, Any]:
        """How it is doing, without asking anybody: no network, no secrets."""
        return {}

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what is held."""
