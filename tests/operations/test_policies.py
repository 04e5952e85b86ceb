"""Tables whose row access policies let our identity see some rows, or none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.instances import ME

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import Fault, StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
CAP = {"unknown_price_cap_bytes": 20 * MIB}
PERMITTED = {"FALSE": 0, "id < 3": 3}


@pytest.fixture(params=PERMITTED)
def permitted(bq: StandIn, request: pytest.FixtureRequest) -> int:
    """`my_dataset.policied`, and how many of its nine rows may be seen."""
    rows = [{"id": number, "day": "2026-01-01"} for number in range(9)]
    bq.create_table("my_dataset", "policied", "id INT64, day DATE", rows=rows, row_filter=request.param)
    return PERMITTED[request.param]


async def test_what_tabledata_list_denies_is_read_by_a_priced_query(
    bq: StandIn, permitted: int, open_gateway: OpenGateway
) -> None:
    async with open_gateway(tables=["policied"], scan=CAP) as gateway:
        sample = await gateway.descriptions.sample(ME, "policied", n=5)
        described = await gateway.descriptions.describe(ME, "policied")
        free = await gateway.descriptions.free_sample(ME, "policied", n=5)
        scan = await gateway.scans.scan(ME, ScanRequest(table_id="policied", where="id >= 0"))
        fetched = await gateway.fetches.fetch(ME, ScanRequest(table_id="policied"), name="kept")
    assert sample.row_count == described.sample.row_count == scan.row_count == permitted
    assert fetched.snapshot is not None
    assert fetched.snapshot.rows == permitted
    assert "billed scan" in (sample.note or "")
    assert (free.rows, "no free rows" in (free.note or "")) == ([], True)
    assert {job.maximum_bytes_billed for job in bq.query_jobs()} == {20 * MIB}


async def test_a_sample_that_cannot_be_priced_is_not_bought(
    bq: StandIn, permitted: int, open_gateway: OpenGateway
) -> None:
    async with open_gateway(tables=["policied"]) as gateway:
        with pytest.raises(AgnesError) as refused:
            await gateway.descriptions.sample(ME, "policied")
    assert refused.value.kind == "estimate_failed"
    assert bq.query_jobs() == []


@pytest.mark.parametrize("where", ["", "id > 100", "day = DATE '2020-01-01'"])
async def test_nothing_is_no_price_of_such_a_table(
    bq: StandIn, permitted: int, open_gateway: OpenGateway, where: str
) -> None:
    """BigQuery hides what policies leave out, and may do so by saying zero."""
    bq.catalog.table("my-project", "my_dataset", "policied").statistics = "zero"
    async with open_gateway(tables=["policied"]) as gateway:
        estimate = await gateway.scans.estimate(ME, ScanRequest(table_id="policied", select=["id"], where=where))
    assert (estimate.verdict, estimate.bq_cost_estimate_usd) == ("price_unknown", None)


async def test_a_cut_by_partitions_may_cost_nothing_until_policies_are_known(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    none = ScanRequest(table_id="sessions", select=["country"], where="event_date = DATE '2020-01-01'")
    async with open_gateway() as gateway:
        before = await gateway.scans.estimate(ME, none)
        bq.catalog.table("my-project", "my_dataset", "sessions").row_filter = "FALSE"
        bq.catalog.table("my-project", "my_dataset", "sessions").statistics = "zero"
        with pytest.raises(AgnesError):
            await gateway.descriptions.sample(ME, "sessions")
        after = await gateway.scans.estimate(ME, none)
    assert (before.estimated_scan_bytes, before.verdict) == (0, "ok")
    assert before.bq_cost_estimate_usd == 0.0001  # never nothing for what is billed as 10 MiB
    assert (after.estimated_scan_bytes, after.verdict) == (None, "price_unknown")


async def test_another_denial_of_free_rows_is_told_by_the_price_question(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    bq.faults.add(Fault("tabledata.list", reason="accessDenied", message="Access Denied: Table x: no.", times=None))
    async with open_gateway() as gateway:
        bought = await gateway.descriptions.sample(ME, "orders", n=2)
    assert (bought.row_count, bought.bytes_billed) == (2, 10 * MIB)


async def test_a_direct_read_that_policies_deny_is_a_query_when_it_is_asked_for_again(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    """Storage Read is not to be had, and REST gives no rows of such a table: a query does."""
    message = "Access Denied: Table x: User does not have full access for table x due to row access policies."
    bq.faults.add(Fault("CreateReadSession", grpc_code="PERMISSION_DENIED", times=None))
    bq.faults.add(Fault("tabledata.list", reason="accessDenied", message=message, times=1))
    async with open_gateway() as gateway:
        with pytest.raises(AgnesError) as again:
            await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name="kept")
        priced = await gateway.scans.estimate(ME, ScanRequest(table_id="orders"))
        fetched = await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name="kept")
    assert again.value.kind == "approval_outdated"
    assert priced.path == "query_job"
    assert fetched.snapshot is not None
    assert fetched.snapshot.rows
    assert len(bq.query_jobs()) == 1
