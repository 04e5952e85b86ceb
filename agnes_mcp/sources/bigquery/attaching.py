"""What a BigQuery source is built of; whether the attached process is of it, and which reads it serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Price, Statement, TableSchema
from agnes_mcp.sources.backoff import Backoff
from agnes_mcp.sources.bigquery.attached import MOST_BYTES, MOST_TABLES, Attached, Passing, Unserved
from agnes_mcp.sources.bigquery.extension_errors import OFF, other_rows
from agnes_mcp.sources.bigquery.fields import arrow_schema, count_of
from agnes_mcp.sources.bigquery.metadata import count_tables, fetch_resource
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.readings import direct_columns, logical_bytes
from agnes_mcp.sources.bigquery.spool import Spool

if TYPE_CHECKING:
    from agnes_mcp.config.settings import BigQuerySettings
    from agnes_mcp.sources.bigquery.clients import Clients
    from agnes_mcp.sources.bigquery.requests import Attempts
    from agnes_mcp.sources.bigquery.rows import Rows, StorageReads
    from agnes_mcp.sources.bigquery.tokens import TokenSource

_log = logging.getLogger(__name__)
#: The attached process, or in one line why there is none.
MakeAttached = Callable[["BigQuerySettings", "TokenSource"], Attached | str]


class Attaching:
    """Makes the attached process on first use, where nothing rules it out. Safe to share between threads."""

    def __init__(self, clients: Clients, make: MakeAttached | None) -> None:
        self._clients = clients
        self._make = make
        self._lock = threading.Lock()
        self._attached: Attached | None = None
        self._ruled_out = "" if make else "off: nothing makes its process"
        if clients.settings.attach == "off":  # nobody will ask for it, and so hear it
            self._ruled_out = OFF
        self._closed = False
        # One a dataset. May be of before: it decides by which way rows come, never which.
        self._tables: dict[tuple[str, str], int] = {}
        self._trying = Backoff()

    def attached(self) -> Attached | None:
        """The attached process; None where there is none, and `state` says why. Blocks for a token, with `auto`; where
        there is none to be had, that is tried again by a rule (`backoff`)."""
        with self._lock:
            if self._attached is None and self._make is not None and not self._closed and self._trying.due():
                made = self._make(self._clients.settings, self._clients.tokens)
                if isinstance(made, str):
                    self._refused(made)
                else:
                    self._attached = made
                    self._trying.went_well()
            return self._attached

    def _refused(self, reason: str) -> None:
        self._ruled_out = reason
        if isinstance(reason, Passing):
            self._trying.failed(reason)

    def state(self) -> dict[str, Any]:
        """Version and attached datasets, or in one line why not and when it is tried next; asks nobody."""
        attached = self._attached
        if attached is not None:
            return attached.state()
        next_try = self._trying.next_try
        return {"state": self._ruled_out or "not attached yet", **({"next_try": next_try} if next_try else {})}

    def hurry(self) -> None:
        """What could not be had is tried again with the next use."""
        self._trying.hurry()
        if self._attached is not None:
            self._attached.trying.hurry()

    def stand_ready(self, datasets: Sequence[tuple[str, str]], call: Call) -> float | None:
        """Attach these, where `attach` says so. After how many seconds it is worth trying again; None: it stands, or
        never will."""
        if self._clients.settings.attach in ("auto", "eager") and (attached := self.attached()):
            attached.attach(datasets, call)
        return (self._attached.trying if self._attached is not None else self._trying).left_s

    def may_repeat(self, price: Price, statement: Statement, schema: TableSchema) -> Price:
        """The price of whole columns by the attached process, where it serves them: what breaks there is read again as
        the stream, so that much more is set aside, and agreed to."""
        size_bytes = price.scan_bytes or 0
        if price.path != "direct_read" or price.reserved_bytes is None or not self._may_serve(size_bytes):
            return price
        attached = self.attached()
        if attached is None or not attached.serves(direct_columns(statement, schema.columns)):
            return price
        return price.model_copy(
            update={"repeat_bytes": size_bytes, "reserved_bytes": price.reserved_bytes + size_bytes}
        )

    def rows(
        self, path: TablePath, columns: Sequence[Column], price: Price, attempts: Attempts, otherwise: Rows
    ) -> Rows:
        """Through the attached process; `otherwise` where it does not serve these, or was not in their price."""
        size_bytes = price.scan_bytes or 0
        spare_bytes = (price.reserved_bytes or 0) - size_bytes
        if spare_bytes < size_bytes or not self._may_serve(size_bytes):
            return otherwise
        attached = self.attached()
        if attached is None or not attached.serves(columns):
            return otherwise

        def announced() -> int | None:
            return self._announced(path, attempts)

        return AttachedRows(attached, path, columns, size_bytes, spare_bytes, announced, attempts.call, otherwise)

    def _may_serve(self, size_bytes: int) -> bool:
        return self._clients.settings.direct_reads == "attached" and size_bytes <= MOST_BYTES

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._attached is not None:
            self._attached.close()

    def _announced(self, path: TablePath, attempts: Attempts) -> int | None:
        """How many rows the table has, as of now. None where they are not counted, because some are still in the
        streaming buffer; and where the extension would ask for the metadata of too many tables first."""
        place = (path.project, path.dataset)
        if place not in self._tables:
            self._tables[place] = count_tables(self._clients.rest, *place, MOST_TABLES + 1, attempts)
        if self._tables[place] > MOST_TABLES:
            return None
        resource = fetch_resource(self._clients.rest, path, attempts)
        return None if resource.get("streamingBuffer") else count_of(resource.get("numRows"))


class AttachedRows:
    """Rows through the attached process, once all of them are there; through `otherwise` where anything breaks.

    `announced` gives how many there are, or None where nobody knows exactly; `size_bytes` is about what they take, and
    `spare_bytes` what may be read in vain beside.
    """

    free = False

    def __init__(
        self,
        attached: Attached,
        path: TablePath,
        columns: Sequence[Column],
        size_bytes: int,
        spare_bytes: int,
        announced: Callable[[], int | None],
        call: Call,
        otherwise: Rows,
    ) -> None:
        self._attached, self._path, self._columns = attached, path, list(columns)
        self._size_bytes, self._spare_bytes, self._announced = size_bytes, spare_bytes, announced
        self._call, self._otherwise = call, otherwise
        self.beside_bytes = 0

    @property
    def schema(self) -> pa.Schema:
        return arrow_schema(self._columns)

    def cancel(self) -> None:
        self._otherwise.cancel()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        total = self._announced()
        if total is not None:
            with Spool(self.schema) as spool:
                if self._fill(spool, total):
                    for batch in spool.batches():
                        self.beside_bytes -= logical_bytes(batch, self._columns)
                        yield batch
                    return
        self.free = self._otherwise.free
        yield from (batch.cast(self.schema) for batch in self._otherwise)

    def _fill(self, spool: Spool, total: int) -> bool:
        """Whether all rows are there. Not: then nothing was given yet, and the other way gives them all."""
        try:
            self._take(spool, total)
        except (AgnesError, OSError, Unserved) as reason:
            self._call.check()
            if isinstance(reason, AgnesError) and self.beside_bytes > self._spare_bytes:
                raise
            _log.info("whole columns come as Storage Read's stream: %s", reason)
            return False
        return True

    def _take(self, spool: Spool, total: int) -> None:
        received = 0
        batches = self._attached.batches(self._path, self._columns, self._size_bytes / max(total, 1), self._call)
        with closing(batches):
            for batch in batches:
                received += batch.num_rows
                self.beside_bytes += logical_bytes(batch, self._columns)
                if received > total or self.beside_bytes > self._spare_bytes:
                    break  # the table is another one by now
                spool.add(batch)
                self._call.report(received, total, f"{received:,} rows")
        if received != total:
            raise other_rows(received, total)
        spool.finish()


class Parts:
    """What a source is built of, on first use."""

    def __init__(self, clients: Clients, storage: StorageReads, attaching: Attaching) -> None:
        self.clients = clients
        self.storage = storage
        self.attaching = attaching

    @classmethod
    def of(cls, settings: BigQuerySettings, make_attached: MakeAttached | None) -> Parts:
        from agnes_mcp.sources.bigquery.clients import Clients
        from agnes_mcp.sources.bigquery.rows import StorageReads

        clients = Clients(settings)
        return cls(clients, StorageReads(clients), Attaching(clients, make_attached))
