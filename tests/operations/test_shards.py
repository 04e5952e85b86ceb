"""Sharded tables as one, through the gateway: found, priced by their suffix, read, sampled, in SQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.instances import ME

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest, Table
from agnes_mcp.stand_in import StandIn

OpenGateway = Callable[..., Gateway]
ENTRY = {"id": "events", "source_type": "bigquery", "bucket": "logs", "source_table": "events_*"}


@pytest.fixture
def sharded(bq: StandIn) -> StandIn:
    for day in range(1, 6):
        rows = [{"id": 100 * day + n, "name": "x" * 50} for n in range(20)]
        bq.create_table("logs", f"events_2026010{day}", "id INT64, name STRING", rows=rows)
    return bq


async def test_a_configured_family_is_one_table(sharded: StandIn, open_gateway: OpenGateway) -> None:
    last = "_TABLE_SUFFIX >= '20260104'"
    async with open_gateway(tables=[ENTRY]) as gateway:
        schema = await gateway.catalog.columns(ME, "events")
        whole = await gateway.scans.estimate(ME, ScanRequest(table_id="events", select=["id"]))
        part = await gateway.scans.estimate(ME, ScanRequest(table_id="events", select=["id"], where=last))
        rows = await gateway.scans.scan(ME, ScanRequest(table_id="events", select=["id"], where=last))
        sample = await gateway.descriptions.sample(ME, "events", n=3)
        described = await gateway.descriptions.describe(ME, "events", profile=True)
        fetched = await gateway.fetches.fetch(ME, ScanRequest(table_id="events", where=last), name="kept")
        kept = await gateway.queries.query(ME, "SELECT count(*) FROM kept")
        text = "SELECT COUNT(*) AS n FROM events WHERE _TABLE_SUFFIX BETWEEN '20260102' AND '20260103'"
        joined = await gateway.scans.scan(ME, ScanRequest(googlesql=text))
        unbounded = await gateway.scans.estimate(ME, ScanRequest(googlesql="SELECT id FROM events"))
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ME, ScanRequest(table_id="events", where="_TABLE_SUFFIX = (SELECT 'x')"))
    assert schema.entity_type == "SHARDED"
    assert [column.name for column in schema.pseudo_columns] == ["_TABLE_SUFFIX"]
    assert (whole.estimated_scan_bytes, part.estimated_scan_bytes) == (5 * 160, 2 * 160)
    assert "every shard is read" in " ".join(whole.advice)
    assert "shard" not in " ".join(part.advice)
    assert rows.row_count == 40
    assert (sample.row_count, sample.bytes_billed) == (3, 0)
    assert sample.rows[0][0] >= 500
    assert described.profile is not None
    assert described.profile.rows == 20
    assert "_TABLE_SUFFIX = '20260105'" in (described.profile.note or "")
    assert fetched.snapshot is not None
    assert (kept.rows, joined.rows) == ([[40]], [[40]])
    assert refused.value.kind == "nested_select"
    assert " ".join(unbounded.advice).count("_TABLE_SUFFIX") == 1


async def test_shards_of_a_dataset_are_one_id(sharded: StandIn, open_gateway: OpenGateway) -> None:
    sharded.create_table("logs", "orders", "id INT64", rows=[{"id": 1}])
    async with open_gateway(tables=[], bigquery={"datasets": ["logs"]}) as gateway:
        rows = await gateway.scans.scan(ME, ScanRequest(table_id="events", where="_TABLE_SUFFIX = '20260101'"))
        listed: list[Table] = gateway.catalog.listed(ME)
    assert rows.row_count == 20
    remote = {table.id: table.place for table in listed if table.source_type == "bigquery"}
    assert remote == {"events": "my-project.logs.events_*", "orders": "my-project.logs.orders"}


@pytest.mark.parametrize("name", ["events_secret", "events_intraday_20260101", "events_2026010"])
async def test_what_is_found_never_comes_to_hold_other_tables(
    sharded: StandIn, open_gateway: OpenGateway, name: str
) -> None:
    """Granted were tables of days. What is later called like them is not read with them."""
    async with open_gateway(tables=[], bigquery={"datasets": ["logs"]}) as gateway:
        await gateway.catalog.columns(ME, "events")
        sharded.create_table("logs", name, "id INT64, name STRING", rows=[{"id": 1}])
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ME, ScanRequest(table_id="events"))
    assert refused.value.kind == "schema_changed"
    assert sharded.query_jobs() == []
