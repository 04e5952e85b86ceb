"""Habitual wrong turns: each is refused with the call that works in its hint, and that call is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from support.instances import ONE_PROCESS, bigquery_at, body_of, connected, table, write

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.stand_in import Partition, StandIn

MIB = 2**20
FLIGHTS = """
    SELECT i AS id, i % 5 AS customer_id, CAST(i AS DOUBLE) AS amount, DATE '2026-01-01' + CAST(i % 60 AS INT) AS day,
           CASE i % 3 WHEN 0 THEN 'paid' ELSE 'open' END AS status, i % 2 = 0 AS late,
           [{'carrier': 'A' || (i % 2), 'hours': i % 4}, {'carrier': 'B', 'hours': 1}] AS legs
    FROM range(240) AS r(i)"""
CUSTOMERS = "SELECT i AS customer_id, CASE i % 2 WHEN 0 THEN 'gold' ELSE 'blue' END AS tier FROM range(5) AS r(i)"
COUNT = [{"function": "count"}]
MEDIAN = [{"function": "median", "column": "amount"}]

#: The tool, its arguments without the table, the tool that answers instead, and what is said of it.
TURNS: list[tuple[str, dict[str, Any], str, str]] = [
    ("scan", {"group_by": ["DATE_TRUNC(day, MONTH)"], "aggregates": COUNT}, "scan", "DATE_TRUNC(day, MONTH)"),
    ("scan", {"group_by": "EXTRACT(MONTH FROM day) AS month", "aggregates": COUNT}, "scan", "AS month"),
    ("scan", {"group_by": ["LOWER(status)"]}, "scan", "LOWER(status)"),
    ("scan", {"select": ["amount * 2 AS twice"], "where": "late"}, "scan", "amount * 2 AS twice"),
    ("scan", {"select": ["CASE WHEN late THEN 1 ELSE 0 END AS is_late", "id"]}, "scan", "CASE WHEN"),
    ("scan", {"select": ["status", "count(*)"]}, "scan", "group_by"),
    ("scan", {"select": ["status", "sum(amount) AS total"], "order_by": ["total DESC"]}, "scan", '"alias": "total"'),
    ("scan", {"select": ["count(*)"]}, "scan", '"function": "count"'),
    ("scan", {"select": ["DISTINCT status"]}, "scan", "group_by"),
    ("scan", {"select": ["DISTINCT status", "late"]}, "scan", "group_by"),
    ("scan", {"select": "status, late"}, "scan", '["status", "late"]'),
    ("scan", {"select": ["status AS state"]}, "scan", "status AS state"),
    ("scan", {"where": "count(*) > 5", "group_by": ["status"], "aggregates": COUNT}, "scan", "HAVING COUNT(*) > 5"),
    ("scan", {"where": "late AND sum(amount) > 5", "group_by": ["status"]}, "scan", "HAVING SUM(amount) > 5"),
    ("scan", {"where": "late GROUP BY status HAVING count(*) > 2"}, "scan", "HAVING"),
    ("scan", {"where": "late ORDER BY id DESC LIMIT 3"}, "scan", "LIMIT 3"),
    ("scan", {"where": "WHERE late"}, "scan", 'where="late"'),
    ("scan", {"aggregates": ["count(*)"]}, "scan", '{"function": "count"}'),
    ("scan", {"aggregates": "count(*)"}, "scan", '{"function": "count"}'),
    ("scan", {"aggregates": ["sum(amount)", "max(day)"], "group_by": ["status"]}, "scan", '"column": "amount"'),
    ("scan", {"aggregates": ["count(distinct customer_id)"]}, "scan", "count_distinct"),
    ("scan", {"aggregates": ["sum(amount * 2)"]}, "scan", "SUM(amount * 2)"),
    ("scan", {"aggregates": [{"function": "sum", "column": "amount * 2"}]}, "scan", "SUM(amount * 2)"),
    ("scan", {"aggregates": [{"function": "count_if", "column": "status = 'paid'"}]}, "scan", "COUNTIF(status"),
    ("scan", {"aggregates": [{"function": "countif", "column": "late"}]}, "scan", "count_if"),
    ("scan", {"aggregates": [{"function": "average", "column": "amount"}]}, "scan", '"avg"'),
    ("scan", {"aggregates": [{"function": "distinct", "column": "status"}]}, "scan", "count_distinct"),
    ("scan", {"aggregates": MEDIAN}, "scan", "APPROX_QUANTILES(amount, 100)[OFFSET(50)]"),
    ("scan", {"aggregates": MEDIAN, "group_by": ["status"]}, "scan", "GROUP BY 1"),
    ("scan", {"aggregates": [{"function": "p95", "column": "amount"}]}, "scan", "OFFSET(95)"),
    ("scan", {"aggregates": [{"function": "percentile_90", "column": "amount"}]}, "scan", "OFFSET(90)"),
    ("scan", {"aggregates": [{"function": "stddev", "column": "amount"}]}, "scan", "STDDEV(amount)"),
    ("scan", {"where": "customer_id IN (SELECT customer_id FROM customers WHERE tier = 'gold')", "select": ["id"]},
     "scan", "SELECT id FROM flights WHERE customer_id IN"),
    ("scan", {"where": "amount > (SELECT AVG(amount) FROM flights)", "select": ["id"]}, "scan", "AVG(amount)"),
    ("scan", {"select": ["legs.carrier"]}, "scan", "UNNEST(legs)"),
    ("scan", {"select": ["id", "legs.carrier"], "where": "late"}, "scan", "UNNEST(legs)"),
    ("scan", {"group_by": ["legs.carrier"], "aggregates": COUNT}, "scan", "UNNEST(legs)"),
    ("scan", {"select": ["customers.tier", "id"]}, "scan", "JOIN customers USING (customer_id)"),
    ("scan", {"group_by": ["customers.tier"], "aggregates": [{"function": "sum", "column": "amount"}]}, "scan", "JOIN"),
    ("scan", {"where": "customers.tier = 'gold'", "select": ["id"]}, "scan", "JOIN customers"),
    ("scan", {"table_id": "flights JOIN customers USING (customer_id)", "select": ["id", "tier"]}, "scan", "JOIN"),
    ("estimate", {"group_by": ["DATE_TRUNC(day, WEEK)"], "aggregates": COUNT}, "estimate", "DATE_TRUNC(day, WEEK)"),
    ("scan", {"group_by": "status", "aggregates": COUNT, "having": "count(*) > 5"}, "scan", "HAVING count(*) > 5"),
    ("scan", {"group_by": "status", "having": "sum(amount) > 5"}, "scan", "HAVING sum(amount) > 5"),
    ("scan", {"select": ["status", "late"], "distinct": True}, "scan", "group_by"),
    ("fetch", {"select": ["legs.carrier"]}, "fetch", 'name="flights_rows"'),
]  # fmt: skip
#: The same of tables whose rows are here.
LOCAL_TURNS: list[tuple[str, dict[str, Any], str, str]] = [
    ("scan", {"group_by": ["date_trunc('month', day)"], "aggregates": COUNT}, "query", "GROUP BY 1"),
    ("scan", {"select": ["status", "count(*)"]}, "scan", "group_by"),
    ("scan", {"aggregates": MEDIAN}, "query", "quantile_cont(amount, 0.5)"),
    ("scan", {"where": "count(*) > 5", "group_by": ["status"]}, "query", "HAVING COUNT(*) > 5"),
    ("scan", {"where": "customer_id IN (SELECT customer_id FROM here_customers)", "select": ["id"]}, "query", "IN"),
    ("scan", {"select": ["legs.carrier"]}, "query", "UNNEST(legs)"),
    ("scan", {"select": ["here_customers.tier"]}, "query", "JOIN here_customers USING (customer_id)"),
    ("fetch", {"select": ["upper(status) AS state"]}, "query", "AS state"),
]  # fmt: skip
#: What is typed into `query`; `kept` is a snapshot.
TYPED: list[tuple[str, str, str]] = [
    ("SELECT status, count(*) FROM flights GROUP BY status", "scan", "FROM flights"),
    ("SELECT date_trunc('month', day) AS month, count(*) AS n FROM flights GROUP BY 1", "scan", "TRUNC"),
    ("SELECT id::VARCHAR AS text FROM flights WHERE late LIMIT 3", "scan", "CAST(id AS STRING)"),
    ("SELECT f.id, c.tier FROM flights f JOIN customers c USING (customer_id)", "scan", "JOIN customers"),
    ("SELECT f.id FROM flights f JOIN here_customers c USING (customer_id)", "fetch", 'table_id="flights"'),
    ("SELECT f.id FROM flights f JOIN kept k USING (customer_id)", "fetch", 'name="flights_rows"'),
    ("DESCRIBE kept", "query", "SELECT * FROM kept"),
    ("describe here_flights", "schema", "here_flights"),
    ("DESC flights;", "schema", "flights"),
    ("PRAGMA table_info('kept')", "query", "kept"),
    ("SUMMARIZE here_flights", "describe", '"here_flights"'),
    ("SHOW TABLES", "catalog", "catalog()"),
    ("CREATE TABLE mine AS SELECT id FROM here_flights", "query", "SELECT id FROM here_flights"),
    ("CREATE OR REPLACE TEMP VIEW mine AS SELECT id FROM flights", "scan", "SELECT id FROM flights"),
    ("EXPLAIN SELECT id FROM here_flights", "query", "SELECT id FROM here_flights"),
    ("COPY (SELECT id FROM here_flights) TO 'x.csv'", "query", "SELECT id FROM here_flights"),
    ("TRUNCATE TABLE kept", "snapshot_drop", "kept"),
    ("drop table if exists kept", "snapshot_drop", "kept"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("turns")


@pytest.fixture(scope="module")
def bq(folder: Path) -> Iterator[StandIn]:
    with StandIn(project="my-project") as stand_in:
        flights = write(folder, "flights.parquet", FLIGHTS)
        stand_in.create_table("my_dataset", "flights", parquet=flights, partition=Partition("day"))
        stand_in.create_table("my_dataset", "customers", parquet=write(folder, "customers.parquet", CUSTOMERS))
        yield stand_in


@pytest.fixture
def gateway(bq: StandIn, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    bigquery = bigquery_at(bq)
    remote = [
        {"id": name, "source_type": "bigquery", "bucket": "my_dataset", "source_table": name}
        for name in ("flights", "customers")
    ]
    local = [table(f"here_{name}", folder / f"{name}.parquet") for name in ("flights", "customers")]
    settings = {
        "data_dir": str(tmp_path / "data"), "data_source": {"bigquery": bigquery}, "tables": [*remote, *local],
        "engine": ONE_PROCESS,
    }  # fmt: skip
    return Gateway(Settings.model_validate(settings))


async def wrong_ways(client: Client, turns: list[tuple[str, dict[str, Any], str, str]]) -> list[Any]:
    """Those of which the hint does not name a call that works."""
    failed: list[Any] = []
    for tool, given, instead, said in turns:
        result = await client.call_tool(tool, given)
        told = body_of(result)
        call = told.get("details", {}).get("call") if result.is_error else None
        if call is None or call["tool"] != instead or said.casefold() not in told["hint"].casefold():
            failed.append((tool, given, told.get("error"), told.get("hint"), call))
            continue
        answer = await client.call_tool(call["tool"], call["arguments"])
        body = body_of(answer)
        if answer.is_error or not (body.get("rows") or body.get("verdict") or body.get("first_rows")):
            failed.append((tool, given, told["hint"], body))
    return failed


@pytest.mark.parametrize("table_id", ["flights", "here_flights"])
async def test_every_wrong_turn_names_a_call_that_works(gateway: Gateway, table_id: str) -> None:
    turns = TURNS if table_id == "flights" else LOCAL_TURNS
    async with gateway, connected(gateway, "auto") as client:
        asked = [(tool, {"table_id": table_id, **given}, instead, said) for tool, given, instead, said in turns]
        assert await wrong_ways(client, asked) == []


async def test_what_is_typed_into_query_by_habit_names_the_call_that_does_it(gateway: Gateway) -> None:
    async with gateway, connected(gateway, "auto") as client:
        failed: list[Any] = []
        for sql, instead, said in TYPED:
            await client.call_tool("fetch", {"table_id": "here_customers", "name": "kept"})
            told = body_of(await client.call_tool("query", {"sql": sql}))
            call = told.get("details", {}).get("call")
            if call is None or call["tool"] != instead or said not in told["hint"]:
                failed.append((sql, told.get("error"), told.get("hint")))
                continue
            answer = await client.call_tool(call["tool"], call["arguments"])
            if answer.is_error and body_of(answer)["error"] != "snapshot_exists":
                failed.append((sql, told["hint"], body_of(answer)))
        assert failed == []


async def test_a_text_over_files_is_handed_to_query_and_nothing_at_all_is_told_both_ways(gateway: Gateway) -> None:
    async with gateway, connected(gateway, "auto") as client:
        told = body_of(await client.call_tool("scan", {"sql": "SELECT count(*) FROM here_flights"}))
        assert told["error"] == "remote_sql_local_table"
        assert 'query(sql="SELECT count(*) FROM here_flights")' in told["hint"].replace(chr(92), "")
        empty = body_of(await client.call_tool("scan", {"sql": ""}))
        assert empty["error"] == "invalid_argument"
        assert "scan(table_id=" in empty["hint"]
        assert "scan(sql=" in empty["hint"]


async def test_a_profile_over_the_cap_names_the_columns_that_are_under_it(gateway: Gateway) -> None:
    gateway.settings.api.scan.max_scan_bytes = 5_000
    async with gateway, connected(gateway, "auto") as client:
        told = body_of(await client.call_tool("describe", {"table_id": "flights", "profile": True}))
        assert told["error"] == "over_scan_cap"
        call = told["details"]["call"]
        body = body_of(await client.call_tool(call["tool"], call["arguments"]))
        assert [column["name"] for column in body["profile"]["columns"]] == body["sample"]["columns"]
        assert set(call["arguments"]["select"]) == set(body["sample"]["columns"])
