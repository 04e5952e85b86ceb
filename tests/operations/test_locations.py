"""One instance over tables of several locations: each alone is read, several in one statement are one clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.instances import ME

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import StandIn

OPEN = Callable[..., Gateway]


@pytest.fixture
def world(bq: StandIn) -> list[dict[str, Any]]:
    entries = []
    for number, location in enumerate(("US", "EU", "asia-northeast1")):
        dataset = f"place_{number}"
        bq.create_dataset(dataset, location=location)
        for name in ("a", "b"):
            bq.create_table(dataset, name, schema="id INT64, n INT64", rows=[{"id": 1, "n": number}])
            entry = {"source_type": "bigquery", "bucket": dataset, "source_table": name}
            entries.append({"id": f"{name}_{number}", **entry})
    return entries


async def test_tables_of_three_locations_in_one_instance(world: list[dict[str, Any]], open_gateway: OPEN) -> None:
    async with open_gateway(tables=world) as gateway:
        for number in range(3):
            asked = ScanRequest(table_id=f"a_{number}", where="id = 1", select=["n"])
            assert (await gateway.scans.scan(ME, asked)).rows == [[number]]
            joined = f"SELECT a.n FROM a_{number} AS a JOIN b_{number} AS b USING (id)"
            assert (await gateway.scans.scan(ME, ScanRequest(googlesql=joined))).rows == [[number]]
        kept = await gateway.fetches.fetch(ME, ScanRequest(table_id="a_1", where="id = 1"), name="kept")
        assert kept.snapshot is not None
        assert kept.snapshot.rows == 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM a_0 JOIN a_1 USING (id)",
        "SELECT id FROM a_1 UNION ALL SELECT id FROM a_2",
        "SELECT id FROM a_0 WHERE id IN (SELECT id FROM b_2)",
    ],
)
async def test_one_statement_over_several_locations_is_refused(
    text: str, world: list[dict[str, Any]], open_gateway: OPEN, bq: StandIn
) -> None:
    async with open_gateway(tables=world) as gateway:
        with pytest.raises(AgnesError) as told:
            await gateway.scans.scan(ME, ScanRequest(googlesql=text))
        assert told.value.kind == "mixed_locations"
        assert "fetch" in told.value.hint
        assert set(told.value.details["locations"]) < {"US", "EU", "ASIA-NORTHEAST1"}
    assert not bq.query_jobs()


@pytest.mark.parametrize(
    "asked",
    [
        ScanRequest(table_id="a_0", where="id = 1", select=["n"]),
        ScanRequest(googlesql="SELECT n FROM a_0 WHERE id = 1"),
        ScanRequest(googlesql="SELECT n FROM a_0 JOIN b_0 USING (id, n)"),
    ],
    ids=["predicate", "statement", "join"],
)
async def test_a_dataset_made_again_elsewhere_is_found_by_the_next_call(
    asked: ScanRequest, world: list[dict[str, Any]], open_gateway: OPEN, bq: StandIn
) -> None:
    async with open_gateway(tables=world) as gateway:
        assert (await gateway.scans.scan(ME, asked)).rows == [[0]]
        bq.drop_dataset("place_0")
        bq.create_dataset("place_0", location="EU")
        for name in ("a", "b"):
            bq.create_table("place_0", name, schema="id INT64, n INT64", rows=[{"id": 1, "n": 7}])
        billed = len(bq.query_jobs())
        with pytest.raises(AgnesError, match="not found in location US") as told:
            await gateway.scans.scan(ME, asked)
        assert (told.value.kind, len(bq.query_jobs())) == ("bq_not_found", billed)
        assert "call again" in told.value.hint
        assert (await gateway.scans.scan(ME, asked)).rows == [[7]]
