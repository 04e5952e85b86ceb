"""Gateways that share nothing but a database: one budget, none where it cannot be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.instances import ME, ONE_PROCESS, bigquery_at, remote_table
from support.postgres import Postgres

from agnes_mcp.calls.audit import Audit, AuditLine
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import Fault, StandIn

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.slow]
MIB = 2**20


@pytest.fixture
def bq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table(
            "my_dataset", "orders", schema="id INT64, day DATE", rows=[{"id": i, "day": "2026-01-01"} for i in range(9)]
        )
        yield stand_in


@pytest.fixture
def replica(bq: StandIn, postgres: Postgres, schema: str, tmp_path: Path) -> Callable[..., Gateway]:
    """Makes one with a data directory of its own, on whatever machine it may be."""

    def make(name: str, **quota: Any) -> Gateway:
        bigquery = bigquery_at(bq)
        described = {
            "data_dir": str(tmp_path / name),
            "data_source": {"bigquery": bigquery},
            "quota": {"store": postgres.url(schema), **quota},
            "engine": ONE_PROCESS,
            "tables": [remote_table("orders")],
        }
        return Gateway(Settings.model_validate(described))

    return make


def request(number: int) -> ScanRequest:
    return ScanRequest(table_id="orders", where=f"id > -{number}")


async def test_replicas_spend_one_budget(replica: Callable[..., Gateway], bq: StandIn, tmp_path: Path) -> None:
    """And an audit of one of them is no book: what it says of today is in the database already."""
    Audit(tmp_path / "one" / "audit").write(
        AuditLine(request_id="1", tool="scan", principal="me", bytes_billed=500 * MIB)
    )
    outcomes: list[str] = []

    async def spend(gateway: Gateway, number: int) -> None:
        try:
            await gateway.scans.scan(ME, request(number))
            outcomes.append("granted")
        except QuotaError as error:
            outcomes.append(str(error.details["kind"]))

    limit = {"max_daily_bytes_per_project": 75 * MIB}
    async with replica("one", **limit) as one, replica("two", **limit) as two, anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(spend, (one, two)[number % 2], number)
    assert outcomes.count("granted") == len(bq.query_jobs()) <= 7
    async with replica("three", **limit) as three:
        answer = await three.usage.today(ME)
        assert answer.quota_store == "postgresql"
        assert answer.quota.daily_bytes_used == 10 * MIB * outcomes.count("granted")
        assert (answer.quota.running_scans, answer.quota.daily_bytes_reserved) == (0, 0)


async def cut_off(replica: Gateway) -> None:
    with pytest.raises(AgnesError, match="ancel"):
        await replica.scans.scan(ME, request(1))


async def test_what_a_replica_left_behind_is_asked_about_by_another(
    replica: Callable[..., Gateway], bq: StandIn
) -> None:
    """The first is cut off in the middle of a job; for the second it is gone after a silence."""
    bq.bills_cancelled = True
    bq.faults.add(Fault("job", stuck=True))
    async with replica("one") as one, replica("two") as two:
        two.books._expires_after_s = 0.0  # type: ignore[attr-defined]
        one.books._beat_every_s = 3600.0  # type: ignore[attr-defined]
        async with anyio.create_task_group() as group:
            group.start_soon(cut_off, one)
            while not bq.query_jobs():
                await anyio.sleep(0.01)
            quota = (await two.usage.today(ME)).quota
            assert (quota.daily_bytes_used, quota.daily_bytes_assumed, quota.running_scans) == (10 * MIB, 0, 0)
            assert bq.requests.named("jobs.cancel")
        assert (await two.usage.today(ME)).quota.daily_bytes_used == 10 * MIB


async def test_without_the_database_nothing_is_spent_and_the_rest_is_served(
    replica: Callable[..., Gateway], postgres: Postgres, bq: StandIn
) -> None:
    async with replica("one") as gateway:
        await gateway.scans.scan(ME, request(1))
        postgres.stop()
        try:
            assert (await gateway.catalog.browse(ME)).total == 1
            assert (await gateway.catalog.columns(ME, "orders")).columns_total == 2
            with pytest.raises(AgnesError) as caught:
                await gateway.scans.scan(ME, request(2))
            assert (caught.value.kind, caught.value.exit_code) == ("quota_unavailable", 9)
            assert "quota.store" in caught.value.hint
        finally:
            postgres.start()
        await gateway.scans.scan(ME, request(3))
        assert (await gateway.usage.today(ME)).quota.daily_bytes_used == 20 * MIB
    assert len(bq.query_jobs()) == 2


@pytest.mark.parametrize("comes_back", ["before the bill", "after the bill"])
async def test_a_database_that_restarts_in_the_middle_of_a_call_loses_nothing(
    replica: Callable[..., Gateway], postgres: Postgres, bq: StandIn, comes_back: str
) -> None:
    """The rows are paid for and arrive; what was billed is in the books as soon as they can be written again."""
    bq.job_latency_s = 3  # longer than a restart takes; one that takes longer shows less, and nothing wrong
    answers: list[int] = []

    async def scan(gateway: Gateway) -> None:
        answers.append((await gateway.scans.scan(ME, request(1))).bytes_billed)

    async with replica("one") as one, replica("two") as two:
        async with anyio.create_task_group() as group:
            group.start_soon(scan, one)
            while not bq.query_jobs():
                await anyio.sleep(0.01)
            postgres.stop()
            if comes_back == "before the bill":
                postgres.start()
        if comes_back == "after the bill":
            with pytest.raises(AgnesError, match="cannot be asked"):
                await two.scans.scan(ME, request(2))
            postgres.start()
        assert answers == [10 * MIB]
        for gateway in (one, two):
            quota = (await gateway.usage.today(ME)).quota
            assert (quota.daily_bytes_used, quota.daily_bytes_assumed) == (10 * MIB, 0)
            assert (quota.running_scans, quota.daily_bytes_reserved) == (0, 0)
    assert len(bq.query_jobs()) == 1
