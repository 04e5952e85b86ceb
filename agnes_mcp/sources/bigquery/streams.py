"""Rows of a stored table, or of a query's result table, through the Storage Read API.

One message is decoded at a time and handed on before the next one is asked for; what waits in between is gRPC's own
flow-control window. So memory holds a few batches, whatever the size of the result.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from google.api_core import exceptions as api

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.errors import FOREIGN, Complaint, read_complaint
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.requests import NO_RETRY, Attempts, pause_before_next

if TYPE_CHECKING:
    from google.cloud.bigquery_storage_v1 import types

    from agnes_mcp.sources.bigquery.clients import Clients


class Watchdog:
    """One thread that runs `bite` when a watched wait has lasted too long. Use it as a context manager."""

    def __init__(self, bite: Callable[[], None]) -> None:
        self._bite = bite
        self._changed = threading.Condition()
        self._due: float | None = None
        self._looks_at = math.inf
        self._closed = False
        self.bitten = False
        self._thread = threading.Thread(target=self._watch, name="bigquery-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    @contextmanager
    def watching(self, timeout_s: float) -> Iterator[None]:
        """While inside, `bite` runs after `timeout_s`."""
        self.bitten = False
        self._set(time.monotonic() + timeout_s)
        try:
            yield
        finally:
            self._set(None)

    def _set(self, due: float | None) -> None:
        # Not notified of a later due moment, nor of none: that is seen when the earlier one passes. A thread woken for
        # each of thousands of messages would take the GIL from the one that decodes them.
        with self._changed:
            self._due = due
            if due is not None and due < self._looks_at:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._due is not None and now >= self._due:
                    self._due = None
                    self.bitten = True
                    self._bite()
                self._looks_at = math.inf if self._due is None else self._due
                self._changed.wait(None if self._due is None else self._due - now)


#: What pyarrow raises for bytes that are not what they should be.
UNDECODABLE = (pa.lib.ArrowException, OSError, EOFError, ValueError)
#: A stream that sends nothing for so long is taken up again once, then given up.
STALL_TIMEOUT_S = 60.0
#: How often a broken stream is taken up again without a single row in between.
RESUMPTIONS = 3


class ReadSession:
    """A read session: the schema, and the rows in the table's own order. Opening one bills nothing."""

    def __init__(self, clients: Clients, attempts: Attempts, path: TablePath, columns: list[str], tries: int) -> None:
        self._clients = clients
        self._attempts = attempts
        self._path, self._first = path, [Column(name=name, type="STRING") for name in columns[:1]]
        self._session = attempts.run(
            "opening a read session", lambda timeout_s: self._create(path, columns, timeout_s), tries
        )
        self.schema = self._read_schema()
        self.estimated_rows = int(self._session.estimated_row_count)
        self.rows_received = 0
        self.stall_timeout_s = STALL_TIMEOUT_S
        self._running: Any = None

    def _create(self, path: TablePath, columns: list[str], timeout_s: float) -> types.ReadSession:
        from google.cloud.bigquery_storage_v1 import types

        # One stream: several would give the rows of an ORDER BY, and of a refreshed snapshot, in another order.
        request = types.CreateReadSessionRequest(
            parent=f"projects/{self._clients.settings.billed_project}",
            read_session=types.ReadSession(
                table=path.resource,
                data_format=types.DataFormat.ARROW,
                read_options=types.ReadSession.TableReadOptions(selected_fields=columns),
            ),
            max_stream_count=1,
        )
        return self._clients.storage.create_read_session(
            request, retry=NO_RETRY, timeout=timeout_s, metadata=self._clients.storage_metadata()
        )

    def _read_schema(self) -> pa.Schema:
        try:
            return pa.ipc.read_schema(pa.py_buffer(self._session.arrow_schema.serialized_schema))
        except UNDECODABLE as error:
            complaint = Complaint(0, "connectionCut", f"the schema did not decode: {error}")
        raise self._attempts.error(complaint, "opening a read session")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Every row, or an error: a stream that ends before its end is one."""
        with Watchdog(self.cancel) as watchdog, self._attempts.call.interruptible(self.cancel):
            for stream in self._session.streams:
                yield from _Stream(self, stream.name, watchdog).batches()
        if self.estimated_rows and not self.rows_received and not self._may_have_none():
            raise self._attempts.error(
                Complaint(0, "connectionCut", "the rows ended before the first one"), "reading rows"
            )

    def _may_have_none(self) -> bool:
        """Whether REST, which is free, has no row either, or has none to give: the estimate counts the table's rows,
        and row access policies may permit none of them."""
        from agnes_mcp.sources.bigquery.metadata import row_pages

        try:
            page = next(row_pages(self._clients.rest, self._path, self._first, self._attempts, max_rows=1))
        except AgnesError as error:
            self._attempts.call.check()
            return error.kind == "bq_forbidden"
        return not page

    def cancel(self) -> None:
        """End the running request; from any thread."""
        running = self._running
        if running is not None:
            running.cancel()

    def start(self, stream: str, offset: int) -> Any:
        """A running ReadRows request, as gRPC gives it. Its first message has not been waited for."""
        from google.cloud.bigquery_storage_v1 import types

        request = types.ReadRowsRequest(read_stream=stream, offset=offset)
        metadata = [("x-goog-request-params", f"read_stream={stream}"), *self._clients.storage_metadata()]
        read_rows: Any = self._clients.storage.transport.read_rows  # annotated without the arguments that gRPC takes
        self._running = read_rows(request, timeout=self._attempts.call.remaining_s, metadata=metadata)
        return self._running

    @property
    def attempts(self) -> Attempts:
        return self._attempts


class _Stream:
    """One stream of a session, taken up again where it broke."""

    def __init__(self, session: ReadSession, name: str, watchdog: Watchdog) -> None:
        self._session = session
        self._name = name
        self._watchdog = watchdog
        self._offset = 0
        self._failures = 0
        self._stalls = 0
        self._refreshed = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        running: Any = None
        fraction = 0.0
        while True:
            if running is None:
                token = self._session.attempts.tokens.token()
                running = self._session.start(self._name, self._offset)
            response, failure = self._next(running)
            if failure is not None:
                self._take_up_again(failure, token)
                running = None
            elif response is None:
                break
            else:
                fraction = float(response.stats.progress.at_response_end)
                yield self._decode(response)
        # The session's row count is an estimate and the fraction is not promised to end at exactly 1, so a stream that
        # gRPC calls complete is doubted only when both say that rows are missing.
        if 0.0 < fraction < 1.0 and self._session.rows_received < self._session.estimated_rows:
            complaint = Complaint(0, "connectionCut", f"the rows ended at {fraction:.1%} of the table")
            raise self._session.attempts.error(complaint, "reading rows")

    def _next(self, running: Any) -> tuple[Any, Exception | None]:
        """The next message; nothing at the end of the stream; or the exception that broke it."""
        self._session.attempts.call.check()
        try:
            with self._watchdog.watching(self._session.stall_timeout_s):
                response = next(running, None)
            return (None if response is None else type(response).pb(response)), None
        except FOREIGN as error:
            return None, error

    def _decode(self, response: Any) -> pa.RecordBatch:
        content = response.arrow_record_batch.serialized_record_batch
        try:
            batch = pa.ipc.read_record_batch(pa.py_buffer(content), self._session.schema)
            batch.validate()
        except UNDECODABLE as error:
            complaint = Complaint(0, "connectionCut", f"a record batch did not decode: {error}")
        else:
            if batch.num_rows == response.row_count:
                self._failures = 0
                self._offset += batch.num_rows
                self._session.rows_received += batch.num_rows
                return batch
            complaint = Complaint(0, "connectionCut", "a record batch holds other rows than its message says")
        raise self._session.attempts.error(complaint, "reading rows")

    def _take_up_again(self, failure: Exception, token: str) -> None:
        """Return when the stream may be asked again from where it broke; raise when that would not help."""
        attempts = self._session.attempts
        attempts.call.check()
        error = api.from_grpc_error(failure) if hasattr(failure, "trailing_metadata") else failure  # type: ignore[no-untyped-call] # api_core annotates a part of itself
        if isinstance(error, api.Unauthenticated) and not self._refreshed:
            self._refreshed = True
            attempts.tokens.discard(token)
            return
        if self._watchdog.bitten:
            self._stalls += 1
            if self._stalls > 1:
                stalled = f"the stream sent nothing for {self._session.stall_timeout_s:g} seconds, twice"
                raise attempts.error(Complaint(0, "connectionCut", stalled), "reading rows")
            return
        complaint = read_complaint(error)
        self._failures += 1
        pause_s = pause_before_next(complaint, self._failures)
        if pause_s is None or self._failures > RESUMPTIONS:
            raise attempts.error(complaint, "reading rows")
        attempts.pause(complaint, pause_s)
