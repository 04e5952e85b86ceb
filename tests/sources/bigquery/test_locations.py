"""Where jobs run: each table's own location, which BigQuery tells, or what its entry says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.bigquery import call, read_all, statement, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import JobReference
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import StandIn

PLACES = {"in_us": "US", "in_eu": "EU", "in_asia": "asia-northeast1"}


@pytest.fixture
def world(bq: StandIn) -> StandIn:
    """A dataset in each of three locations, with a table, a view and as many rows as there are letters."""
    for dataset, location in PLACES.items():
        bq.create_dataset(dataset, location=location)
        bq.create_table(dataset, "orders", schema="id INT64", rows=[{"id": n} for n in range(len(location))])
        bq.create_view(dataset, "orders_v", f"SELECT id FROM {dataset}.orders")
    return bq


@pytest.mark.parametrize("name", ["orders", "orders_v"])
@pytest.mark.parametrize("dataset", PLACES)
def test_a_job_runs_where_its_table_is(world: StandIn, source: BigQuerySource, dataset: str, name: str) -> None:
    of = table(name, dataset)
    rows, receipt = read_all(source, of, statement(of, ["id"], "WHERE id >= 0"))
    assert rows.num_rows == len(PLACES[dataset])
    assert receipt.job_id
    job = world._jobs.get("my-project", receipt.job_id)
    assert job.location == PLACES[dataset]


def test_googles_client_says_the_same_of_the_wrong_location(world: StandIn, source: BigQuerySource) -> None:
    """The stand-in refuses as BigQuery does, to Google's client and to ours alike."""
    options = ClientOptions(api_endpoint=world.api_endpoint)
    client = bigquery.Client("my-project", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]
    told = "Not found: Dataset my-project:in_eu was not found in location US"
    with pytest.raises(NotFound, match=told):
        client.query("SELECT id FROM in_eu.orders", location="US").result()
    of = table("orders", "in_eu", location="US")
    with pytest.raises(AgnesError, match=told) as caught:
        read_all(source, of, statement(of, ["id"], "WHERE id >= 0"))
    assert caught.value.kind == "bq_not_found"


def test_an_entry_says_where_whatever_bigquery_says(world: StandIn, source: BigQuerySource) -> None:
    of = table("orders", "in_eu", location="eu")
    assert source.schema(of, call()).location == "eu"
    rows, _ = read_all(source, of, statement(of, ["id"], "WHERE id >= 0"))
    assert rows.num_rows == 2


def test_what_does_not_say_where_it_is_runs_in_the_configured_location(
    world: StandIn, open_source: Callable[..., BigQuerySource]
) -> None:
    source, of = open_source(location="EU"), table("orders", "in_eu")
    schema = source.schema(of, call()).model_copy(update={"location": ""})
    price = source.price(of, schema, asked := statement(of, ["id"], "WHERE id >= 0"), call())
    with source.read(of, schema, asked, price, call()) as reading:
        assert sum(batch.num_rows for batch in reading) == 2


def test_the_bill_is_asked_for_where_the_job_ran(world: StandIn, source: BigQuerySource) -> None:
    """What a crash leaves behind in the books names the job's location."""
    of, asked = table("orders", "in_asia"), call()
    told: list[JobReference | None] = []
    with asked.charging(told.append):
        read_all(source, of, statement(of, ["id"], "WHERE id >= 0"), on=asked)
    [job] = [each for each in told if each is not None]
    assert job.location == "asia-northeast1"
    assert source.learn_bill(job, call()) == 10 * 2**20
