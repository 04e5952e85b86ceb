"""The rows of a stored table: through the Storage Read API, or through REST where that is not to be had."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.errors import Complaint
from agnes_mcp.sources.bigquery.fields import arrow_schema, table_of_rows
from agnes_mcp.sources.bigquery.metadata import row_pages
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.requests import Attempts
from agnes_mcp.sources.bigquery.streams import ReadSession

if TYPE_CHECKING:
    from agnes_mcp.sources.bigquery.clients import Clients

_log = logging.getLogger(__name__)

#: For how long rows come through REST without asking again, after Storage Read was not allowed or not reachable.
NOT_ALLOWED_FOR_S = 600.0
UNREACHABLE_FOR_S = 60.0
#: One REST page. BigQuery ends a page at 10 MB anyway.
REST_PAGE_ROWS = 20_000
#: What Storage Read may answer where REST still gives the rows, and for how long that is taken to last. A refusal that
#: names the right to open sessions lasts; any other one may be about this table, and REST will tell.
_REST_INSTEAD = {
    "cross_project_forbidden": NOT_ALLOWED_FOR_S,
    "bq_unreachable": UNREACHABLE_FOR_S,
    "bq_forbidden": 0.0,
    "bq_upstream_error": 0.0,
}
#: One failed opening is slow where packets are dropped, so it is tried less often than other requests.
_OPENING_TRIES = 2


class Rows(Protocol):
    """Rows in the order and under the names of the columns asked for. `free`: reading them bills nothing.
    `beside_bytes` are those that were read and not handed on: in vain, or not yet."""

    beside_bytes: int

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def free(self) -> bool: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...

    def cancel(self) -> None:
        """Wake whoever waits for the next row; from any thread. No more come."""
        ...


class StorageReads:
    """Opens read sessions; remembers for a while that they are not to be had."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._down_until = 0.0
        self.problem = ""

    def open(self, attempts: Attempts, path: TablePath, columns: list[str], exists: bool) -> ReadSession | None:
        """A read session, or None where Storage Read is not to be had. Said once in the log, and in `problem`.

        `exists`: the table is known to be there, so that "not found" says something of Storage Read, not of the table.
        """
        if time.monotonic() < self._down_until:
            return None
        try:
            session = ReadSession(self._clients, attempts, path, columns, _OPENING_TRIES)
        except AgnesError as error:
            lasts_s = 0.0 if exists and error.kind == "bq_not_found" else _REST_INSTEAD.get(error.kind)
            if lasts_s is None:
                raise
            attempts.call.check()
            self._down_until = time.monotonic() + lasts_s
            if not self.problem:
                _log.warning("Storage Read is not to be had; rows come through REST, slower: %s", error.message)
            self.problem = error.message
            return None
        self.problem = ""
        return session


class TableRows:
    """All rows of the table at `path`. With `total`, another number of rows is an error, never a short result."""

    beside_bytes = 0

    def __init__(
        self,
        clients: Clients,
        attempts: Attempts,
        storage: StorageReads,
        path: TablePath,
        columns: list[Column],
        total: int | None = None,
    ) -> None:
        self._clients = clients
        self._attempts = attempts
        self._storage = storage
        self._path = path
        self.columns = columns
        self._names = [column.name for column in columns]
        self._total = total
        self._session: ReadSession | None = None
        self._opened = False

    @property
    def session(self) -> ReadSession | None:
        """The read session, opened on first use; None: rows come through REST."""
        if not self._opened:
            self._session = self._storage.open(self._attempts, self._path, self._names, self._total is not None)
            self._opened = True
        return self._session

    def cancel(self) -> None:
        """A REST page ends by itself, soon."""
        if self._session is not None:
            self._session.cancel()

    @property
    def free(self) -> bool:
        """REST rows are free."""
        return self.session is None

    @property
    def schema(self) -> pa.Schema:
        if self.session is None:
            return arrow_schema(self.columns)
        return pa.schema([self.session.schema.field(name) for name in self._names])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        schema, received = self.schema, 0
        for batch in self._batches():
            received += batch.num_rows
            self._attempts.call.report(received, self._total, f"{received:,} rows")
            columns = [batch.column(name) for name in self._names]
            yield pa.RecordBatch.from_arrays(columns, schema=schema.with_metadata(batch.schema.metadata))
        if self._total is not None and received != self._total:
            complaint = Complaint(0, "connectionCut", f"{received:,} of {self._total:,} rows arrived")
            raise self._attempts.error(complaint, "reading rows")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self.session is not None:
            yield from self.session
            return
        for page in row_pages(self._clients.rest, self._path, self.columns, self._attempts, None, REST_PAGE_ROWS):
            yield from table_of_rows(self.columns, page).to_batches()
