"""A stand-in of its own for tests that script it, and a shared one for tests that only read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.bigquery_backend import Backend, Client, StorageClient, open_backend, rest_client, storage_client

from agnes_mcp.stand_in import Partition, StandIn

DAYS = 10
ROWS = 1000  # 100 a day


def fill(stand_in: StandIn) -> None:
    """Tables of known bytes: `orders` has 1000 rows on ten days from 2024-01-01, one hundred a day."""
    rows = (
        f"SELECT i AS id, DATE '2024-01-01' + (i % {DAYS})::INT AS day, i * 1.5 AS amount, 'abc' AS code, "
        f"TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_days((i % {DAYS})::INT) + to_seconds(i) AS at, "
        f"{{'name': 'Jo', 'age': i}} AS buyer, [i, i + 1] AS items FROM range({ROWS}) t(i)"
    )
    schema = (
        "id INT64 NOT NULL OPTIONS(description='The key'), day DATE, amount NUMERIC, code STRING, at TIMESTAMP, "
        "buyer STRUCT<name STRING, age INT64>, items ARRAY<INT64>"
    )
    stand_in.create_dataset("my_dataset", description="Sales")
    stand_in.create_table("my_dataset", "orders", schema, sql=rows, partition=Partition("day"), primary_key=["id"])
    strict = Partition("day", require_filter=True)
    stand_in.create_table("my_dataset", "strict", schema, sql=rows, partition=strict)
    stand_in.create_table("my_dataset", "by_time", schema, sql=rows, partition=Partition("at", require_filter=True))
    stand_in.create_table("my_dataset", "by_month", schema, sql=rows, partition=Partition("day", "MONTH"))
    ranged = Partition("id", "RANGE", start=0, end=1000, interval=100)
    stand_in.create_table("my_dataset", "by_range", schema, sql=rows, partition=ranged)
    stand_in.create_table("my_dataset", "loaded", schema, sql=rows, partition=Partition(), ingested="day")
    stand_in.create_table("my_dataset", "plain", schema, sql=rows, clustering=["code", "id"])
    stand_in.create_view("my_dataset", "orders_v", "SELECT id, day, code FROM `my-project.my_dataset.orders`")
    stand_in.create_view("my_dataset", "all_v", "SELECT *, amount * 2 AS twice FROM my_dataset.orders")
    stand_in.create_view("my_dataset", "over_v", "SELECT id, code FROM my_dataset.orders_v WHERE day = '2024-01-02'")


@pytest.fixture(scope="package")
def shop() -> Iterator[StandIn]:
    """Shared: tests only read from it."""
    with StandIn() as stand_in:
        fill(stand_in)
        yield stand_in


@pytest.fixture
def shop_client(shop: StandIn) -> Iterator[Client]:
    with rest_client(shop.api_endpoint) as client:
        yield client


@pytest.fixture
def shop_storage(shop: StandIn) -> Iterator[StorageClient]:
    with storage_client(shop.grpc_target) as client:
        yield client


@pytest.fixture
def bq() -> Iterator[StandIn]:
    """One test's own, with a small table `my_dataset.things` of three rows."""
    with StandIn() as stand_in:
        rows = [{"id": i, "name": f"thing {i}"} for i in range(3)]
        stand_in.create_table("my_dataset", "things", "id INT64, name STRING", rows=rows)
        yield stand_in


@pytest.fixture
def client(bq: StandIn) -> Iterator[Client]:
    with rest_client(bq.api_endpoint) as made:
        yield made


@pytest.fixture
def storage(bq: StandIn) -> Iterator[StorageClient]:
    with storage_client(bq.grpc_target) as made:
        yield made


@pytest.fixture(scope="package")
def bigquery_backend() -> Iterator[Backend]:
    """The stand-in, or the emulator that AGNES_TEST_EMULATOR names."""
    with open_backend() as backend:
        yield backend
