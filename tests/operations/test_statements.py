"""GoogleSQL over several tables through the gateway: priced, capped, kept, refreshed, and held to what it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.instances import ME

from agnes_mcp.config.settings import UserSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, Principal, ScanRequest
from agnes_mcp.stand_in import StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
JOIN = """SELECT s.country, COUNT(*) AS n, COUNT(o.id) AS ordered
FROM sessions AS s LEFT JOIN my_dataset.orders AS o ON o.id = s.amount
WHERE s.event_date = DATE '2026-01-01' GROUP BY s.country ORDER BY n DESC, s.country"""


def by_sql(text: str, limit: int | None = None) -> ScanRequest:
    return ScanRequest(googlesql=text, limit=limit)


async def refusal(call: Any) -> AgnesError:
    with pytest.raises(AgnesError) as refused:
        await call
    return refused.value


async def test_a_join_is_priced_run_billed_and_audited(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        estimate = await gateway.scans.estimate(ME, by_sql(JOIN))
        answer = await gateway.scans.scan(ME, by_sql(JOIN))
        usage = await gateway.usage.today(ME)
        path = Path(gateway.settings.data_dir) / "audit" / "audit.jsonl"
        line = next(line for line in map(json.loads, path.read_text().splitlines()) if line["tool"] == "scan")
    assert answer.columns == ["country", "n", "ordered"]
    assert sum(row[1] for row in answer.rows) == 10_000
    assert not answer.truncated
    dry, ran = {r.sql for r in bq.requests.named("jobs.insert") if r.dry_run}, [r.sql for r in bq.query_jobs()]
    assert ran == [estimate.sql]
    assert estimate.sql in dry
    assert "`my-project.my_dataset.orders` AS `o`" in estimate.sql
    assert {share.table_id for share in estimate.tables} == {"sessions", "orders"}
    assert sum(share.bytes or 0 for share in estimate.tables) == estimate.estimated_scan_bytes
    assert estimate.estimated_result_rows is None
    assert answer.bytes_billed <= (estimate.reserve_bytes or 0)
    assert usage.quota.daily_bytes_used == answer.bytes_billed
    assert line["places"] == ["my-project.my_dataset.orders", "my-project.my_dataset.sessions"]
    assert line["sql_hash"]
    assert "country" not in json.dumps(line)


async def test_a_limit_reads_rows_and_leaves_the_text(bq: StandIn, open_gateway: OpenGateway) -> None:
    text = "SELECT id FROM orders ORDER BY id DESC"
    async with open_gateway() as gateway:
        answer = await gateway.scans.scan(ME, by_sql(text, limit=3))
        estimate = await gateway.scans.estimate(ME, by_sql("SELECT id FROM orders ORDER BY id LIMIT 5"))
    assert [row[0] for row in answer.rows] == [8, 7, 6]
    assert (answer.truncated, answer.more_rows, answer.sql) == (False, True, None)
    assert "LIMIT" not in bq.query_jobs()[0].sql
    assert estimate.estimated_result_rows == 5


async def test_a_view_is_read_as_what_it_stands_for(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Whatever BigQuery lists for a view: its base tables, the view, or both."""
    text = "SELECT v.country, COUNT(*) AS n FROM sessions_v AS v GROUP BY v.country ORDER BY 1"
    async with open_gateway() as gateway:
        for listed in ("bases", "named", "both"):
            bq.references = listed
            answer = await gateway.scans.scan(ME, by_sql(text))
            assert [row[0] for row in answer.rows] == ["CZ", "DE", "SK"]


async def test_a_view_that_changed_is_learned_anew(bq: StandIn, open_gateway: OpenGateway) -> None:
    """By its etag; while that stays, it is asked about once."""
    text = "SELECT COUNT(*) AS n FROM sessions_v"

    def asked() -> int:
        dry = [request.sql or "" for request in bq.requests.named("jobs.insert") if request.dry_run]
        return sum(sql.startswith("SELECT * FROM `my-project.my_dataset.sessions_v`") for sql in dry)

    async with open_gateway() as gateway:
        await gateway.scans.scan(ME, by_sql(text))
        once = asked()  # for what it stands for, and whether it has to be filtered
        await gateway.scans.estimate(ME, by_sql(text))
        assert asked() == once <= 2
        bq.create_view("my_dataset", "sessions_v", "SELECT id AS session_id, 'x' AS country FROM my_dataset.orders")
        answer = await gateway.scans.scan(ME, by_sql(text))
        assert once < asked() <= 2 * once
    assert answer.rows == [[9]]


async def test_a_text_over_other_tables_is_refused_before_any_job(bq: StandIn, open_gateway: OpenGateway) -> None:
    cases = {
        "SELECT * FROM nope": "table_not_found",
        "SELECT * FROM my_dataset.INFORMATION_SCHEMA.TABLES": "table_not_found",
        "SELECT * FROM `other-project.my_dataset.orders`": "table_not_found",
        "SELECT * FROM local": "remote_sql_local_table",
        "SELECT 1": "remote_sql_local_table",
        "SELECT * FROM orders JOIN local USING (id)": "mixed_sources",
        "SELECT my_dataset.f(id) FROM orders": "unknown_function",
        "SELECT nope FROM orders": "unknown_column",
        "DROP TABLE my_dataset.orders": "ddl_or_dml",
    }
    async with open_gateway() as gateway:
        told = {text: (await refusal(gateway.scans.scan(ME, by_sql(text)))).kind for text in cases}
    assert told == cases
    assert bq.requests.named("jobs.insert") == []


async def test_grants_are_those_of_now(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Table by table, in a refresh and in a query over the snapshot too."""
    ana = Principal("ana@example.com")
    user = {"name": ana.name, "token_sha256": "0" * 64, "tables": ["sessions", "orders"]}
    async with open_gateway(access={"users": [user]}) as gateway:
        await gateway.fetches.fetch(ana, by_sql(JOIN), name="joined")
        assert (await gateway.queries.query(ana, "SELECT COUNT(*) FROM joined")).rows == [[2]]
        gateway.access.replace([UserSettings.model_validate({**user, "tables": ["sessions"]})])
        assert (await refusal(gateway.scans.scan(ana, by_sql(JOIN)))).kind == "table_not_found"
        assert (await refusal(gateway.fetches.refresh(ana, "joined"))).kind == "table_not_found"
        assert (await refusal(gateway.queries.query(ana, "SELECT COUNT(*) FROM joined"))).kind == "table_not_found"


async def test_rows_are_kept_refreshed_and_not_paid_for_twice(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        fetched = await gateway.fetches.fetch(ME, by_sql(JOIN), name="joined")
        assert fetched.snapshot is not None
        assert fetched.snapshot.places == {
            "orders": "my-project.my_dataset.orders",
            "sessions": "my-project.my_dataset.sessions",
        }
        other_words = JOIN.replace("LEFT JOIN", "left outer join").replace("sessions AS s", "my_dataset.sessions S")
        again = await refusal(gateway.fetches.fetch(ME, by_sql(other_words), name="other"))
        estimate = await gateway.scans.estimate(ME, by_sql(other_words))
        refreshed = await gateway.fetches.refresh(ME, "joined")
        with_where = await refusal(gateway.fetches.refresh(ME, "joined", "n > 1"))
    assert again.kind == "snapshot_exists"
    assert again.details["snapshot"] == "joined"
    assert estimate.covered_by == "joined"
    assert refreshed.identical
    assert refreshed.rows_new == 2
    assert with_where.kind == "invalid_argument"


async def test_a_snapshot_of_a_text_covers_no_table(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        await gateway.fetches.fetch(ME, by_sql("SELECT id, day FROM orders"), name="kept")
        fetched = await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name="whole")
    assert fetched.snapshot is not None


async def test_a_limit_keeps_as_many_rows(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        fetched = await gateway.fetches.fetch(ME, by_sql("SELECT id FROM orders ORDER BY id", limit=4), name="four")
        rows = await gateway.queries.query(ME, "SELECT id FROM four ORDER BY id")
    assert fetched.snapshot is not None
    assert (fetched.snapshot.rows, fetched.snapshot.complete) == (4, False)
    assert rows.rows == [[0], [1], [2], [3]]


async def test_a_fetch_without_a_name_is_told_one(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        error = await refusal(gateway.fetches.fetch(ME, by_sql(JOIN)))
        free = await gateway.fetches.fetch(ME, by_sql(JOIN), estimate_only=True)
    assert error.kind == "invalid_argument"
    assert error.details["name"] in error.hint
    assert free.estimate is not None
    assert bq.query_jobs() == []


@pytest.mark.parametrize(
    "request_",
    [
        ScanRequest(),
        ScanRequest(table_id="orders", googlesql="SELECT 1"),
        ScanRequest(googlesql="SELECT 1", where="TRUE"),
        ScanRequest(googlesql="SELECT 1", aggregates=[Aggregate(function="count")]),
    ],
)
async def test_a_request_goes_one_way(open_gateway: OpenGateway, request_: ScanRequest) -> None:
    async with open_gateway() as gateway:
        error = await refusal(gateway.scans.scan(ME, request_))
    assert error.kind == "invalid_argument"
    assert "table_id" in f"{error.message} {error.hint}"
    assert "sql" in f"{error.message} {error.hint}"


async def test_a_statement_over_the_cap_makes_no_job(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(scan={"max_scan_bytes": 1 * MIB}) as gateway:
        error = await refusal(gateway.scans.scan(ME, by_sql("SELECT * FROM sessions")))
    assert error.kind == "over_scan_cap"
    assert bq.query_jobs() == []


async def test_advice_names_the_table_and_the_column(open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        estimate = await gateway.scans.estimate(ME, by_sql("SELECT s.country FROM sessions s, orders o"))
        narrowed = await gateway.scans.estimate(ME, by_sql(JOIN))
    said = " ".join(estimate.advice)
    assert "sessions (s)" in said
    assert "event_date" in said
    assert "every row with every row" in said
    assert not any("event_date" in advice for advice in narrowed.advice)


async def test_bigquerys_complaint_is_told_of_the_callers_text(open_gateway: OpenGateway) -> None:
    text = "SELECT country,\n  SUM(country) AS total\nFROM sessions GROUP BY country"
    async with open_gateway() as gateway:
        error = await refusal(gateway.scans.scan(ME, by_sql(text)))
    assert error.kind == "bq_bad_request"
    assert "\n" not in error.hint
