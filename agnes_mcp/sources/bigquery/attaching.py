"""What a BigQuery source is built of; whether the attached process is of it, and which reads it serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.attached import MOST_TABLES, Attached, Unserved
from agnes_mcp.sources.bigquery.errors import Complaint, as_error
from agnes_mcp.sources.bigquery.fields import arrow_schema
from agnes_mcp.sources.bigquery.metadata import count_tables, fetch_resource
from agnes_mcp.sources.bigquery.names import TablePath

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
        self._closed = False
        self._tables: dict[tuple[str, str], int] = {}

    def attached(self) -> Attached | None:
        """The attached process; None where there is none, and `state` says why. Blocks for a token, with `auto`."""
        with self._lock:
            if self._attached is None and self._make is not None and not self._closed:
                made = self._make(self._clients.settings, self._clients.tokens)
                if isinstance(made, str):
                    self._ruled_out = made
                else:
                    self._attached = made
            return self._attached

    def state(self) -> dict[str, Any]:
        """Version and attached datasets, or in one line why not; asks nobody."""
        attached = self._attached
        if attached is not None:
            return attached.state()
        return {"state": self._ruled_out or "not attached yet"}

    def rows(
        self, path: TablePath, columns: Sequence[Column], size_bytes: int, attempts: Attempts, otherwise: Rows
    ) -> Rows:
        """Through the attached process, or `otherwise` where it does not serve these."""
        attached = self.attached()
        if attached is None or not attached.serves(columns):
            return otherwise

        def announced() -> int | None:
            return self._announced(path, attempts)

        return AttachedRows(attached, path, columns, size_bytes, announced, attempts.call, otherwise)

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
        rows = resource.get("numRows")
        return None if rows is None or resource.get("streamingBuffer") else int(rows)


class AttachedRows:
    """Rows through the attached process; through `otherwise` where it gives none.

    `announced` gives how many there are, or None where nobody knows exactly; `size_bytes` is about what they take.
    """

    free = False

    def __init__(
        self,
        attached: Attached,
        path: TablePath,
        columns: Sequence[Column],
        size_bytes: int,
        announced: Callable[[], int | None],
        call: Call,
        otherwise: Rows,
    ) -> None:
        self._attached, self._path, self._columns = attached, path, columns
        self._size_bytes, self._announced = size_bytes, announced
        self._call, self._otherwise = call, otherwise

    @property
    def schema(self) -> pa.Schema:
        return arrow_schema(self._columns)

    def cancel(self) -> None:
        self._otherwise.cancel()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        total = self._announced()
        if total is not None:
            try:
                yield from self._counted(total)
            except Unserved as reason:
                _log.info("whole columns come as Storage Read's stream: %s", reason)
            else:
                return
        self.free = self._otherwise.free
        yield from (batch.cast(self.schema) for batch in self._otherwise)

    def _counted(self, total: int) -> Iterator[pa.RecordBatch]:
        received = 0
        batches = self._attached.batches(self._path, self._columns, self._size_bytes / max(total, 1), self._call)
        with closing(batches):
            for batch in batches:
                received += batch.num_rows
                self._call.report(received, total, f"{received:,} rows")
                yield batch
        if received != total:
            said = f"{received:,} of {total:,} rows arrived through DuckDB's extension"
            raise as_error(Complaint(0, "connectionCut", said), "reading rows")


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
