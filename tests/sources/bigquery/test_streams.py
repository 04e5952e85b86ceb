"""Storage Read over the wire: whole results or an error, whatever happens on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from support.bigquery import ORDERS, call, read_all, statement, table
from support.metadata_server import closed_port
from support.waiting import soon

from agnes_mcp.calls.call import cancelled
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Price, Table
from agnes_mcp.sources.bigquery.clients import Clients
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.requests import Attempts
from agnes_mcp.sources.bigquery.rows import StorageReads, TableRows
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.bigquery.streams import Watchdog
from agnes_mcp.stand_in import Fault, StandIn
from agnes_mcp.stand_in.wire.framing import serialize

ROWS = 400_000
BIG = table("big")
ALL = statement(BIG, ["id", "word"])


@pytest.fixture
def big(bq: StandIn) -> StandIn:
    """A table of several messages a stream."""
    bq.create_table(
        "my_dataset",
        "big",
        schema="id INT64, word STRING",
        sql=f"SELECT i AS id, 'word ' || i AS word FROM range({ROWS}) t(i)",
    )
    return bq


def test_a_direct_read_runs_no_job_and_gives_every_row_in_order(source: BigQuerySource, big: StandIn) -> None:
    rows, receipt = read_all(source, BIG, ALL)
    assert rows["id"].to_pylist() == list(range(ROWS))
    assert receipt.job_id is None
    assert big.query_jobs() == []
    (session,) = big.requests.named("CreateReadSession")
    assert session.body["selected_fields"] == ["id", "word"]


def test_a_direct_read_is_billed_by_what_it_read(source: BigQuerySource, big: StandIn) -> None:
    price = source.price(BIG, source.schema(BIG, call()), ALL, call())
    _, receipt = read_all(source, BIG, ALL, price=price)
    assert receipt.bytes_billed == price.scan_bytes


def test_a_reader_who_leaves_early_pays_for_what_came(source: BigQuerySource, big: StandIn) -> None:
    schema = source.schema(BIG, call())
    price = source.price(BIG, schema, ALL, call())
    with source.read(BIG, schema, ALL, price, call()) as reading:
        next(iter(reading))
    assert price.scan_bytes is not None
    assert 0 < reading.receipt.bytes_billed < price.scan_bytes


def test_a_direct_read_stops_before_it_passes_its_cap(source: BigQuerySource, big: StandIn) -> None:
    """Storage Read has no cap of its own: a table that has grown since it was priced is not read to its end."""
    schema = source.schema(BIG, call())
    price = Price(scan_bytes=1000, reserved_bytes=200_000, path="direct_read")
    received: list[pa.RecordBatch] = []
    with pytest.raises(AgnesError) as caught, source.read(BIG, schema, ALL, price, call()) as reading:
        received.extend(reading)
    assert caught.value.kind == "bytes_billed_cap_reached"
    assert sum(batch.num_rows for batch in received) * 8 < 200_000
    assert caught.value.details["bytes_billed"] == reading.receipt.bytes_billed


def test_an_empty_table_keeps_its_types(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table("my_dataset", "empty", schema="id INT64, tags ARRAY<STRING>", rows=[])
    rows, receipt = read_all(source, table("empty"), statement(table("empty"), ["tags", "id"]))
    assert rows.num_rows == 0
    assert [str(field.type) for field in rows.schema] == ["list<item: string>", "int64"]
    assert receipt.bytes_billed == 0


def read_big(source: BigQuerySource, **given: object) -> pa.Table:
    return read_all(source, BIG, ALL, on=call(**given))[0]  # type: ignore[arg-type] # passed on as they are


DENIED = "Permission bigquery.readsessions.create denied on project my-project"

BROKEN = {
    "unavailable": Fault("ReadRows", grpc_code="UNAVAILABLE", at_batch=2),
    "internal": Fault("ReadRows", grpc_code="INTERNAL", at_batch=1),
    "unavailable twice": Fault("ReadRows", grpc_code="UNAVAILABLE", at_batch=1, times=2),
    "at once": Fault("ReadRows", grpc_code="UNAVAILABLE", at_batch=0),
}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_stream_is_taken_up_where_it_broke(source: BigQuerySource, big: StandIn, fault: Fault) -> None:
    """Every row once: none twice, none missing."""
    big.faults.add(Fault(**vars(fault)))
    assert read_big(source)["id"].to_pylist() == list(range(ROWS))
    assert len(big.requests.named("ReadRows")) > 1


def test_a_token_refused_in_the_middle_of_a_stream_is_replaced_once(source: BigQuerySource, big: StandIn) -> None:
    big.faults.add(Fault("ReadRows", grpc_code="UNAUTHENTICATED", at_batch=1))
    assert read_big(source)["id"].to_pylist() == list(range(ROWS))
    big.faults.add(Fault("ReadRows", grpc_code="UNAUTHENTICATED", at_batch=0, times=None))
    big.requests.clear()
    with pytest.raises(AgnesError) as caught:
        read_big(source)
    assert caught.value.kind == "auth_failed"
    assert len(big.requests.named("ReadRows")) == 2


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "not Arrow": lambda content: b"x" * len(content),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_record_batch_that_does_not_decode_is_an_error(
    source: BigQuerySource, big: StandIn, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "agnes_mcp.stand_in.wire.grpc.serialize", lambda batch, options: damage(serialize(batch, options))
    )
    with pytest.raises(AgnesError) as caught:
        read_big(source)
    assert caught.value.kind == "bq_upstream_error"


def test_a_record_batch_with_other_rows_than_announced_is_an_error(
    source: BigQuerySource, big: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "agnes_mcp.stand_in.wire.grpc.serialize", lambda batch, options: serialize(batch.slice(1), options)
    )
    with pytest.raises(AgnesError) as caught:
        read_big(source)
    assert caught.value.kind == "bq_upstream_error"
    assert "other rows" in caught.value.message


@pytest.mark.parametrize("total", [999, 1001])
def test_another_number_of_rows_than_the_result_has_is_an_error(
    source: BigQuerySource, bq: StandIn, total: int
) -> None:
    settings = BigQuerySettings(
        project="my-project", api_endpoint=bq.api_endpoint, storage_endpoint=f"grpc://{bq.grpc_target}"
    )
    clients = Clients(settings)
    path = TablePath("my-project", "my_dataset", "orders")
    columns = [Column(name="id", type="INT64")]
    rows = TableRows(clients, Attempts(call(), clients.tokens), StorageReads(clients), path, columns, total)
    with pytest.raises(AgnesError, match=f"1,000 of {total:,} rows arrived"):
        list(rows)
    clients.close()


LASTING = [
    ("UNAVAILABLE", "bq_upstream_error", 4),
    ("PERMISSION_DENIED", "bq_forbidden", 1),
    ("NOT_FOUND", "bq_not_found", 1),
    ("INVALID_ARGUMENT", "bq_bad_request", 1),
    ("DATA_LOSS", "bq_upstream_error", 4),
    ("RESOURCE_EXHAUSTED", "bq_rate_limited", 4),
]


@pytest.mark.parametrize(("code", "kind", "requests"), LASTING)
def test_a_stream_that_keeps_breaking_is_an_error_after_bounded_tries(
    source: BigQuerySource, big: StandIn, code: str, kind: str, requests: int
) -> None:
    """Never a truncated result."""
    big.faults.add(Fault("ReadRows", grpc_code=code, message="Injected", times=None))
    with pytest.raises(AgnesError) as caught:
        read_big(source)
    assert caught.value.kind == kind
    assert len(big.requests.named("ReadRows")) == requests


@pytest.mark.parametrize("asked", [ALL, statement(BIG, ["id"], "WHERE id >= 0")], ids=["direct read", "query job"])
def test_a_stream_that_ends_too_soon_without_an_error_is_an_error(
    source: BigQuerySource, big: StandIn, asked: object
) -> None:
    big.faults.add(Fault("ReadRows", truncate=True, at_batch=2))
    with pytest.raises(AgnesError) as caught:
        read_all(source, BIG, asked)  # type: ignore[arg-type] # a Statement
    assert caught.value.kind == "bq_upstream_error"


def test_a_stream_cut_before_its_first_row_is_an_error_too(source: BigQuerySource, big: StandIn) -> None:
    big.faults.add(Fault("ReadRows", truncate=True))
    with pytest.raises(AgnesError) as caught:
        read_all(source, BIG, ALL)
    assert caught.value.kind == "bq_upstream_error"


def test_a_table_of_which_no_row_is_permitted_is_empty(source: BigQuerySource, big: StandIn) -> None:
    """The session estimates the table's rows; that none of them came is true where REST may not give any either."""
    schema = source.schema(BIG, call())
    price = source.price(BIG, schema, ALL, call())
    assert price.path == "direct_read"
    big.catalog.table("my-project", "my_dataset", "big").row_filter = "FALSE"
    rows, receipt = read_all(source, BIG, ALL, price=price)
    assert (rows.num_rows, rows.column_names, receipt.bytes_billed) == (0, ["id", "word"], 0)


def test_a_stalled_stream_is_taken_up_again_once(
    source: BigQuerySource, big: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.streams.STALL_TIMEOUT_S", 0.5)
    big.faults.add(Fault("ReadRows", stall_s=30, at_batch=2))
    assert read_big(source).num_rows == ROWS
    assert len(big.requests.named("ReadRows")) == 2


def test_a_stream_that_keeps_stalling_is_given_up(
    source: BigQuerySource, big: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.streams.STALL_TIMEOUT_S", 0.5)
    big.faults.add(Fault("ReadRows", stall_s=3600, at_batch=0, times=None))
    with pytest.raises(AgnesError) as caught, soon():
        read_big(source)
    assert caught.value.kind == "bq_upstream_error"
    assert "sent nothing for 0.5 seconds" in caught.value.message


def test_a_wall_clock_that_jumps_changes_nothing(
    source: BigQuerySource, big: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter([-3600.0, 90_000.0] * 10_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    assert read_big(source).num_rows == ROWS


def test_a_deadline_ends_a_stalled_stream(source: BigQuerySource, big: StandIn) -> None:
    big.faults.add(Fault("ReadRows", stall_s=3600, at_batch=1))
    schema = source.schema(BIG, call())
    price = source.price(BIG, schema, ALL, call())
    on = call(timeout_s=1)
    with soon(), pytest.raises(AgnesError) as caught, source.read(BIG, schema, ALL, price, on) as reading:
        list(reading)
    assert caught.value.kind == "timeout"


def test_stopping_the_call_ends_a_running_stream_at_once(source: BigQuerySource, big: StandIn) -> None:
    big.faults.add(Fault("ReadRows", stall_s=3600, at_batch=1))
    schema = source.schema(BIG, call())
    price = source.price(BIG, schema, ALL, call())
    on = call()
    threading.Timer(0.5, on.stop, [cancelled()]).start()
    with soon(), pytest.raises(AgnesError) as caught, source.read(BIG, schema, ALL, price, on) as reading:
        list(reading)
    assert caught.value.kind == "cancelled"


def test_no_thread_is_left_after_a_read(source: BigQuerySource, big: StandIn) -> None:
    read_big(source)
    big.faults.add(Fault("ReadRows", grpc_code="NOT_FOUND", at_batch=1))
    with pytest.raises(AgnesError):
        read_big(source)
    assert [t.name for t in threading.enumerate() if t.name == "bigquery-watchdog"] == []


def test_without_storage_read_rows_come_through_rest_and_that_is_said_once(
    source: BigQuerySource, bq: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    bq.faults.add(Fault("CreateReadSession", status=403, times=None, message=DENIED))
    for _ in range(2):
        rows, receipt = read_all(source, ORDERS, statement(ORDERS, ["id"]))
        assert rows["id"].to_pylist() == list(range(1000))
        assert receipt.bytes_billed == 0  # tabledata.list is free
    assert len(bq.requests.named("CreateReadSession")) == 1
    assert [record.levelname for record in caplog.records if "Storage Read is not to be had" in record.message] == [
        "WARNING"
    ]
    assert "bigquery.readsessions.create" in source.health()["storage_read"]


def test_a_refusal_about_one_table_does_not_turn_storage_read_off(source: BigQuerySource, bq: StandIn) -> None:
    denied = "Permission bigquery.tables.getData denied on table my-project:my_dataset.orders"
    bq.faults.add(Fault("CreateReadSession", status=403, message=denied))
    for _ in range(2):
        assert read_all(source, ORDERS, statement(ORDERS, ["id"]))[0].num_rows == 1000
    assert len(bq.requests.named("CreateReadSession")) == 2
    assert len(bq.requests.named("ReadRows")) == 1
    assert source.health()["storage_read"] == "ok"


def test_a_table_that_is_gone_is_not_found_and_storage_read_stays_on(source: BigQuerySource, bq: StandIn) -> None:
    schema = source.schema(ORDERS, call())
    asked = statement(ORDERS, ["id"])
    price = source.price(ORDERS, schema, asked, call())
    bq.drop_table("my_dataset", "orders")
    with pytest.raises(AgnesError) as caught, source.read(ORDERS, schema, asked, price, call()) as reading:
        list(reading)
    assert caught.value.kind == "bq_not_found"
    assert source.health()["storage_read"] == "ok"


def test_a_result_that_storage_read_does_not_find_comes_through_rest(source: BigQuerySource, bq: StandIn) -> None:
    bq.faults.add(Fault("CreateReadSession", status=404, message="Not found: Table"))
    rows, receipt = read_all(source, ORDERS, statement(ORDERS, ["id"], "WHERE id < 5"))
    assert rows["id"].to_pylist() == [0, 1, 2, 3, 4]
    assert receipt.job_id is not None


def test_storage_read_that_is_unreachable_falls_back_to_rest(
    open_source: Callable[..., BigQuerySource],
) -> None:
    with closed_port() as port:
        source = open_source(storage_endpoint=f"grpc://127.0.0.1:{port}")
        assert read_all(source, ORDERS, statement(ORDERS, ["id"]))[0].num_rows == 1000
    assert "cannot be reached" in source.health()["storage_read"]


def test_a_page_of_rest_that_is_cut_is_asked_for_again(
    open_source: Callable[..., BigQuerySource], bq: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.rows.REST_PAGE_ROWS", 100)
    bq.faults.add(Fault("CreateReadSession", status=403, times=None))
    bq.faults.add(Fault("tabledata.list", after=3, reset="body"), Fault("tabledata.list", after=5, status=503))
    rows, _ = read_all(open_source(), ORDERS, statement(ORDERS, ["id"]))
    assert rows["id"].to_pylist() == list(range(1000))
    assert len(bq.requests.named("tabledata.list")) == 12


def test_eight_readers_at_once_each_get_their_own_rows(source: BigQuerySource, big: StandIn) -> None:
    wrong: list[int] = []

    def read(number: int) -> None:
        asked = statement(BIG, ["id"], f"WHERE MOD(id, 8) = {number}")
        rows, _ = read_all(source, BIG, asked)
        if rows["id"].to_pylist() != list(range(number, ROWS, 8)):
            wrong.append(number)

    threads = [threading.Thread(target=read, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_view_is_never_read_through_storage_read(source: BigQuerySource, bq: StandIn) -> None:
    """Not even when a price says so; BigQuery's refusal comes out as what it is."""
    bq.create_view("my_dataset", "cz", "SELECT id FROM `my-project.my_dataset.orders`")
    of: Table = table("cz")
    price = Price(scan_bytes=1, reserved_bytes=10**9, path="direct_read")
    with pytest.raises(AgnesError) as caught:
        read_all(source, of, statement(of, ["id"]), price=price)
    assert caught.value.kind == "bq_bad_request"
    assert "non-table entities cannot be read" in caught.value.message


def test_the_watchdog_bites_once_per_watch_and_only_when_late() -> None:
    bites: list[float] = []
    bitten = threading.Event()

    def bite() -> None:
        bites.append(time.monotonic())
        bitten.set()

    with Watchdog(bite) as watchdog:
        for _ in range(50):
            with watchdog.watching(30):
                pass
        assert not watchdog.bitten
        with watchdog.watching(0.05):
            assert bitten.wait(60)
        assert watchdog.bitten
        with watchdog.watching(30):
            assert not watchdog.bitten
    assert len(bites) == 1
