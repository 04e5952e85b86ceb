"""Sharded tables as one, through the gateway: found, priced by their suffix, read, sampled, in SQL."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from support.instances import ME
from support.waiting import PATIENCE_S

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest, Table
from agnes_mcp.stand_in import StandIn

OpenGateway = Callable[..., Gateway]
ANA = Principal("ana")
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


@pytest.mark.parametrize("name", ["events_secret", "events_intraday_20260101", "events_2026010", "events_20269999"])
async def test_what_is_found_never_comes_to_hold_other_tables(
    sharded: StandIn, open_gateway: OpenGateway, name: str
) -> None:
    """Granted were tables of days. What is later called like them is not read with them."""
    async with open_gateway(tables=[], bigquery={"datasets": ["logs"]}) as gateway:
        await gateway.catalog.columns(ME, "events")
        sharded.create_table("logs", name, "id INT64, name STRING", rows=[{"id": 1}])
        scanned = await gateway.scans.scan(ME, ScanRequest(table_id="events", where="id < 10 OR id > 0"))
        counted = await gateway.scans.scan(ME, ScanRequest(googlesql="SELECT COUNT(*) AS n FROM events"))
    assert scanned.row_count == 100
    assert counted.rows == [[100]]


JOINED = {
    "SELECT COUNT(*) AS n FROM orders o JOIN events e ON e.id = o.id": 1,
    "SELECT COUNT(e.id) AS n FROM orders o LEFT JOIN events e ON e.id = o.id": 1,
    "SELECT COUNT(*) AS n FROM events e LEFT JOIN orders o USING (id)": 100,
    "SELECT COUNT(*) AS n FROM orders o, events e WHERE o.id = e.id OR o.id < 0": 1,
    "SELECT COUNT(*) AS n FROM orders WHERE id IN (SELECT id FROM events WHERE id = 7 OR id = 8 OR id = 100)": 1,
    "WITH e AS (SELECT id FROM events UNION ALL SELECT id FROM events) SELECT COUNT(*) AS n FROM e": 200,
    "SELECT COUNT(*) AS n FROM events_intraday e JOIN orders o ON e.id = o.id": 1,
    "SELECT COUNT(*) AS n FROM events WHERE _TABLE_SUFFIX >= '20260104'": 40,
    "SELECT COUNT(*) AS n FROM events WHERE _TABLE_SUFFIX < 'z'": 100,
    "SELECT COUNT(*) AS n FROM (SELECT id FROM events) e FULL JOIN orders o ON e.id = o.id": 101,
}


async def test_families_beside_one_another_are_tables_of_their_own(sharded: StandIn, open_gateway: OpenGateway) -> None:
    """As an analytics export has them. BigQuery's wildcard `events_*` holds the other family; ours does not."""
    sharded.create_table("logs", "events_intraday_20260106", "id INT64, name STRING", rows=[{"id": 7}, {"id": 8}])
    sharded.create_table("logs", "orders", "id INT64", rows=[{"id": 7}, {"id": 100}])
    granted = {"users": [{"name": "ana", "token_sha256": "0" * 64, "tables": ["events"]}]}
    async with open_gateway(tables=[], bigquery={"datasets": ["logs"]}, access=granted) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        entries = {table.id: table.place for table in gateway.catalog.listed(ME) if table.place}
        days = await gateway.scans.scan(ME, ScanRequest(table_id="events", where="_TABLE_SUFFIX >= '20260105'"))
        later = await gateway.scans.estimate(ME, ScanRequest(table_id="events", where="_TABLE_SUFFIX >= '20260105'"))
        whole = await gateway.scans.estimate(ME, ScanRequest(table_id="events"))
        intraday = await gateway.scans.scan(ME, ScanRequest(table_id="events_intraday", where="id > 0"))
        sample = await gateway.descriptions.sample(ME, "events", n=50)
        fetched = await gateway.fetches.fetch(ME, ScanRequest(table_id="events"), name="kept")
        joined = {text: (await gateway.scans.scan(ME, ScanRequest(googlesql=text))).rows[0][0] for text in JOINED}
        hers = [table.id for table in gateway.catalog.listed(ANA)]
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ANA, ScanRequest(googlesql="SELECT id FROM events_intraday"))
        full = "SELECT COUNT(*) AS n FROM events e FULL JOIN orders o ON e.id = o.id"
        with pytest.raises(AgnesError) as unplaced:
            await gateway.scans.scan(ME, ScanRequest(googlesql=full))
        found = await gateway.catalog.browse(ME, search="events")
        examples = {entry.id: entry.where_examples for entry in found.tables}
        tried = [
            await gateway.scans.scan(ME, ScanRequest(table_id=key, where=example))
            for key, each in examples.items() for example in each
        ]  # fmt: skip
    assert entries == {
        "events": "my-project.logs.events_*",
        "events_intraday": "my-project.logs.events_intraday_*",
        "orders": "my-project.logs.orders",
    }
    assert (days.row_count, intraday.row_count, sample.row_count) == (20, 2, 20)
    assert later.estimated_scan_bytes == (whole.estimated_scan_bytes or 0) / 5
    assert "every shard is read" in " ".join(whole.advice)
    assert fetched.snapshot is not None
    assert fetched.snapshot.rows == 100
    assert joined == JOINED
    assert hers == ["events"]
    assert refused.value.kind == "table_not_found"
    assert (unplaced.value.kind, "(SELECT … FROM events WHERE _TABLE_SUFFIX" in unplaced.value.hint) == (
        "disallowed_node",
        True,
    )
    assert tried


UNPLACED = {
    "SELECT COUNT(*) AS n FROM events e FULL JOIN orders o ON e.id = o.id": "e",
    "SELECT COUNT(*) AS n FROM events e RIGHT JOIN orders o USING (id)": "e",
    "SELECT COUNT(*) AS n FROM orders o LEFT JOIN events USING (id)": "events",
    "SELECT COUNT(*) AS n FROM orders o FULL OUTER JOIN events AS e ON e.id = o.id": "e",
    "WITH w AS (SELECT id FROM orders) SELECT COUNT(*) AS n FROM w RIGHT JOIN orders o USING (id) "
    "JOIN events AS e ON e.id = o.id": "e",
}


@pytest.mark.parametrize("text", UNPLACED)
async def test_what_is_refused_of_a_family_runs_as_its_hint_says(
    text: str, sharded: StandIn, open_gateway: OpenGateway
) -> None:
    sharded.create_table("logs", "events_intraday_20260106", "id INT64, name STRING", rows=[{"id": 7}])
    sharded.create_table("logs", "orders", "id INT64", rows=[{"id": 7}, {"id": 100}])
    async with open_gateway(tables=[], bigquery={"datasets": ["logs"]}) as gateway:
        await gateway.catalog.settle(PATIENCE_S)
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ME, ScanRequest(googlesql=text))
        assert refused.value.kind == "disallowed_node"
        found = re.search(r"\(SELECT … (FROM events WHERE .*)\) AS (\w+)\.$", refused.value.hint)
        assert found is not None
        assert found[2] == UNPLACED[text]
        mended = re.sub(r"\bevents( AS e| e)?\b", f"(SELECT id {found[1]}) AS {found[2]}", text, count=1)
        answer = await gateway.scans.scan(ME, ScanRequest(googlesql=mended))
    assert answer.row_count == 1
