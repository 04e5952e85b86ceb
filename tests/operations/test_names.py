"""Names as BigQuery has them: case that counts, projects of a domain, external tables; as Google's client sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.instances import ME, write
from support.waiting import PATIENCE_S

from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import StandIn

OPEN = Callable[..., Gateway]
DOMAIN = "example.com:my-project"


def google(bq: StandIn, project: str = "my-project") -> bigquery.Client:
    options = ClientOptions(api_endpoint=bq.api_endpoint)
    return bigquery.Client(project, AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]


async def rows_of(gateway: Gateway, table_id: str) -> list[list[object]]:
    return (await gateway.scans.scan(ME, ScanRequest(table_id=table_id, where="n >= 0"))).rows


async def test_names_that_differ_in_case_are_two_tables(bq: StandIn, open_gateway: OPEN) -> None:
    for number, name in enumerate(("Orders", "ORDERS", "oRDERS")):
        bq.create_table("mixed", name, schema="n INT64", rows=[{"n": number}])
    client = google(bq)
    assert [row.n for row in client.query("SELECT n FROM mixed.ORDERS").result()] == [1]
    with pytest.raises(NotFound):
        client.query("SELECT n FROM mixed.orders").result()
    async with open_gateway(tables=(), bigquery={"datasets": ["mixed"]}) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        found = {t.place.rpartition(".")[2]: t.id for t in gateway.tables.visible(ME) if t.place}
        assert len(found) == 3
        for number, name in enumerate(("Orders", "ORDERS", "oRDERS")):
            assert await rows_of(gateway, found[name]) == [[number]]
            assert (await gateway.descriptions.sample(ME, found[name], 5)).rows == [[number]]


async def test_a_project_of_a_domain(bq: StandIn, open_gateway: OPEN) -> None:
    """Listed, described, sampled, scanned, joined, and found again, under a name with dots and a colon."""
    for name, number in (("one", 1), ("two", 2)):
        bq.create_table("my_dataset", name, schema="n INT64", rows=[{"n": number}], project=DOMAIN)
    client = google(bq, DOMAIN)
    told = client.query(f"SELECT n FROM `{DOMAIN}.my_dataset.two`").result()
    assert [row.n for row in told] == [2]
    assert [entry.table_id for entry in client.list_tables("my_dataset")] == ["one", "two"]
    source = {"project": DOMAIN, "datasets": ["my_dataset"]}
    async with open_gateway(tables=(), bigquery=source) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        assert await rows_of(gateway, "two") == [[2]]
        assert (await gateway.scans.scan(ME, ScanRequest(table_id="one"))).rows == [[1]]
        assert (await gateway.descriptions.sample(ME, "one", 5)).rows == [[1]]
        joined = "SELECT a.n + b.n AS n FROM one AS a CROSS JOIN two AS b"
        assert (await gateway.scans.scan(ME, ScanRequest(googlesql=joined))).rows == [[3]]
        assert (await gateway.catalog.columns(ME, "one")).columns[0].name == "n"
    async with open_gateway(tables=(), bigquery=source) as gateway:
        gateway.tables.recall()
        assert {"one", "two"} <= {table.id for table in gateway.tables.visible(ME)}


async def test_an_external_table_is_listed_and_read_by_a_job(bq: StandIn, open_gateway: OPEN, tmp_path: Path) -> None:
    bq.create_external("outside", "files", write(tmp_path, "n.parquet", "SELECT i AS n FROM range(3) AS r(i)"))
    assert google(bq).get_table("outside.files").table_type == "EXTERNAL"
    scan = {"unknown_price_cap_bytes": 2**30}
    async with open_gateway(tables=(), bigquery={"datasets": ["outside"]}, scan=scan) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        schema = await gateway.catalog.columns(ME, "files")
        assert (schema.entity_type, schema.rows, schema.size_bytes) == ("EXTERNAL", None, None)
        assert sorted(await rows_of(gateway, "files")) == [[0], [1], [2]]
