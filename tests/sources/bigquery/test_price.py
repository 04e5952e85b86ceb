"""Prices over the wire: a dry run of exactly the statement, and what may be billed for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.bigquery import ORDERS, call, read_all, statement, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.price import MIB, reserved_bytes, scan_bytes_of, stated_bytes_billed
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, Partition, StandIn


def test_the_price_is_a_dry_run_of_the_statement_itself(source: BigQuerySource, bq: StandIn) -> None:
    """Projected and pruned, never SELECT *, never executed."""
    asked = statement(ORDERS, ["id"], "WHERE day = DATE '2026-01-03'")
    price = source.price(ORDERS, source.schema(ORDERS, call()), asked, call())
    (dry,) = bq.requests.named("jobs.insert")
    assert (dry.dry_run, dry.sql) == (True, asked.sql)
    assert dry.configuration["query"]["useQueryCache"] is False
    assert bq.query_jobs() == []
    assert price.scan_bytes == 100 * (8 + 8)  # 100 rows of one partition, id and day
    assert price.path == "query_job"
    assert price.referenced_tables == ["my-project.my_dataset.orders"]
    assert price.reserved_bytes == 10 * MIB


def test_a_plain_projection_of_a_base_table_is_priced_as_a_direct_read(source: BigQuerySource) -> None:
    price = source.price(ORDERS, source.schema(ORDERS, call()), statement(ORDERS, ["id", "amount"]), call())
    assert (price.path, price.scan_bytes) == ("direct_read", 1000 * 16)


NOT_DIRECT = ["WHERE id = 1", "ORDER BY id", "LIMIT 5"]


@pytest.mark.parametrize("tail", NOT_DIRECT)
def test_anything_but_a_plain_projection_is_a_query_job(source: BigQuerySource, tail: str) -> None:
    asked = statement(ORDERS, ["id"], tail)
    assert source.price(ORDERS, source.schema(ORDERS, call()), asked, call()).path == "query_job"


def test_views_and_external_tables_are_always_query_jobs(
    source: BigQuerySource, bq: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path_factory.mktemp("files") / "rates.parquet"
    pq.write_table(pa.table({"id": [1, 2]}), file)
    bq.create_view("my_dataset", "cz", "SELECT id FROM `my-project.my_dataset.orders` WHERE country = 'CZ'")
    bq.create_materialized_view("my_dataset", "ids", "SELECT id FROM `my-project.my_dataset.orders`")
    bq.create_external("my_dataset", "rates", file)
    for name in ("cz", "ids", "rates"):
        of = table(name)
        asked = statement(of, ["id"])
        price = source.price(of, source.schema(of, call()), asked, call())
        assert (price.path, price.scan_bytes is None) == ("query_job", name == "rates")  # of files, a lower bound
        capped = price.model_copy(update={"reserved_bytes": 10 * MIB})
        rows, receipt = read_all(source, of, asked, price=capped)
        assert rows.num_rows > 0
        assert receipt.job_id is not None


def test_a_view_over_two_tables_reserves_for_both(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table("my_dataset", "names", schema="id INT64, name STRING", rows=[{"id": 1, "name": "a"}])
    bq.create_view(
        "my_dataset",
        "joined",
        "SELECT o.id, n.name FROM `my-project.my_dataset.orders` o JOIN `my-project.my_dataset.names` n ON o.id = n.id",
    )
    of = table("joined")
    asked = statement(of, ["id", "name"])
    price = source.price(of, source.schema(of, call()), asked, call())
    assert price.reserved_bytes == 20 * MIB
    rows, receipt = read_all(source, of, asked, price=price)
    assert rows.num_rows == 1
    assert receipt.bytes_billed == 20 * MIB


RESERVES = [
    ((0, 0), 10 * MIB),
    ((0, 1), 10 * MIB),
    ((1, 1), 10 * MIB),
    ((10 * MIB, 1), 10 * MIB),
    ((10 * MIB + 1, 1), 11 * MIB),
    ((100 * MIB + 1, 1), 101 * MIB),
    ((1, 3), 30 * MIB),
    ((100 * MIB + 1, 3), 121 * MIB),
]


@pytest.mark.parametrize(("given", "expected"), RESERVES)
def test_the_reserve_covers_the_bills_own_rounding(given: tuple[int, int], expected: int) -> None:
    assert reserved_bytes(*given) == expected


def test_no_split_of_the_bytes_over_the_tables_bills_more_than_the_reserve() -> None:
    """The documented rounding, Σ max(10 MiB, bytes rounded up to MiB), against the closed formula."""

    def billed(parts: list[int]) -> int:
        return sum(max(10 * MIB, -(-part // MIB) * MIB) for part in parts)

    for total in (0, 1, 9 * MIB, 10 * MIB + 1, 25 * MIB - 1, 64 * MIB):
        for first in range(0, total + 1, max(1, total // 17)):
            for second in range(0, total - first + 1, max(1, (total - first) // 7)):
                assert billed([first, second, total - first - second]) <= reserved_bytes(total, 3)


def test_a_cap_equal_to_the_reserve_lets_the_query_run(source: BigQuerySource, bq: StandIn) -> None:
    """A cap equal to the estimate would fail: BigQuery rounds the bill up."""
    rows, receipt = read_all(source, ORDERS, statement(ORDERS, ["id"], "WHERE country = 'CZ'"))
    assert rows.num_rows == 500
    assert receipt.bytes_billed == 10 * MIB == bq.query_jobs()[0].maximum_bytes_billed


def priced_error(source: BigQuerySource, tail: str = "WHERE id = 1") -> AgnesError:
    schema = source.schema(ORDERS, call())
    with pytest.raises(AgnesError) as caught:
        source.price(ORDERS, schema, statement(ORDERS, ["id"], tail), call(timeout_s=10))
    return caught.value


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_dry_run_that_cannot_be_had_is_estimate_failed_and_nothing_runs(
    source: BigQuerySource, bq: StandIn, status: int
) -> None:
    """It fails closed, under a kind of its own."""
    bq.faults.add(Fault("jobs.insert", status=status, times=None))
    error = priced_error(source)
    assert error.kind == "estimate_failed"
    assert error.details["cause"] == "bq_upstream_error"
    assert "nothing was run" in error.message
    assert len(bq.requests.named("jobs.insert")) == 4
    assert bq.query_jobs() == []


def test_a_dry_run_that_is_refused_says_what_bigquery_says(source: BigQuerySource, bq: StandIn) -> None:
    error = priced_error(source, "WHERE nosuch = 1")
    assert error.kind == "bq_bad_request"
    assert "Unrecognized name: nosuch" in error.message
    sql = statement(ORDERS, ["id"], "WHERE nosuch = 1").sql
    assert (error.details["line"], error.details["column"]) == (1, sql.index("nosuch") + 1)
    assert bq.query_jobs() == []


def test_unknown_bytes_are_none_and_never_zero(
    source: BigQuerySource, bq: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in always knows; here its answer is changed on the way in, as for a federated source."""
    schema = source.schema(ORDERS, call())
    asked = statement(ORDERS, ["id"], "WHERE id = 1")
    monkeypatch.setattr(bigquery.QueryJob, "total_bytes_processed", property(lambda job: None))
    price = source.price(ORDERS, schema, asked, call())
    assert (price.scan_bytes, price.reserved_bytes) == (None, None)
    with pytest.raises(AgnesError) as caught, source.read(ORDERS, schema, asked, price, call()):
        pass
    assert caught.value.kind == "estimate_failed"
    assert bq.query_jobs() == []


@pytest.mark.parametrize("figure", [None, "", "many", "-5", "1.5", "1e9", "9" * 30, [], {}])
def test_a_figure_that_is_none_is_not_known(figure: object) -> None:
    given: tuple[dict[str, Any], ...] = ({"totalBytesProcessed": figure, "totalBytesBilled": figure}, {})
    for statistics in ({"query": given[0]}, {"query": given[1]}, {}):
        resource = {"jobReference": {"jobId": "x", "projectId": "my-project"}, "configuration": {"query": {}}}
        with bigquery.Client("my-project", AnonymousCredentials()) as client:  # type: ignore[no-untyped-call] # see below
            job: bigquery.QueryJob = bigquery.QueryJob.from_api_repr({**resource, "statistics": statistics}, client)
        assert (scan_bytes_of(job), stated_bytes_billed(job)) == (None, None)


ACCURACY = [("PRECISE", 5), ("UPPER_BOUND", 5), ("UNKNOWN", None), (None, 5)]


@pytest.mark.parametrize(("accuracy", "expected"), ACCURACY)
def test_a_figure_that_bigquery_calls_unknown_is_none(accuracy: str | None, expected: int | None) -> None:
    resource = {
        "jobReference": {"jobId": "x", "projectId": "my-project"},
        "configuration": {"query": {"query": "SELECT 1"}, "dryRun": True},
        "statistics": {"query": {"totalBytesProcessed": "5", "totalBytesProcessedAccuracy": accuracy}},
    }
    with bigquery.Client("my-project", AnonymousCredentials()) as client:  # type: ignore[no-untyped-call] # google-auth annotates a part of itself
        job: bigquery.QueryJob = bigquery.QueryJob.from_api_repr(resource, client)
    assert scan_bytes_of(job) == expected


def test_the_dry_run_is_made_in_the_project_that_pays(open_source: Callable[..., BigQuerySource], bq: StandIn) -> None:
    source = open_source(billing_project="my-billing")
    source.price(ORDERS, source.schema(ORDERS, call()), statement(ORDERS, ["id"], "WHERE id = 1"), call())
    (dry,) = bq.requests.named("jobs.insert")
    assert "/projects/my-billing/jobs" in dry.path


def test_a_table_that_wants_a_partition_filter_says_so_in_its_hint(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table(
        "my_dataset", "strict", schema="id INT64, day DATE", rows=[], partition=Partition("day", require_filter=True)
    )
    of = table("strict")
    schema = source.schema(of, call())
    with pytest.raises(AgnesError) as caught:
        source.price(of, schema, statement(of, ["id"]), call())
    assert caught.value.kind == "bq_bad_request"
    assert "filter on its partition column" in caught.value.hint
