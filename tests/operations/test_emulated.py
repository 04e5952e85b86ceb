"""The gateway against any BigQuery: the stand-in, and with `make test-emulator` local-bigquery, which is not ours.

The emulator knows no prices (a dry run says 0 bytes), so nothing here is about money.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.bigquery_backend import EMULATOR_VARIABLE, Backend, StandInBackend, open_backend
from support.instances import ME, ONE_PROCESS

from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, ScanRequest

pytestmark = pytest.mark.emulator
SCHEMA = "id INT64 NOT NULL, day DATE, country STRING, amount FLOAT64, tags ARRAY<STRING>, buyer STRUCT<city STRING>"
ROWS = [
    {
        "id": i,
        "day": f"2026-01-{1 + i % 9:02}",
        "country": "CZ" if i % 3 == 0 else "it's",
        "amount": i / 4,
        "tags": ["a", "b"][: i % 3],
        "buyer": {"city": f"city {i}"},
    }
    for i in range(60)
]


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with open_backend() as opened:
        opened.create_table("orders", SCHEMA, ROWS)
        query = f"SELECT id, country FROM `{opened.client.project}.{opened.dataset}.orders` WHERE id < 30"
        opened.create_view("orders_v", query)
        yield opened


def endpoints_of(backend: Backend) -> tuple[str, str]:
    if isinstance(backend, StandInBackend):
        return backend.stand_in.api_endpoint, backend.stand_in.grpc_target
    api_endpoint, grpc_target = os.environ[EMULATOR_VARIABLE].split()
    return api_endpoint, grpc_target


@pytest.fixture
async def gateway(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.delenv(name, raising=False)
    api_endpoint, grpc_target = endpoints_of(backend)
    tables = [
        {"id": name, "source_type": "bigquery", "bucket": backend.dataset, "source_table": name}
        for name in ("orders", "orders_v")
    ]
    bigquery = {
        "project": backend.client.project,
        "api_endpoint": api_endpoint,
        "storage_endpoint": f"grpc://{grpc_target}",
    }
    # The emulator prices no dry run: what it answers runs under the cap for prices that are not known.
    api = {"scan": {"unknown_price_cap_bytes": 2**30}}
    described = {"data_dir": str(tmp_path), "data_source": {"bigquery": bigquery}, "tables": tables, "api": api}
    described["engine"] = ONE_PROCESS
    async with Gateway(Settings.model_validate(described)) as opened:
        yield opened


async def test_schema_and_sample(gateway: Gateway) -> None:
    schema = await gateway.catalog.columns(ME, "orders")
    kinds = {column.name: (column.type, column.mode) for column in schema.columns}
    sample = await gateway.descriptions.sample(ME, "orders", 5)
    view = await gateway.descriptions.sample(ME, "orders_v", 5)
    assert kinds["id"] == ("INT64", "REQUIRED")
    assert kinds["tags"] == ("ARRAY<STRING>", "REPEATED")
    assert [column.name for column in schema.columns[5].fields] == ["city"]
    assert sample.row_count == view.row_count == 5
    assert sample.columns == ["id", "day", "country", "amount", "tags", "buyer"]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("id < 3", [0, 1, 2]),
        ("country = 'it\\'s' AND id BETWEEN 3 AND 8", [4, 5, 7, 8]),
        ("day = DATE '2026-01-02' AND amount > 5", [28, 37, 46, 55]),
        ("'b' IN UNNEST(tags) AND id < 9", [2, 5, 8]),
        ("buyer.city = 'city 7'", [7]),
        ("REGEXP_CONTAINS(buyer.city, r'^city 1\\d$') AND MOD(id, 2) = 0", [10, 12, 14, 16, 18]),
        ("DATE_DIFF(day, DATE '2026-01-01', DAY) = 8 AND id < 20", [8, 17]),
        ("country IS NULL", []),
    ],
)
async def test_a_predicate_selects_these_rows(gateway: Gateway, where: str, ids: list[int]) -> None:
    answer = await gateway.scans.scan(ME, ScanRequest(table_id="orders", select=["id"], where=where, order_by=["id"]))
    assert [row[0] for row in answer.rows] == ids
    assert answer.types == ["INT64"]


async def test_an_aggregate_is_one_pushed_down_statement(gateway: Gateway) -> None:
    aggregates = [Aggregate(function="count"), Aggregate(function="sum", column="amount", alias="total")]
    request = ScanRequest(table_id="orders", group_by=["country"], aggregates=aggregates, order_by=["count DESC"])
    answer = await gateway.scans.scan(ME, request)
    expected: dict[str, tuple[int, float]] = {}
    for row in ROWS:
        count, total = expected.get(str(row["country"]), (0, 0.0))
        expected[str(row["country"])] = (count + 1, total + float(str(row["amount"])))
    assert answer.rows == [[name, *expected[name]] for name in ("it's", "CZ")]


async def test_fetch_then_query(gateway: Gateway) -> None:
    fetched = await gateway.fetches.fetch(ME, ScanRequest(table_id="orders", where="id >= 10"), name="later")
    answer = await gateway.queries.query(ME, "SELECT count(*), min(id), max(buyer.city), sum(len(tags)) FROM later")
    assert fetched.snapshot is not None
    assert fetched.snapshot.rows == 50
    assert answer.rows == [[50, 10, "city 59", sum(i % 3 for i in range(10, 60))]]


async def test_bigquerys_complaint_comes_through(gateway: Gateway) -> None:
    with pytest.raises(AgnesError) as refused:
        await gateway.scans.scan(ME, ScanRequest(table_id="orders", select=["id"], where="country > id"))
    assert refused.value.kind == "bq_bad_request"
    assert refused.value.hint
