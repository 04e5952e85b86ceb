"""Prices that BigQuery does not know, bills that add up, and what a person is told, through the gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
from support.instances import ME
from support.waiting import until

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, Consent, ScanRequest
from agnes_mcp.stand_in import Fault, StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
ROWS = ScanRequest(table_id="orders", select=["id"], where="id >= 0")


def other_rows(n: int) -> ScanRequest:
    """Another statement for each number: rows that BigQuery's cache has cost nothing."""
    return ScanRequest(table_id="orders", select=["id"], where=f"id >= -{n + 1}")


async def refusal(call: Any) -> AgnesError:
    with pytest.raises(AgnesError) as refused:
        await call
    return refused.value


def hide(bq: StandIn, how: Literal["lower", "absent", "zero"]) -> None:
    orders = bq.catalog.table("my-project", "my_dataset", "orders")
    if how == "lower":
        orders.accuracy = "LOWER_BOUND"
    else:
        orders.statistics = how


@pytest.mark.parametrize("how", ["lower", "absent"])
async def test_an_unknown_price_is_said_and_never_runs(
    bq: StandIn, open_gateway: OpenGateway, how: Literal["lower", "absent"]
) -> None:
    hide(bq, how)
    async with open_gateway() as gateway:
        estimate = await gateway.scans.estimate(ME, ROWS)
        error = await refusal(gateway.scans.scan(ME, ROWS))
    assert estimate.verdict == "price_unknown"
    assert (estimate.estimated_scan_bytes, estimate.bq_cost_estimate_usd, estimate.reserve_bytes) == (None, None, None)
    assert ("at least 72 bytes" in " ".join(estimate.advice)) == (how == "lower")
    assert error.kind == "estimate_failed"
    assert bq.query_jobs() == []


async def test_no_bytes_of_a_whole_table_with_rows_is_no_price(bq: StandIn, open_gateway: OpenGateway) -> None:
    hide(bq, "zero")
    async with open_gateway() as gateway:
        estimate = await gateway.scans.estimate(ME, ScanRequest(table_id="orders", select=["id"]))
    assert (estimate.verdict, estimate.path) == ("price_unknown", "query_job")


@pytest.mark.parametrize("how", ["lower", "absent"])
async def test_an_unpriced_statement_runs_under_the_cap(
    bq: StandIn, open_gateway: OpenGateway, how: Literal["lower", "absent"]
) -> None:
    hide(bq, how)
    async with open_gateway(scan={"unknown_price_cap_bytes": 20 * MIB}) as gateway:
        estimate = await gateway.scans.estimate(ME, ROWS)
        answer = await gateway.scans.scan(ME, ROWS)
        used = (await gateway.usage.today(ME)).quota.daily_bytes_used
    assert (estimate.verdict, estimate.reserve_bytes) == ("price_unknown", 20 * MIB)
    assert [job.maximum_bytes_billed for job in bq.query_jobs()] == [20 * MIB]
    assert answer.row_count == 9
    assert used == (10 * MIB if how == "lower" else 20 * MIB)  # the bill; where it is hidden, the reservation


async def test_the_cap_is_what_is_approved(bq: StandIn, open_gateway: OpenGateway) -> None:
    hide(bq, "absent")
    async with open_gateway(scan={"unknown_price_cap_bytes": 20 * MIB, "confirm_above_bytes": 15 * MIB}) as gateway:
        quote = await gateway.scans.price_scan(ME, ROWS)
        error = await refusal(gateway.scans.scan(ME, ROWS, consent=Consent()))
        assert quote is not None
        answer = await gateway.scans.scan(ME, ROWS, consent=quote.consent())
    assert "no known price and may scan up to 20,971,520 bytes" in quote.question
    assert error.kind == "approval_outdated"
    assert answer.row_count == 9


async def test_a_cap_that_was_reached_has_a_true_next_step(bq: StandIn, open_gateway: OpenGateway) -> None:
    """BigQuery bills 10 MiB at least; a cap below it stops the job, and no new estimate will change that."""
    hide(bq, "absent")
    async with open_gateway(scan={"unknown_price_cap_bytes": MIB}) as gateway:
        error = await refusal(gateway.scans.scan(ME, ROWS))
    assert error.kind == "bytes_billed_cap_reached"
    assert "api.scan.unknown_price_cap_bytes" in error.hint
    assert "estimate" not in error.hint


@pytest.mark.parametrize("grows", [True, False])
async def test_a_cap_that_was_reached_at_a_known_price(
    bq: StandIn, open_gateway: OpenGateway, released: threading.Event, grows: bool
) -> None:
    """Sent back to `estimate` is only who will hear something else there."""
    bq.faults.add(Fault("job", reason="bytesBilledLimitExceeded"))
    async with open_gateway() as gateway:
        running = asyncio.ensure_future(refusal(gateway.scans.scan(ME, ROWS)))
        await until(bq.query_jobs)
        if grows:
            rows = [{"id": n, "day": "2026-01-01"} for n in range(99)]
            bq.create_table("my_dataset", "orders", schema="id INT64, day DATE", rows=rows)
        released.set()
        error = await running
        used = (await gateway.usage.today(ME)).quota.daily_bytes_used
    assert (error.kind, error.details["bytes_billed"], used) == ("bytes_billed_cap_reached", 0, 0)
    assert ("Call `estimate` again" in error.hint) == grows
    assert ("still says 72 bytes" in error.hint) != grows


@pytest.mark.parametrize("reason", ["backendError", "jobRateLimitExceeded"])
async def test_a_job_that_bigquery_failed_is_repeated_and_billed_once(
    bq: StandIn, open_gateway: OpenGateway, reason: str
) -> None:
    bq.faults.add(Fault("job", reason=reason, times=2))
    async with open_gateway() as gateway:
        answer = await gateway.scans.scan(ME, ROWS)
        used = (await gateway.usage.today(ME)).quota
    jobs = [job.body["jobReference"]["jobId"] for job in bq.query_jobs()]
    assert (len(jobs), answer.job_id, answer.row_count) == (3, jobs[-1], 9)
    assert (answer.bytes_billed, used.daily_bytes_used, used.daily_bytes_reserved) == (10 * MIB, 10 * MIB, 0)


async def test_figures_of_an_estimate(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        direct = await gateway.scans.estimate(ME, ScanRequest(table_id="sessions", select=["padding"]))
        small = await gateway.scans.estimate(ME, ROWS)
        count = ScanRequest(table_id="orders", aggregates=[Aggregate(function="count")])
        free = await gateway.scans.estimate(ME, count)
    assert (direct.path, direct.estimated_result_rows) == ("direct_read", 300_000)
    assert direct.bq_cost_estimate_usd == round((direct.estimated_scan_bytes or 0) / 2**40 * 1.1, 4)
    assert small.bq_cost_estimate_usd == 0.0001  # 72 bytes, billed as 10 MiB
    assert (free.estimated_scan_bytes, free.bq_cost_estimate_usd) == (0, 0.0)


async def test_small_bills_add_up_to_a_question(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(scan={"confirm_above_bytes": 25 * MIB}) as gateway:
        for n in range(2):
            assert await gateway.scans.price_scan(ME, other_rows(n)) is None
            await gateway.scans.scan(ME, other_rows(n), consent=Consent())
        estimate = await gateway.scans.estimate(ME, ROWS)
        quote = await gateway.scans.price_scan(ME, ROWS)
        assert quote is not None
        unasked = await refusal(gateway.scans.scan(ME, ROWS, consent=Consent()))
        await gateway.scans.scan(ME, ROWS, consent=quote.consent())
        after = await gateway.scans.price_scan(ME, ROWS)
    assert estimate.verdict == "needs_approval"
    assert "20,971,520 bytes were spent lately without asking: with this 31,457,280 bytes in sum" in quote.question
    assert unasked.kind == "approval_outdated"
    assert after is None


async def test_calls_that_race_cannot_pass_the_sum_unasked(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(scan={"confirm_above_bytes": 25 * MIB}) as gateway:
        calls = [gateway.scans.scan(ME, other_rows(n), consent=Consent()) for n in range(4)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    kinds = sorted(a.kind if isinstance(a, AgnesError) else "rows" for a in answers if not isinstance(a, KeyError))
    assert kinds == ["approval_outdated", "approval_outdated", "rows", "rows"]
    assert len(bq.query_jobs()) == 2


async def test_without_a_window_or_anybody_to_ask_each_statement_is_alone(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    async with open_gateway(scan={"confirm_above_bytes": 15 * MIB, "confirm_window_seconds": 0}) as gateway:
        for n in range(3):
            await gateway.scans.scan(ME, other_rows(n), consent=Consent())
    async with open_gateway(scan={"confirm_above_bytes": 15 * MIB}) as gateway:
        for n in range(3, 6):
            await gateway.scans.scan(ME, other_rows(n))
    assert len(bq.query_jobs()) == 6


async def test_sample_and_profile_of_a_view_are_one_sum(bq: StandIn, open_gateway: OpenGateway) -> None:
    scan = {"confirm_above_bytes": 15 * MIB, "confirm_window_seconds": 0}
    async with open_gateway(scan=scan) as gateway:
        quote = await gateway.descriptions.price_describe(ME, "sessions_v", 5, profile=True)
    assert quote is not None
    assert len(quote.statements) == 2


async def test_a_scan_s_snapshot_of_the_first_rows_is_said_to_be_that(bq: StandIn, open_gateway: OpenGateway) -> None:
    request = ScanRequest(table_id="sessions", select=["session_id", "amount"], limit=5000)
    async with open_gateway(api={"max_result_chars": 5000}) as gateway:
        answer = await gateway.scans.scan(ME, request)
        queried = await gateway.queries.query(ME, f"SELECT COUNT(*) AS n FROM {answer.snapshot}")
    assert "The first 5,000 rows, not all, are in the snapshot" in (answer.note or "")
    assert queried.rows == [[5000]]
    assert queried.warnings == [
        f"{answer.snapshot} holds the first 5,000 rows, not all that matched: "
        "counts and sums over it are of these alone."
    ]


async def test_a_scan_s_snapshot_that_was_cut_is_not_called_whole(bq: StandIn, open_gateway: OpenGateway) -> None:
    request = ScanRequest(table_id="sessions", select=["session_id"], where="amount >= 0")
    async with open_gateway(scan={"max_result_bytes": 200_000}, api={"max_result_chars": 5000}) as gateway:
        answer = await gateway.scans.scan(ME, request)
        listed = await gateway.snapshots.entries(ME)
        covered = (await gateway.scans.estimate(ME, request)).covered_by
    assert answer.truncated_by == "result_bytes"
    assert [entry.complete for entry in listed.snapshots] == [False]
    assert "not all, are in the snapshot" in (answer.note or "")
    assert covered is None
