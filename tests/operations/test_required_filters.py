"""Views and tables that are read with a filter only: found, sampled, described."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.instances import ME

from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Consent, ScanRequest
from agnes_mcp.stand_in import Partition, StandIn

OpenGateway = Callable[..., Gateway]


@pytest.fixture
def filtered(bq: StandIn) -> StandIn:
    rows = [{"id": n, "day": f"2026-01-{n % 9 + 1:02}"} for n in range(90)]
    cut = Partition("day", require_filter=True)
    bq.create_table("my_dataset", "events", "id INT64, day DATE", rows=rows, partition=cut)
    bq.create_view("my_dataset", "events_v", "SELECT id, day FROM my_dataset.events")
    return bq


async def test_a_view_is_described_by_its_newest_partition(filtered: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(tables=["events_v", "events"]) as gateway:
        schema = await gateway.catalog.columns(ME, "events_v")
        sample = await gateway.descriptions.sample(ME, "events_v", n=4)
        described = await gateway.descriptions.describe(ME, "events_v", profile=True)
        base = await gateway.descriptions.describe(ME, "events", profile=True)
        estimate = await gateway.scans.estimate(ME, ScanRequest(table_id="events_v", where="day = DATE '2026-01-02'"))
    assert schema.partition is not None
    assert (schema.partition.column, schema.partition.filter_required) == ("day", True)
    newest = "`day` >= DATE '2026-01-09'"
    assert {row[1] for row in sample.rows} == {"2026-01-09"}
    assert newest in (sample.note or "")
    for answer in (described, base):
        assert answer.profile is not None
        assert (answer.profile.rows, newest in (answer.profile.note or "")) == (10, True)
    assert base.sample.bytes_billed == 0
    assert estimate.verdict == "ok"
    assert "day" in filtered.query_jobs()[0].sql


async def test_what_was_asked_about_is_what_runs(filtered: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(tables=["events_v"], scan={"confirm_above_bytes": 1}) as gateway:
        quote = await gateway.descriptions.price_describe(ME, "events_v", 3, profile=True)
        assert quote is not None
        answer = await gateway.descriptions.describe(ME, "events_v", 3, profile=True, consent=quote.consent())
    assert isinstance(quote.consent(), Consent)
    assert answer.sample.row_count == 3


async def test_the_column_is_advised_where_it_is_left_out(filtered: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(tables=["events_v"]) as gateway:
        with pytest.raises(Exception, match="without a filter over column") as refused:
            await gateway.scans.scan(ME, ScanRequest(table_id="events_v"))
    assert "my_dataset.events'" not in str(refused.value)
