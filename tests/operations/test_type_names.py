"""A column has one type name in `schema`, `scan`, `sample` and `query` of its table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.instances import ME, settings_of, table, write

from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import StandIn

REMOTE = (
    "n INT64, s STRING, f FLOAT64, b BOOL, d DATE, t TIMESTAMP, m DATETIME, money NUMERIC, j JSON, place GEOGRAPHY, "
    "tags ARRAY<STRING>, device STRUCT<os STRING, langs ARRAY<STRING>>"
)
LOCAL = """
    SELECT i AS n, CAST(i AS INTEGER) AS small, 'x' AS s, i * 1.5 AS dec, CAST(i AS DOUBLE) AS f, i = 1 AS b,
           DATE '2026-01-01' AS d, TIMESTAMPTZ '2026-01-01' AS t, TIMESTAMP '2026-01-01' AS m, [i] AS numbers,
           {'a': 1, 'b': [2]} AS nested, [{'c': 'x'}] AS many, MAP {'k': i} AS pairs, CAST(i AS HUGEINT) AS huge
    FROM range(3) AS r(i)"""


async def told(gateway: Gateway, table_id: str) -> dict[str, dict[str, str]]:
    """Per way the name of each column's type."""
    schema = await gateway.catalog.columns(ME, table_id)
    names = [column.name for column in schema.columns]
    scanned = await gateway.scans.scan(ME, ScanRequest(table_id=table_id, limit=2))
    chosen = await gateway.scans.scan(ME, ScanRequest(table_id=table_id, select=names, order_by=["n"], limit=2))
    sampled = await gateway.descriptions.sample(ME, table_id, 2)
    answers = {"scan": scanned, "select": chosen, "sample": sampled}
    types = {way: dict(zip(answer.columns, answer.types, strict=True)) for way, answer in answers.items()}
    return {"schema": {column.name: column.type for column in schema.columns}, **types}


async def test_of_a_remote_table(bq: StandIn, open_gateway: Callable[..., Gateway]) -> None:
    bq.create_table("my_dataset", "typed", schema=REMOTE, rows=[{"n": 1, "s": "x"}])
    typed = {"id": "typed", "source_type": "bigquery", "bucket": "my_dataset", "source_table": "typed"}
    async with open_gateway(tables=(typed,)) as gateway:
        ways = await told(gateway, "typed")
        text = await gateway.scans.scan(ME, ScanRequest(googlesql="SELECT * FROM typed"))
    ways["sql"] = dict(zip(text.columns, text.types, strict=True))
    assert ways["schema"]["tags"] == "ARRAY<STRING>"
    assert ways["schema"]["j"] == "JSON"
    assert {way: types for way, types in ways.items() if types != ways["schema"]} == {}


async def test_of_a_local_table(tmp_path: Path) -> None:
    path = write(tmp_path, "typed.parquet", LOCAL)
    async with Gateway(settings_of(tmp_path / "data", [table("typed", path)])) as gateway:
        ways = await told(gateway, "typed")
        queried = await gateway.queries.query(ME, "SELECT * FROM typed")
    ways["query"] = dict(zip(queried.columns, queried.types, strict=True))
    assert ways["schema"]["nested"] == "STRUCT"
    assert ways["schema"]["numbers"] == "BIGINT[]"
    assert {way: types for way, types in ways.items() if types != ways["schema"]} == {}
