"""The Storage Read API over gRPC: CreateReadSession and ReadRows in Arrow."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import duckdb
import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.fields import Field, arrow_schema
from agnes_mcp.stand_in.googlesql.rows import condition_over
from agnes_mcp.stand_in.sql.wording import refusal_of
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import READABLE, Table
from agnes_mcp.stand_in.wire.faults import Fault, Faults, Request, Requests
from agnes_mcp.stand_in.wire.framing import bounded, compression, serialize, skip
from agnes_mcp.stand_in.wire.replies import NOT_A_TABLE, ApiError, not_found
from agnes_mcp.stand_in.wire.rows import batches, refuse_tagged, selected
from agnes_mcp.stand_in.wire.tokens import Tokens

_SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
_MAX_BATCH_ROWS = 65_536
_MAX_STREAMS = 8
_ROWS_WORTH_A_STREAM = 50_000

_CreateRequest = types.CreateReadSessionRequest.pb()
_Session = types.ReadSession.pb()
_RowsRequest = types.ReadRowsRequest.pb()
_RowsResponse = types.ReadRowsResponse.pb()


@dataclass
class _Stream:
    """Rows [start, end) of one session."""

    table: Table
    fields: tuple[Field, ...]
    start: int
    end: int
    restriction: str
    options: pa.ipc.IpcWriteOptions


class StorageRead:
    """The gRPC service. `max_streams` bounds what a session is given, whatever it asks for."""

    def __init__(self, catalog: Catalog, store: Store, faults: Faults, requests: Requests, tokens: Tokens) -> None:
        self.max_streams = _MAX_STREAMS
        self._catalog = catalog
        self._store = store
        self._faults = faults
        self._requests = requests
        self._tokens = tokens
        self._streams: dict[str, _Stream] = {}
        self._closing = threading.Event()
        self._server: grpc.Server | None = None

    def start(self, port: int, certificate: tuple[bytes, bytes] | None = None) -> int:
        """Serve on loopback, over TLS with a (key, certificate) pair; the port that was bound."""
        options = [("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(futures.ThreadPoolExecutor(32, "storage-read"), options=options)
        methods = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._create, _CreateRequest.FromString, _Session.SerializeToString
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._read, _RowsRequest.FromString, lambda response: response
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        address = f"127.0.0.1:{port}"
        if certificate is None:
            bound = self._server.add_insecure_port(address)
        else:
            bound = self._server.add_secure_port(address, grpc.ssl_server_credentials([certificate]))
        self._server.start()
        return int(bound)

    def stop(self) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.stop(0.1).wait(5)

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        session = request.read_session
        asked = {
            "table": session.table,
            "selected_fields": list(session.read_options.selected_fields),
            "row_restriction": session.read_options.row_restriction,
            "max_stream_count": request.max_stream_count,
        }
        logged = self._log("CreateReadSession", session.table, asked)
        try:
            self._admit(logged, context)
            _apply(self._faults.take(logged.name, logged.path))
            return self._open(request)
        except ApiError as error:
            logged.status = error.status
            return context.abort(_code_of(error), error.message)

    def _open(self, request: Any) -> Any:
        session = request.read_session
        table = self._table(session.table)
        if session.data_format not in (0, 2):
            raise ApiError(400, "invalid", "The stand-in serves the ARROW format only")
        options = session.read_options
        fields = selected(table.fields, list(options.selected_fields))
        refuse_tagged(table, fields)
        count = self._stream_count(table, request.max_stream_count, request.preferred_min_stream_count)
        where = f"projects/{request.parent.split('/')[-1]}/locations/{table.location.lower()}"
        name = f"{where}/sessions/{secrets.token_urlsafe(16)}"
        answer = _Session(name=name, table=session.table, data_format=2, estimated_row_count=table.rows)
        answer.arrow_schema.serialized_schema = arrow_schema(fields).serialize().to_pybytes()
        answer.read_options.CopyFrom(options)
        answer.expire_time.FromSeconds(int(time.time()) + 6 * 3600)
        answer.estimated_total_bytes_scanned = table.bytes
        restriction = self._restriction(table, options.row_restriction)
        write = pa.ipc.IpcWriteOptions(compression=compression(options.arrow_serialization_options.buffer_compression))
        for index in range(count):
            start, end = table.rows * index // count, table.rows * (index + 1) // count
            stream = f"{name}/streams/{secrets.token_urlsafe(12)}"
            self._streams[stream] = _Stream(table, fields, start, end, restriction, write)
            answer.streams.add(name=stream)
        return answer

    def _stream_count(self, table: Table, asked: int, preferred: int) -> int:
        """As BigQuery: no stream for no rows, few for few rows, never more than asked for."""
        if not table.rows:
            return 0
        most = min(asked or preferred or self.max_streams, self.max_streams)
        return max(1, min(most, -(-table.rows // _ROWS_WORTH_A_STREAM)))

    def _table(self, path: str) -> Table:
        parts = path.split("/")
        if len(parts) != 6 or parts[::2] != ["projects", "datasets", "tables"]:
            raise ApiError(400, "invalid", f"request failed: Invalid table name: {path}")
        table = self._catalog.readable_table(parts[1], parts[3], parts[5], "bigquery.tables.getData")
        if table.kind not in READABLE:
            raise ApiError(400, "invalid", NOT_A_TABLE)
        return table

    def _read(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        logged = self._log("ReadRows", request.read_stream, {"offset": request.offset})
        try:
            self._admit(logged, context)
            stream = self._streams.get(request.read_stream)
            if stream is None:
                raise not_found("Read stream", request.read_stream)
            fault = self._faults.take(logged.name, logged.path)
            yield from self._responses(stream, request.offset, fault, logged, context)
        except ApiError as error:
            logged.status = error.status
            context.abort(_code_of(error), error.message)

    def _responses(
        self, stream: _Stream, offset: int, fault: Fault | None, logged: Request, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        done, total = offset, max(stream.end - stream.start, 1)
        for index, batch in enumerate(self._batches(stream, offset)):
            if fault is not None and index == fault.at_batch:
                self._stall(fault.stall_s, context)
                _apply(fault)
                if fault.truncate:
                    return
            if not context.is_active() or self._closing.is_set():
                return
            response = _RowsResponse(row_count=batch.num_rows)
            response.arrow_record_batch.serialized_record_batch = serialize(batch, stream.options)
            response.arrow_record_batch.row_count = batch.num_rows
            response.stats.progress.at_response_start = done / total
            done += batch.num_rows
            response.stats.progress.at_response_end = done / total
            if index == 0:
                response.arrow_schema.serialized_schema = batch.schema.serialize().to_pybytes()
            logged.rows += batch.num_rows
            yield response.SerializeToString()

    def _restriction(self, table: Table, text: str) -> str:
        """A restriction that the table's columns answer, as a DuckDB condition; "" is none."""
        both = [part for part in (text, table.row_filter) if part]
        if not both:
            return ""
        condition = " AND ".join(_condition(part, table.fields) for part in both)
        try:
            self._store.rows(f"SELECT 1 FROM {table.physical} WHERE {condition} LIMIT 0")  # noqa: S608 - rendered
        except duckdb.Error as error:
            raise ApiError(400, "invalid", f"request failed: {refusal_of(error).message}") from None
        return condition

    def _stall(self, seconds: float, context: grpc.ServicerContext) -> None:
        """Send nothing for so long, unless the client leaves."""
        until = time.monotonic() + seconds
        while context.is_active() and time.monotonic() < until and not self._closing.wait(0.01):
            pass

    def _batches(self, stream: _Stream, offset: int) -> Iterator[pa.RecordBatch]:
        """The stream's rows from `offset` on, in batches whose bytes are bounded."""
        if stream.restriction:
            source = batches(
                self._store, stream.table, stream.fields, stream.start, stream.end, _MAX_BATCH_ROWS, stream.restriction
            )
            yield from bounded(skip(source, offset))
        else:
            first = stream.start + offset
            yield from bounded(batches(self._store, stream.table, stream.fields, first, stream.end, _MAX_BATCH_ROWS))

    def _log(self, name: str, path: str, body: dict[str, Any]) -> Request:
        return self._requests.add(Request(name, path, body, status="OK"))

    def _admit(self, logged: Request, context: grpc.ServicerContext) -> None:
        metadata = {key.lower(): value for key, value in context.invocation_metadata()}
        logged.token = self._tokens.check(metadata.get("authorization"))


def _apply(fault: Fault | None) -> None:
    """Refuse as the fault says, if it does."""
    if fault is None or not (fault.grpc_code or fault.refuses):
        return
    error = fault.error()
    error.grpc_code = fault.grpc_code
    raise error


def _code_of(error: ApiError) -> grpc.StatusCode:
    return grpc.StatusCode[error.grpc_code or error.status]


def _condition(written: str, fields: tuple[Field, ...]) -> str:
    """A row restriction in DuckDB's words."""
    try:
        return f"({condition_over(written, fields)})"
    except ApiError as error:
        raise ApiError(400, "invalid", f"request failed: {error.message}") from None
