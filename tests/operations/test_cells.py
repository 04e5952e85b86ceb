"""Cells that are no values of their column's type, as BigQuery's REST API may send them, through the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.instances import ME

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, ScanRequest
from agnes_mcp.stand_in import Fault, StandIn

OpenGateway = Callable[..., Gateway]
NOWHERE = {"storage_endpoint": "grpc://127.0.0.1:9"}  # rows come through REST
SCHEMA = """
    id INT64, day DATE, moment TIMESTAMP, local DATETIME, at TIME, money NUMERIC, big BIGNUMERIC, f FLOAT64, flag BOOL,
    raw BYTES, span INTERVAL, during RANGE<DATE>, days ARRAY<DATE>, person STRUCT<born DATE>
"""
#: What no client reads as the column's type, and how it is shown.
CELLS: dict[str, tuple[Any, str]] = {
    "id": ("9223372036854775808", "9223372036854775808"),
    "day": ("10000-01-01", "10000-01-01"),
    "moment": ("253402300800000000.0", "253402300800000000.0"),
    "local": ("0000-00-00T00:00:00", "0000-00-00T00:00:00"),
    "at": ("24:00:01", "24:00:01"),
    "money": ("1_0", "1_0"),
    "big": ("9" * 77, "9" * 77),
    "f": ("one", "one"),
    "flag": ("maybe", "maybe"),
    "raw": ("not base64!", "not base64!"),
    "span": ("P1Y", "P1Y"),
    "during": ("[2026-01-01]", "[2026-01-01]"),
    "days": ([{"v": "2026-01-01"}, {"v": "never"}], '["2026-01-01", "never"]'),
    "person": ({"f": [{"v": "never"}]}, '["never"]'),
}


@pytest.fixture
def odd(bq: StandIn) -> StandIn:
    bq.create_table("my_dataset", "odd", schema=SCHEMA, rows=[{"id": 1, "day": "2026-01-01"}, {"id": 2}])
    return bq


@pytest.mark.parametrize("name", CELLS)
async def test_a_sample_shows_the_text_that_arrived(odd: StandIn, open_gateway: OpenGateway, name: str) -> None:
    cell, shown = CELLS[name]
    odd.faults.add(Fault("tabledata.list", cells={name: cell}))
    async with open_gateway(tables=["odd"]) as gateway:
        answer = await gateway.descriptions.sample(ME, "odd")
    place = answer.columns.index(name)
    assert [row[place] for row in answer.rows] == [shown, shown]
    assert answer.note is not None
    assert repr(name) in answer.note
    if name != "day":
        assert [row[answer.columns.index("day")] for row in answer.rows] == ["2026-01-01", None]


async def test_rows_of_a_scan_keep_the_rest_of_their_values(odd: StandIn, open_gateway: OpenGateway) -> None:
    odd.faults.add(Fault("tabledata.list", cells={"moment": "never", "f": "much"}, times=None))
    async with open_gateway(tables=["odd"], bigquery=NOWHERE) as gateway:
        answer = await gateway.scans.scan(ME, ScanRequest(table_id="odd", select=["f", "id", "moment"], where="id < 9"))
    assert sorted(answer.rows) == [["much", 1, "never"], ["much", 2, "never"]]
    assert answer.note is not None
    assert "'f', 'moment'" in answer.note


async def test_where_there_is_only_room_for_values_it_is_refused(odd: StandIn, open_gateway: OpenGateway) -> None:
    odd.faults.add(Fault("tabledata.list", cells={"day": "never", "min_1": "never"}, times=None))
    async with open_gateway(tables=["odd"], bigquery=NOWHERE) as gateway:
        for call in (
            gateway.fetches.fetch(ME, ScanRequest(table_id="odd", select=["day"], where="id < 9"), name="kept"),
            gateway.descriptions.describe(ME, "odd", profile=True),
        ):
            with pytest.raises(AgnesError) as refused:
                await call
            assert (refused.value.kind, "never" in refused.value.message) == ("invalid_argument", True)
        assert (await gateway.snapshots.entries(ME)).snapshots == []


async def test_an_interval_has_one_spelling(odd: StandIn, open_gateway: OpenGateway) -> None:
    spans = ["14 months", "-3 days", "4.5 seconds", "0 days", None]
    odd.create_table(
        "my_dataset", "spans", "n INT64, span INTERVAL", rows=[{"n": n, "span": s} for n, s in enumerate(spans)]
    )
    async with open_gateway(tables=["spans"]) as gateway:
        sample = await gateway.descriptions.sample(ME, "spans", select=["span"])
        scan = await gateway.scans.scan(ME, ScanRequest(table_id="spans", select=["span"], where="n >= 0"))
        await gateway.fetches.fetch(ME, ScanRequest(table_id="spans", where="n >= 0"), name="kept")
        kept = await gateway.queries.query(ME, "SELECT span FROM kept ORDER BY n")
        local = await gateway.queries.query(
            ME, "SELECT unnest([INTERVAL 14 MONTH, INTERVAL (-3) DAY, INTERVAL 4500 MILLISECOND, INTERVAL 0 DAY, NULL])"
        )
    expected = [["P14M"], ["P-3D"], ["PT4.5S"], ["PT0S"], [None]]
    assert sample.rows == scan.rows == kept.rows == local.rows == expected


async def test_aggregates_of_a_scan_say_it_too(odd: StandIn, open_gateway: OpenGateway) -> None:
    odd.faults.add(Fault("tabledata.list", cells={"last": "never"}, times=None))
    request = ScanRequest(table_id="odd", aggregates=[Aggregate(function="max", column="day", alias="last")])
    async with open_gateway(tables=["odd"], bigquery=NOWHERE) as gateway:
        answer = await gateway.scans.scan(ME, request)
    assert (answer.rows, "'last'" in (answer.note or "")) == ([["never"]], True)
