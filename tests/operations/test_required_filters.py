"""Views and tables that are read with a filter only: found, sampled, described."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from support.instances import ME

from agnes_mcp.errors import AgnesError
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


@pytest.fixture
def joined(filtered: StandIn) -> StandIn:
    """A view over two tables, each of which requires a filter on a column of its own."""
    rows = [{"id": n, "part": n % 9 + 1, "name": f"n{n}"} for n in range(90)]
    cut = Partition("part", "RANGE", require_filter=True, end=100, interval=1)
    filtered.create_table("my_dataset", "people", "id INT64, part INT64, name STRING", rows=rows, partition=cut)
    filtered.create_view(
        "my_dataset",
        "both_v",
        "SELECT p.name, p.id, e.day AS seen, p.part FROM my_dataset.people p JOIN my_dataset.events e USING (id)",
    )
    return filtered


async def test_a_view_over_two_such_tables_names_the_columns_of_both(
    joined: StandIn, open_gateway: OpenGateway
) -> None:
    async with open_gateway(tables=["both_v"]) as gateway:
        schema = await gateway.catalog.columns(ME, "both_v")
        sample = await gateway.descriptions.sample(ME, "both_v", n=4)
        described = await gateway.descriptions.describe(ME, "both_v", profile=True)
        one = ScanRequest(table_id="both_v", where="part = 2")
        with pytest.raises(AgnesError, match="without a filter over column"):
            await gateway.scans.scan(ME, one)
        both = ScanRequest(table_id="both_v", where="part = 2 AND seen >= DATE '2026-01-01'", select=["name"], limit=3)
        found = await gateway.scans.scan(ME, both)
    assert schema.partition is not None
    assert sorted([schema.partition.column or "", *schema.partition.also]) == ["part", "seen"]
    assert schema.partition.filter_required
    assert len(sample.rows) == 4
    assert all(f"`{column}` >= " in (sample.note or "") for column in ("part", "seen"))
    assert described.profile is not None
    assert described.profile.rows
    assert len(found.rows) == 3


async def test_looking_for_the_filter_is_no_trouble(
    joined: StandIn, open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with open_gateway(tables=["events_v", "both_v"]) as gateway:
            for name in ("events_v", "both_v"):
                await gateway.catalog.columns(ME, name)
                await gateway.descriptions.sample(ME, name, n=2)
            state = (await gateway.usage.today(ME)).bigquery
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert state
    assert "last_error" not in state
