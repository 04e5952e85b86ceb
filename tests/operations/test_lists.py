"""Conditions on the elements of a list, over BigQuery and over files, with the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.instances import ME, table, write

from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import StandIn

ROWS = """
    SELECT i AS id, [{'key': 'page', 'value': {'string_value': 'p' || i % 3, 'int_value': i}},
                     {'key': 'step', 'value': {'string_value': NULL, 'int_value': i % 5}}] AS event_params
    FROM range(30) AS r(i)"""
PAGE = "key = 'page' AND value.string_value = 'p1' AND value.int_value > 20"


async def test_events_by_their_parameters(bq: StandIn, open_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    params = "ARRAY<STRUCT<key STRING, value STRUCT<string_value STRING, int_value INT64>>>"
    bq.create_table("my_dataset", "events", f"id INT64, event_params {params}", sql=ROWS)
    local = table("events_local", write(tmp_path, "events.parquet", ROWS))
    async with open_gateway(tables=["events", local]) as gateway:
        where = f"EXISTS (SELECT 1 FROM UNNEST(event_params) WHERE {PAGE})"
        remote = await gateway.scans.scan(
            ME, ScanRequest(table_id="events", select=["id"], where=where, order_by=["id"])
        )
        element = PAGE.replace("key", "e.key").replace("value.s", "e.value.s").replace("value.i", "e.value.i")
        where = f"EXISTS (SELECT 1 FROM UNNEST(event_params) AS t(e) WHERE {element})"
        files = await gateway.scans.scan(
            ME, ScanRequest(table_id="events_local", select=["id"], where=where, order_by=["id"])
        )
        like = await gateway.scans.scan(
            ME, ScanRequest(table_id="events_local", select=["id"], where="CAST(id AS VARCHAR) LIKE '%1%_%%'")
        )
    assert remote.rows == files.rows == [[22], [25], [28]]
    assert like.row_count == 10
