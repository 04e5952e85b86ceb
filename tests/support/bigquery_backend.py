"""Google's own clients for a stand-in, and the two backends that the shared suite runs against."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import grpc
import pyarrow as pa
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from agnes_mcp.stand_in import StandIn
from agnes_mcp.stand_in.fields import read_schema

# Google annotates its clients in part: to tests they are untyped
Client: TypeAlias = Any
StorageClient: TypeAlias = Any

EMULATOR_VARIABLE = "AGNES_TEST_EMULATOR"  # "<api endpoint> <grpc target>"


@contextmanager
def rest_client(
    api_endpoint: str, project: str = "my-project", location: str | None = None, credentials: Credentials | None = None
) -> Iterator[Client]:
    """The official REST client, closed afterwards."""
    client: Client = bigquery.Client(
        project=project,
        location=location,
        credentials=credentials or AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth
        client_options={"api_endpoint": api_endpoint},
    )
    try:
        yield client
    finally:
        client.close()


@contextmanager
def storage_client(grpc_target: str) -> Iterator[StorageClient]:
    """The official Storage Read client over a plaintext channel, closed afterwards."""
    with grpc.insecure_channel(grpc_target) as channel:
        transport = BigQueryReadGrpcTransport(channel=channel)
        yield BigQueryReadClient(transport=transport)  # type: ignore[no-untyped-call]  # google's


def open_session(
    client: StorageClient,
    table: str,
    *,
    columns: Sequence[str] = (),
    streams: int = 1,
    restriction: str = "",
    compression: int = 0,
    project: str = "my-project",
) -> Any:
    """A read session in Arrow; `table` is `dataset.table` or `project.dataset.table`."""
    owner, dataset, name = [project, *table.split(".")][-3:]
    options = types.ReadSession.TableReadOptions(
        selected_fields=list(columns),
        row_restriction=restriction,
        arrow_serialization_options=types.ArrowSerializationOptions(buffer_compression=compression),
    )
    session = types.ReadSession(
        table=f"projects/{owner}/datasets/{dataset}/tables/{name}",
        data_format=types.DataFormat.ARROW,
        read_options=options,
    )
    return client.create_read_session(
        parent=f"projects/{project}", read_session=session, max_stream_count=streams, retry=None, timeout=20
    )


def session_schema(session: types.ReadSession) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))


def read_stream(
    client: StorageClient, session: types.ReadSession, index: int = 0, offset: int = 0
) -> Iterator[pa.RecordBatch]:
    """The record batches of one of a session's streams."""
    schema = session_schema(session)
    for response in client.read_rows(session.streams[index].name, offset, timeout=30):
        yield pa.ipc.read_record_batch(pa.py_buffer(response.arrow_record_batch.serialized_record_batch), schema)


def read_table(client: StorageClient, session: types.ReadSession) -> pa.Table:
    """Every stream of a session, one after the other."""
    batches = [batch for index in range(len(session.streams)) for batch in read_stream(client, session, index)]
    return pa.Table.from_batches(batches, session_schema(session))


class Backend(Protocol):
    """A BigQuery that the shared suite fills and asks."""

    name: str
    dataset: str
    client: Client
    storage: StorageClient

    def create_table(self, name: str, schema: str, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def create_view(self, name: str, query: str) -> None: ...


class StandInBackend:
    name = "stand-in"

    def __init__(self, stand_in: StandIn, client: Client, storage: StorageClient) -> None:
        self.stand_in = stand_in
        self.client = client
        self.storage = storage
        self.dataset = "shared"

    def create_table(self, name: str, schema: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.stand_in.create_table(self.dataset, name, schema, rows=rows)

    def create_view(self, name: str, query: str) -> None:
        self.stand_in.create_view(self.dataset, name, query)


class EmulatorBackend:
    """Filled through its own API: tables.insert, a view resource, and INSERT statements."""

    name = "emulator"

    def __init__(self, client: Client, storage: StorageClient) -> None:
        self.client = client
        self.storage = storage
        self.dataset = f"shared_{secrets.token_hex(4)}"
        client.create_dataset(self.dataset)

    def create_table(self, name: str, schema: str, rows: Sequence[Mapping[str, Any]]) -> None:
        fields = read_schema(schema)
        columns = [bigquery.SchemaField.from_api_repr(field.rest()) for field in fields]
        table = bigquery.Table(f"{self.client.project}.{self.dataset}.{name}", schema=columns)
        self.client.create_table(table)
        refused = self.client.insert_rows_json(table, [dict(row) for row in rows])
        assert not refused, refused

    def create_view(self, name: str, query: str) -> None:
        view = bigquery.Table(f"{self.client.project}.{self.dataset}.{name}")
        view.view_query = query
        self.client.create_table(view)


@contextmanager
def open_backend() -> Iterator[Backend]:
    """The emulator that the environment names, or else a stand-in."""
    named = os.environ.get(EMULATOR_VARIABLE)
    if named:
        api_endpoint, grpc_target = named.split()
        with rest_client(api_endpoint) as client, storage_client(grpc_target) as storage:
            yield EmulatorBackend(client, storage)
        return
    with (
        StandIn() as stand_in,
        rest_client(stand_in.api_endpoint) as client,
        storage_client(stand_in.grpc_target) as storage,
    ):
        yield StandInBackend(stand_in, client, storage)
