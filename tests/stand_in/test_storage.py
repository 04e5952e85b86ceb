"""The Storage Read API, as the official gRPC client sees it."""

from __future__ import annotations

import datetime as dt

import grpc
import pyarrow as pa
import pytest
from google.api_core.exceptions import InvalidArgument, NotFound
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
from support.bigquery_backend import Client, StorageClient, open_session, read_stream, read_table, session_schema

from agnes_mcp.stand_in import StandIn
from agnes_mcp.stand_in.wire.rows import batches

ROWS = 200_000


@pytest.fixture
def many(bq: StandIn) -> StandIn:
    """`my_dataset.many`: 200 000 rows in order of `id`."""
    sql = f"SELECT i AS id, 'name ' || i AS name, i % 7 AS weekday FROM range({ROWS}) t(i)"
    bq.create_table("my_dataset", "many", sql=sql)
    return bq


def test_a_session_describes_what_will_come(many: StandIn, storage: StorageClient) -> None:
    session = open_session(storage, "my_dataset.many", columns=["name", "id"], streams=3)
    assert session.name.startswith("projects/my-project/locations/us/sessions/")
    assert len(session.streams) == 3
    assert all(stream.name.startswith(f"{session.name}/streams/") for stream in session.streams)
    assert session.data_format == types.DataFormat.ARROW
    assert session.estimated_row_count == ROWS
    assert session_schema(session).names == ["id", "name"]  # the table's order
    assert session.expire_time > dt.datetime.now(dt.UTC) + dt.timedelta(hours=5)


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_streams_cover_every_row_once(many: StandIn, storage: StorageClient, streams: int) -> None:
    session = open_session(storage, "my_dataset.many", columns=["id"], streams=streams)
    assert len(session.streams) == streams
    parts = [pa.Table.from_batches(read_stream(storage, session, index)) for index in range(streams)]
    ids = pa.concat_tables(parts).column("id").to_pylist()
    assert ids == list(range(ROWS))


def test_few_rows_get_one_stream_and_none_get_none(bq: StandIn, storage: StorageClient) -> None:
    assert len(open_session(storage, "my_dataset.things", streams=8).streams) == 1
    bq.create_table("my_dataset", "empty", "id INT64", rows=[])
    session = open_session(storage, "my_dataset.empty", streams=8)
    assert (len(session.streams), session_schema(session).names) == (0, ["id"])


@pytest.mark.parametrize("offset", [0, 1, 70_000, ROWS - 1])
def test_a_stream_resumes_at_any_row(many: StandIn, storage: StorageClient, offset: int) -> None:
    session = open_session(storage, "my_dataset.many", columns=["id"])
    first = next(iter(read_stream(storage, session, offset=offset)))
    assert first.column("id")[0].as_py() == offset


def test_a_resumed_restricted_stream_goes_on_where_it_was(many: StandIn, storage: StorageClient) -> None:
    session = open_session(storage, "my_dataset.many", columns=["id"], restriction="weekday = 3 AND name LIKE 'name %'")
    whole = read_table(storage, session).column("id").to_pylist()
    assert whole == list(range(3, ROWS, 7))
    rest = pa.Table.from_batches(read_stream(storage, session, offset=10_000)).column("id").to_pylist()
    assert rest == whole[10_000:]


def test_batches_stay_far_below_a_message_limit(bq: StandIn, storage: StorageClient) -> None:
    """A channel's default limit is 4 MiB: long values among short ones must not break it."""
    uneven = "SELECT i AS id, repeat('x', CASE WHEN i % 1000 < 20 THEN 100000 ELSE 1 END) AS text FROM range(5000) t(i)"
    bq.create_table("my_dataset", "uneven", sql=uneven)
    session = open_session(storage, "my_dataset.uneven")
    responses = list(storage.read_rows(session.streams[0].name, timeout=30))
    sizes = [len(response.arrow_record_batch.serialized_record_batch) for response in responses]
    assert sum(response.row_count for response in responses) == 5000
    assert max(sizes) < 4 * 1024 * 1024
    assert len(sizes) > 5


def test_responses_tell_their_progress_and_the_first_the_schema(many: StandIn, storage: StorageClient) -> None:
    session = open_session(storage, "my_dataset.many")
    responses = list(storage.read_rows(session.streams[0].name, timeout=30))
    ends = [response.stats.progress.at_response_end for response in responses]
    assert ends == sorted(ends)
    assert ends[-1] == 1.0
    with_schema = [bool(response.arrow_schema.serialized_schema) for response in responses]
    assert with_schema == [True] + [False] * (len(responses) - 1)


@pytest.mark.parametrize("codec", [1, 2])
def test_batches_may_be_compressed(many: StandIn, storage: StorageClient, codec: int) -> None:
    session = open_session(storage, "my_dataset.many", columns=["weekday"], compression=codec)
    responses = list(storage.read_rows(session.streams[0].name, timeout=30))
    assert sum(len(r.arrow_record_batch.serialized_record_batch) for r in responses) < ROWS * 8 / 2
    assert read_table(storage, session).column("weekday").to_pylist()[:8] == [0, 1, 2, 3, 4, 5, 6, 0]


def test_only_stored_tables_can_be_read(bq: StandIn, storage: StorageClient) -> None:
    bq.create_view("my_dataset", "view", "SELECT id FROM my_dataset.things")
    bq.create_materialized_view("my_dataset", "mv", "SELECT COUNT(*) AS n FROM my_dataset.things")
    for name in ("view", "mv"):
        with pytest.raises(InvalidArgument, match="non-table entities cannot be read with the storage API"):
            open_session(storage, f"my_dataset.{name}")


def test_what_is_not_there(bq: StandIn, storage: StorageClient) -> None:
    with pytest.raises(NotFound, match=r"Not found: Table my-project:my_dataset\.nope"):
        open_session(storage, "my_dataset.nope")
    with pytest.raises(InvalidArgument, match="No such field: nope"):
        open_session(storage, "my_dataset.things", columns=["nope"])
    with pytest.raises(NotFound):
        list(storage.read_rows("projects/p/locations/us/sessions/s/streams/none", timeout=5))


@pytest.mark.parametrize("restriction", ["id >", "FROBNICATE(id)", "nope = 1"])
def test_a_restriction_that_is_no_condition_is_refused(bq: StandIn, storage: StorageClient, restriction: str) -> None:
    with pytest.raises(InvalidArgument):
        read_table(storage, open_session(storage, "my_dataset.things", restriction=restriction))


def test_a_querys_result_is_read_for_nothing(bq: StandIn, client: Client, storage: StorageClient) -> None:
    job = client.query("SELECT id * 2 AS twice, name FROM my_dataset.things ORDER BY id DESC")
    job.result()
    made = len(bq.query_jobs())
    target = job.destination
    session = open_session(storage, f"{target.project}.{target.dataset_id}.{target.table_id}")
    assert read_table(storage, session).to_pydict() == {"twice": [4, 2, 0], "name": ["thing 2", "thing 1", "thing 0"]}
    assert len(bq.query_jobs()) == made


def test_rows_stream_with_bounded_memory(bq: StandIn) -> None:
    """However long the table, a reader holds one batch: nothing is gathered first."""
    bq.create_table("my_dataset", "long", sql="SELECT i AS id, i AS other FROM range(2_000_000) t(i)")
    table = bq.catalog.table("my-project", "my_dataset", "long")
    before = pa.total_allocated_bytes()
    most = 0
    for batch in batches(bq.store, table, table.fields, 0, table.rows, 65_536):
        most = max(most, pa.total_allocated_bytes() - before)
        assert batch.num_rows <= 65_536
    assert most < 8 * 1024 * 1024


def test_a_reader_that_leaves_frees_its_stream(many: StandIn, storage: StorageClient) -> None:
    session = open_session(storage, "my_dataset.many")
    for _ in range(64):  # twice the server's threads: readers that left must not hold them
        call = storage.transport.read_rows(types.ReadRowsRequest(read_stream=session.streams[0].name))
        next(iter(call))
        call.cancel()
    assert read_table(storage, session).num_rows == ROWS


def test_grpc_over_tls() -> None:
    key, certificate = self_signed()
    with StandIn(grpc_certificate=(key, certificate), require_token=True) as bq:
        bq.create_table("my_dataset", "t", "id INT64", rows=[{"id": 1}])
        bq.tokens.accept("good")
        token = grpc.access_token_call_credentials("good")
        credentials = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(certificate), token)
        with grpc.secure_channel(bq.grpc_target, credentials) as channel:
            client: StorageClient = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))  # type: ignore[no-untyped-call]
            assert read_table(client, open_session(client, "my_dataset.t")).to_pydict() == {"id": [1]}


def self_signed() -> tuple[bytes, bytes]:
    """A private key and a certificate for 127.0.0.1, in PEM."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded, certificate.public_bytes(serialization.Encoding.PEM)
