"""Rows that a scan keeps under a name, and the first rows of a fetch: nobody bills twice to see and to keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.instances import ME, body_of, connected

from agnes_mcp.answers.fitting import compact
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, ScanRequest
from agnes_mcp.stand_in import StandIn

OpenGateway = Callable[..., Gateway]
DAY = ScanRequest(table_id="sessions", select=["country", "amount"], where="event_date = '2026-01-05'")
PER_COUNTRY = ScanRequest(
    table_id="sessions", group_by=["country"], aggregates=[Aggregate(function="count")], where=DAY.where
)
TEXT = ScanRequest(googlesql="SELECT country, COUNT(*) AS n FROM sessions GROUP BY country ORDER BY n DESC")


@pytest.mark.parametrize("request_", [DAY, PER_COUNTRY, TEXT], ids=["rows", "groups", "text"])
async def test_what_a_scan_keeps_is_billed_once(bq: StandIn, open_gateway: OpenGateway, request_: ScanRequest) -> None:
    async with open_gateway() as gateway:
        answer = await gateway.scans.scan(ME, request_, keep="mine")
        counted = await gateway.queries.query(ME, "SELECT count(*) FROM mine")
        with pytest.raises(AgnesError) as refused:
            await gateway.fetches.fetch(ME, request_, name="again")
        with pytest.raises(AgnesError) as repeated:
            await gateway.scans.scan(ME, request_, keep="another")
        estimate = await gateway.scans.estimate(ME, request_)
        kept = await gateway.snapshots.entry(ME, "mine")
    assert answer.snapshot == "mine"
    assert counted.rows == [[kept.rows]]
    assert (kept.rows == answer.row_count) or answer.truncated
    assert refused.value.details["snapshot"] == repeated.value.details["snapshot"] == estimate.covered_by == "mine"
    assert len(bq.query_jobs()) == 1


async def test_all_is_kept_though_a_thousand_rows_are_shown(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Unless a limit is given; what the answer cut is in the snapshot."""
    async with open_gateway() as gateway, connected(gateway, "auto") as client:
        every = {"table_id": "sessions", "select": "amount", "where": DAY.where}
        body = body_of(await client.call_tool("scan", {**every, "keep": "every_amount"}))
        assert (body["row_count"], body["truncated"], body["truncated_by"]) == (1_000, True, "limit")
        assert "every_amount" in body["note"]
        counted = await gateway.queries.query(ME, "SELECT count(*) FROM every_amount")
        assert counted.rows == [[10_000]]
        few = body_of(await client.call_tool("scan", {**every, "select": "country", "limit": 7, "keep": "few"}))
        assert (few["row_count"], few["truncated"], few["more_rows"], few["snapshot"]) == (7, False, True, "few")
        assert (await gateway.queries.query(ME, "SELECT count(*) FROM few")).rows == [[7]]


async def test_a_name_that_cannot_be_kept_costs_nothing(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        await gateway.fetches.fetch(ME, ScanRequest(table_id="local"), name="there")
        for name, kind in (("there", "snapshot_exists"), ("sessions", "invalid_argument"), ("A b", "invalid_argument")):
            with pytest.raises(AgnesError) as refused:
                await gateway.scans.scan(ME, DAY, keep=name)
            assert refused.value.kind == kind
    assert bq.query_jobs() == []


async def test_rows_that_cannot_be_kept_after_all_are_an_answer(
    bq: StandIn, open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paid is paid: a full disk takes the snapshot, not the rows."""

    def full(*_: object, **__: object) -> None:
        raise AgnesError("disk_full", "The disk is full.", "Free some.")

    async with open_gateway() as gateway:
        monkeypatch.setattr("agnes_mcp.snapshots.claim.stage", full)
        answer = await gateway.scans.scan(ME, PER_COUNTRY, keep="mine")
        assert (answer.row_count, answer.snapshot, answer.truncated) == (2, None, False)
        assert answer.note == "The rows could not be kept as mine: The disk is full."
        assert answer.bytes_billed > 0


async def test_a_fetch_shows_its_first_rows(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        few = await gateway.fetches.fetch(ME, PER_COUNTRY, name="few")
        many = await gateway.fetches.fetch(ME, DAY, name="many")
        whole = await gateway.queries.query(ME, "SELECT * FROM few")
    assert few.snapshot is not None
    assert sorted(few.first_rows) == sorted(whole.rows)
    assert [column.name for column in few.snapshot.columns] == whole.columns
    assert 1_900 <= len(compact(many.first_rows)) <= 2_000
    assert len(many.first_rows[0]) == 2
