"""Whole columns through the shared DuckDB connection: as the client's stream gives them, whatever happens to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from support.bigquery import call, read_all, statement, table
from support.waiting import soon, wait_until

from agnes_mcp.calls.call import cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price
from agnes_mcp.sources.bigquery.registered import Registered
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.stand_in import Fault, StandIn

ROWS = 400_000
BIG = table("big")
COLUMNS = ["word", "id", "tags", "who"]
ALL = statement(BIG, COLUMNS)


@pytest.fixture
def big(bq: StandIn) -> StandIn:
    """A table of many messages, with columns that nest and some that are empty."""
    bq.create_table(
        "my_dataset",
        "big",
        schema="id INT64 NOT NULL, word STRING, tags ARRAY<STRING>, who STRUCT<name STRING, born DATE>",
        sql=(
            "SELECT i AS id, CASE WHEN i % 7 > 0 THEN 'word ' || i END AS word, "
            "[x::VARCHAR FOR x IN range(i % 3)] AS tags, "
            f"CASE WHEN i % 5 > 0 THEN {{'name': 'n' || i, 'born': DATE '2000-01-01'}} END AS who "
            f"FROM range({ROWS}) t(i)"
        ),
    )
    return bq


def opened(source: BigQuerySource, big: StandIn, on: Any) -> Any:
    schema = source.schema(BIG, call())
    return source.read(BIG, schema, ALL, source.price(BIG, schema, ALL, call()), on)


def test_rows_order_schema_and_bill_are_those_of_the_stream_alone(
    open_source: Callable[..., BigQuerySource], source: BigQuerySource, big: StandIn
) -> None:
    with opened(source, big, call()) as reading:
        assert isinstance(reading, Registered)
    there, there_receipt = read_all(source, BIG, ALL)
    alone, alone_receipt = read_all(open_source(None), BIG, ALL)
    assert there.schema.equals(alone.schema, check_metadata=True)
    assert there.equals(alone)
    assert there.num_rows == ROWS
    assert there_receipt == alone_receipt


def test_batches_are_no_larger_than_the_messages_that_they_came_in(
    open_source: Callable[..., BigQuerySource], source: BigQuerySource, big: StandIn
) -> None:
    """Memory follows the wire, where messages are cut by bytes, and not a number of rows of any width."""
    with opened(open_source(None), big, call()) as reading:
        first = next(iter(reading)).num_rows
    with opened(source, big, call()) as reading:
        assert max(batch.num_rows for batch in reading) <= max(first, 2048)


@pytest.mark.parametrize("columns", [["big"], ["n", "span"], ["n", "big", "text"]])
def test_types_that_duckdb_has_not_pass_beside_it(
    open_source: Callable[..., BigQuerySource], bq: StandIn, columns: list[str]
) -> None:
    bq.create_table(
        "my_dataset",
        "typed",
        schema="n INT64, big BIGNUMERIC, span INTERVAL, text STRING",
        rows=[{"n": 1, "big": 2, "span": "1 month", "text": "a"}, {"n": 2}],
    )
    of = table("typed")
    there, alone = (read_all(open_source(*given), of, statement(of, columns))[0] for given in ((), (None,)))
    assert there.schema == alone.schema
    assert there.equals(alone)


def test_a_broken_stream_is_taken_up_where_it_broke(source: BigQuerySource, big: StandIn) -> None:
    big.faults.add(
        Fault("ReadRows", grpc_code="UNAUTHENTICATED", at_batch=2), Fault("ReadRows", grpc_code="INTERNAL", at_batch=1)
    )
    rows, _ = read_all(source, BIG, ALL)
    assert rows["id"].to_pylist() == list(range(ROWS))


FAULTS = {
    "cut": (Fault("ReadRows", truncate=True, at_batch=2), "bq_upstream_error", "ended at"),
    "refused": (Fault("ReadRows", grpc_code="PERMISSION_DENIED", at_batch=2), "bq_forbidden", ""),
    "exhausted": (Fault("ReadRows", grpc_code="RESOURCE_EXHAUSTED", times=None), "bq_rate_limited", ""),
    "at the first row": (Fault("ReadRows", grpc_code="NOT_FOUND"), "bq_not_found", ""),
}


@pytest.mark.parametrize(("fault", "kind", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_what_the_stream_ends_with_comes_out_as_it_is(
    source: BigQuerySource, big: StandIn, fault: Fault, kind: str, said: str
) -> None:
    """Not as DuckDB's word on a stream that failed, and with nothing of Google's chained to it."""
    big.faults.add(fault)
    with pytest.raises(AgnesError) as caught, opened(source, big, call()) as reading:
        list(reading)
    assert caught.value.kind == kind
    assert said in caught.value.message
    assert caught.value.__cause__ is None
    assert reading.receipt.bytes_billed >= 0


def test_the_cap_holds(source: BigQuerySource, big: StandIn) -> None:
    schema = source.schema(BIG, call())
    price = Price(scan_bytes=1000, reserved_bytes=3_000_000, path="direct_read")
    with pytest.raises(AgnesError) as caught, source.read(BIG, schema, ALL, price, call()) as reading:
        list(reading)
    assert caught.value.kind == "bytes_billed_cap_reached"
    assert caught.value.details["bytes_billed"] == reading.receipt.bytes_billed


def read_in_thread(reading: Any, ended: list[AgnesError]) -> threading.Thread:
    def read() -> None:
        try:
            list(reading)
        except AgnesError as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_a_stalled_stream_is_nobody_elses_and_ends_with_its_call(
    source: BigQuerySource, big: StandIn, warehouse: Warehouse
) -> None:
    """Others on the shared connection are answered meanwhile, also where several threads are needed."""
    big.faults.add(Fault("ReadRows", stall_s=3600, at_batch=2))
    on, ended = call(timeout_s=None), list[AgnesError]()
    with opened(source, big, on) as reading:
        thread = read_in_thread(reading, ended)
        wait_until(lambda: reading.receipt.bytes_billed > 0)
        with warehouse.cursor() as cursor:
            found = cursor.execute("SELECT count(DISTINCT i % 1000) FROM range(1000000) t(i)").fetchall()
        assert found == [(1000,)]
        with soon():
            on.stop(cancelled())
            thread.join()
    assert [error.kind for error in ended] == ["cancelled"]


def test_who_leaves_early_waits_for_nothing(source: BigQuerySource, big: StandIn) -> None:
    """Also where the thread that pulls waits for the wire, and the shared connection serves on."""
    big.faults.add(Fault("ReadRows", stall_s=3600, at_batch=2))
    with soon(), opened(source, big, call(timeout_s=None)) as reading:
        rows: Iterator[pa.RecordBatch] = iter(reading)
        next(rows)
        rows.close()  # type: ignore[attr-defined] # a generator
    assert read_all(source, BIG, ALL)[0].num_rows == ROWS
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "bigquery-watchdog"])


def test_a_slow_reader_is_not_read_ahead_of(source: BigQuerySource, big: StandIn) -> None:
    """What waits in memory is a few messages, not the table."""
    with opened(source, big, call()) as reading:
        rows = iter(reading)
        next(rows)
        before = reading.receipt.bytes_billed
        wait_until(lambda: reading.receipt.bytes_billed == before, within_s=5)
        price = source.price(BIG, source.schema(BIG, call()), ALL, call())
        assert reading.receipt.bytes_billed * 2 < (price.scan_bytes or 0)
        assert sum(batch.num_rows for batch in rows) > ROWS / 2


def test_many_read_at_once(source: BigQuerySource, big: StandIn) -> None:
    """More of them than the shared connection has threads; each gets its own rows, in order."""
    got: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: got.append(read_all(source, BIG, ALL)[0]["id"].to_pylist())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [list(range(ROWS))] * 6
