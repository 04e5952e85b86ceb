"""Remote tables through the gateway: what is asked of BigQuery, what it bills, what the quota and the audit say.

BigQuery is the project's stand-in, reached by Google's own clients over the wire.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.instances import ME
from support.waiting import PATIENCE_S

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, ScanRequest, Table, TableSchema
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
APRIL = ScanRequest(table_id="sessions", select=["country", "amount"], where="event_date = '2026-01-05'", limit=10)


def audit_lines(gateway: Gateway) -> list[dict[str, Any]]:
    path = Path(gateway.settings.data_dir) / "audit" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


async def kind_of(call: Any) -> str:
    with pytest.raises(AgnesError) as refused:
        await call
    return refused.value.kind


async def test_what_runs_is_exactly_what_was_priced(bq: StandIn, open_gateway: OpenGateway) -> None:
    """The estimate is of the projected and filtered statement, and the same text is then run."""
    async with open_gateway() as gateway:
        estimate = await gateway.scans.estimate(ME, APRIL)
        answer = await gateway.scans.scan(ME, APRIL)
    dry, ran = {r.sql for r in bq.requests.named("jobs.insert") if r.dry_run}, [r.sql for r in bq.query_jobs()]
    assert dry == set(ran) == {estimate.sql}
    # one of 30 days, two of five columns: INT64 8, STRING 2 + 2
    assert estimate.estimated_scan_bytes == 10_000 * (8 + 4 + 8)
    assert answer.row_count == 10
    assert (answer.truncated, answer.more_rows) == (False, True)


async def test_the_bill_is_charged_to_the_quota_and_named_in_the_audit(bq: StandIn, open_gateway: OpenGateway) -> None:
    """What counts is what BigQuery billed, not what came back."""
    async with open_gateway() as gateway:
        answer = await gateway.scans.scan(ME, APRIL)
        usage = await gateway.usage.today(ME)
        lines = audit_lines(gateway)
    assert answer.bytes_billed == 10 * MIB
    assert usage.quota.daily_bytes_used == 10 * MIB
    assert usage.quota.daily_bytes_reserved == usage.quota.running_scans == 0
    line = next(line for line in lines if line["tool"] == "scan")
    assert line["bytes_billed"] == 10 * MIB
    assert line["job_id"] == answer.job_id
    assert line["estimated_scan_bytes"] == 200_000
    assert "2026-01-05" not in json.dumps(line)
    job = bq.query_jobs()[0]
    assert job.maximum_bytes_billed == 10 * MIB
    assert job.labels["tool"] == "scan"


async def test_a_scan_over_the_cap_makes_no_job(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Refused before execution, naming the bytes."""
    async with open_gateway(scan={"max_scan_bytes": 1 * MIB}) as gateway:
        estimate = await gateway.scans.estimate(ME, ScanRequest(table_id="sessions", limit=1))
        assert estimate.verdict == "over_scan_cap"
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ME, ScanRequest(table_id="sessions", limit=1))
    assert refused.value.kind == "over_scan_cap"
    assert refused.value.details["estimated_scan_bytes"] == estimate.estimated_scan_bytes
    assert bq.query_jobs() == []


@pytest.mark.parametrize("limit_bytes", [0, 10 * MIB - 1])
async def test_a_budget_that_is_too_small_makes_no_job(
    bq: StandIn, open_gateway: OpenGateway, limit_bytes: int
) -> None:
    """Refused before anything is billed; a limit of 0 is none."""
    async with open_gateway(scan={"max_daily_bytes_per_user": limit_bytes}) as gateway:
        assert (await gateway.scans.estimate(ME, APRIL)).verdict == "over_daily_quota"
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ME, APRIL)
        free = await gateway.scans.scan(ME, ScanRequest(table_id="local"))
    assert refused.value.kind == "quota_exceeded"
    assert refused.value.details["kind"] == "daily_bytes"
    assert refused.value.details["limit"] == limit_bytes
    assert 0 < refused.value.details["retry_after_seconds"] <= 86_400
    assert free.row_count == 10
    assert bq.query_jobs() == []


async def test_a_price_that_cannot_be_learned_stops_the_scan(bq: StandIn, open_gateway: OpenGateway) -> None:
    """A dry run that fails fails closed, as a kind of its own."""
    async with open_gateway() as gateway:
        await gateway.catalog.columns(ME, "sessions")
        bq.faults.add(Fault("jobs.insert", status=500, times=50))
        assert await kind_of(gateway.scans.scan(ME, APRIL)) in ("estimate_failed", "bq_upstream_error")
        bq.faults.clear()
        usage = await gateway.usage.today(ME)
    assert bq.query_jobs() == []
    assert usage.quota.running_scans == usage.quota.daily_bytes_used == 0


async def test_racing_scans_never_pass_the_cap(bq: StandIn, open_gateway: OpenGateway) -> None:
    """12 racing scans against 5 slots and a budget for 8; each is an answer or a coded refusal."""
    bq.job_latency_s = 0.2
    outcomes: list[str] = []
    async with open_gateway(scan={"max_daily_bytes_per_user": 80 * MIB}) as gateway:
        await gateway.scans.scan(ME, APRIL)

        async def one(day: int) -> None:
            where = f"event_date = '2026-01-{day:02}'"
            try:
                await gateway.scans.scan(ME, APRIL.model_copy(update={"where": where}))
                outcomes.append("ok")
            except AgnesError as error:
                outcomes.append(str(error.details.get("kind")))

        async with anyio.create_task_group() as group:
            for day in range(6, 18):
                group.start_soon(one, day)
        usage = await gateway.usage.today(ME)
    assert set(outcomes) <= {"ok", "concurrent_scans", "daily_bytes"}
    assert outcomes.count("ok") >= 5
    assert usage.quota.daily_bytes_used == 10 * MIB * (1 + outcomes.count("ok")) <= 80 * MIB
    assert usage.quota.running_scans == usage.quota.daily_bytes_reserved == 0


async def test_a_cancelled_scan_cancels_its_job_and_frees_its_slot(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Cancellation reaches BigQuery, and what was held is released."""
    bq.job_latency_s = 3_600
    async with open_gateway() as gateway:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(gateway.scans.scan, ME, APRIL)
                while not bq.query_jobs():
                    await anyio.sleep(0.02)
                group.cancel_scope.cancel()
        usage = await gateway.usage.today(ME)
        lines = audit_lines(gateway)
    assert bq.requests.named("jobs.cancel")
    assert usage.quota.running_scans == usage.quota.daily_bytes_reserved == 0
    assert [line["status"] for line in lines if line["tool"] == "scan"] == ["cancelled"]


async def test_a_scan_past_its_time_is_stopped_and_told_so(bq: StandIn, open_gateway: OpenGateway) -> None:
    """The error names the real limit; the job does not go on billing."""
    bq.job_latency_s = 3_600
    async with open_gateway(scan={"request_timeout_seconds": 3}) as gateway:
        await gateway.scans.estimate(ME, APRIL)  # what is loaded once takes none of the scan's time
        with anyio.fail_after(60), pytest.raises(AgnesError) as stopped:
            await gateway.scans.scan(ME, APRIL)
        usage = await gateway.usage.today(ME)
    assert stopped.value.kind == "timeout"
    assert stopped.value.details["timeout_seconds"] == 3
    assert bq.requests.named("jobs.cancel")
    assert usage.quota.running_scans == usage.quota.daily_bytes_reserved == 0


@pytest.mark.parametrize(
    ("fault", "kind", "billed"),
    [
        (Fault("job", status=400, reason="responseTooLarge"), "bq_response_too_large", 0),
        (Fault("ReadRows", grpc_code="DATA_LOSS", times=100), "bq_upstream_error", 10 * MIB),
    ],
)
async def test_quota_is_exact_after_a_fault(
    bq: StandIn, open_gateway: OpenGateway, fault: Fault, kind: str, billed: int
) -> None:
    """A job that failed bills nothing; one whose rows could not be read afterwards has billed."""
    async with open_gateway() as gateway:
        await gateway.scans.estimate(ME, APRIL)
        bq.faults.add(fault)
        assert await kind_of(gateway.scans.scan(ME, APRIL)) == kind
        usage = await gateway.usage.today(ME)
        lines = audit_lines(gateway)
    assert usage.quota.running_scans == usage.quota.daily_bytes_reserved == 0
    assert usage.quota.daily_bytes_used == billed
    assert [line["bytes_billed"] for line in lines if line["tool"] == "scan"] == [billed]


async def test_samples_of_tables_are_free_and_of_views_are_charged(bq: StandIn, open_gateway: OpenGateway) -> None:
    """A base table through tabledata.list; a view by a job, under the cap and the quota."""
    async with open_gateway() as gateway:
        table = await gateway.descriptions.sample(ME, "sessions", 3)
        assert bq.query_jobs() == []
        view = await gateway.descriptions.sample(ME, "sessions_v", 3)
        usage = await gateway.usage.today(ME)
    assert table.row_count == view.row_count == 3
    assert table.bytes_billed == 0
    assert view.bytes_billed == usage.quota.daily_bytes_used > 0
    assert len(bq.query_jobs()) == 1


async def test_a_profile_of_a_remote_table_is_one_priced_job(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        described = await gateway.descriptions.describe(ME, "orders", profile=True)
        usage = await gateway.usage.today(ME)
    assert described.profile is not None
    figures = {column.name: column for column in described.profile.columns}
    assert described.profile.rows == 9
    assert (figures["id"].min, figures["id"].max, figures["id"].nulls) == (0, 8, 0)
    assert figures["id"].approx_distinct == pytest.approx(9, abs=1)
    assert described.profile.bytes_billed == usage.quota.daily_bytes_used == 10 * MIB
    assert len(bq.query_jobs()) == 1


async def test_a_call_of_two_statements_is_audited_with_both_bills(bq: StandIn, open_gateway: OpenGateway) -> None:
    """A restart counts what the audit says: nothing of the day is given back."""
    async with open_gateway() as gateway:
        await gateway.descriptions.describe(ME, "sessions_v", profile=True)
        used = (await gateway.usage.today(ME)).quota.daily_bytes_used
        lines = audit_lines(gateway)
    assert len(bq.query_jobs()) == 2
    assert used == sum(line["bytes_billed"] or 0 for line in lines) >= 20 * MIB
    async with open_gateway() as gateway:
        assert (await gateway.usage.today(ME)).quota.daily_bytes_used == used


async def test_the_catalog_never_waits_for_bigquery(open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow BigQuery does not delay it; what was learned behind it shows later; a view has no rows."""
    schema, answers = BigQuerySource.schema, threading.Event()

    def slow(source: BigQuerySource, table: Table, call: Call) -> TableSchema:
        answers.wait(PATIENCE_S)
        return schema(source, table, call)

    monkeypatch.setattr(BigQuerySource, "schema", slow)
    async with open_gateway() as gateway:
        first = await gateway.catalog.browse(ME)
        assert [entry.rows for entry in first.tables if entry.source_type == "bigquery"] == [None] * 3
        assert next(entry.rows for entry in first.tables if entry.id == "local") == 10
        answers.set()
        with anyio.fail_after(60):
            while (later := {e.id: e for e in (await gateway.catalog.browse(ME)).tables})["sessions"].rows is None:
                await anyio.sleep(0.05)
            while later["sessions_v"].entity_type is None:
                await anyio.sleep(0.05)
                later = {e.id: e for e in (await gateway.catalog.browse(ME)).tables}
    assert later["sessions"].rows == 300_000
    assert later["sessions"].partition_by == "event_date"
    assert later["sessions"].where_examples[0] == "event_date >= DATE '2026-01-01'"
    assert (later["sessions_v"].rows, later["sessions_v"].entity_type) == (None, "VIEW")


async def test_a_dataset_is_listed_behind_the_catalog_and_before_a_schema(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    async with open_gateway(tables=(), bigquery={"datasets": ["my_dataset"]}) as gateway:
        first = await gateway.catalog.browse(ME)
        assert "listed" in (first.note or "")
        schema = await gateway.catalog.columns(ME, "sessions")  # waits for the listing, because it needs the answer
        later = await gateway.catalog.browse(ME)
    assert schema.columns[0].name == "session_id"
    assert {entry.id for entry in later.tables} == {"local", "orders", "sessions", "sessions_v"}


async def test_local_tables_work_while_bigquery_does_not(open_gateway: OpenGateway) -> None:
    async with open_gateway(bigquery={"api_endpoint": "http://127.0.0.1:9"}) as gateway:
        with anyio.fail_after(60):
            assert await kind_of(gateway.catalog.columns(ME, "sessions")) in ("bq_unreachable", "timeout")
            answer = await gateway.scans.scan(
                ME, ScanRequest(table_id="local", aggregates=[Aggregate(function="count")])
            )
            health = (await gateway.usage.today(ME)).bigquery
    assert answer.rows == [[10]]
    assert health["configured"] is True
    assert health["last_error"]


async def test_advice_names_the_partition_the_columns_and_the_snapshot(open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        bare = await gateway.scans.estimate(ME, ScanRequest(table_id="sessions"))
        await gateway.fetches.fetch(ME, APRIL.model_copy(update={"limit": None}), name="april")
        covered = await gateway.scans.estimate(ME, APRIL)
    advice = " ".join(bare.advice)
    assert "event_date" in advice
    assert "every column is billed" in advice
    assert "Neither where nor limit" in advice
    assert covered.covered_by == "april"
    assert "april" in covered.advice[0]
