"""Budgets as callers meet them: their own, their group's, the project's; and bills that are not known."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.counts import count, tell
from support.instances import ME
from support.waiting import until

from agnes_mcp.calls.audit import Audit, AuditLine
from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.spending.stores.sqlite import FILE
from agnes_mcp.stand_in import Fault, StandIn

MIB = 2**20
ANA, BEN, CYD = Principal("ana"), Principal("ben"), Principal("cyd")
OpenGateway = Callable[..., Gateway]


def request(number: int) -> ScanRequest:
    """One that BigQuery bills 10 MiB for, its minimum, and has not answered before."""
    return ScanRequest(table_id="orders", where=f"id > -{number}")


def audit_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data" / "audit" / "audit.jsonl").read_text().splitlines()]


@pytest.fixture
def shared(open_gateway: OpenGateway) -> Gateway:
    """Three users; two of them in a group."""
    users = [
        {"name": name, "tables": "*", "groups": ["shop"] if name != "cyd" else []} for name in ("ana", "ben", "cyd")
    ]
    groups = [{"name": "shop", "max_daily_bytes": 25 * MIB}]
    quota = {"max_daily_bytes_per_project": 35 * MIB}
    return open_gateway(access={"users": users, "groups": groups}, quota=quota)


async def test_a_group_and_a_project_are_spent_together(shared: Gateway, bq: StandIn) -> None:
    async with shared as gateway:
        await gateway.scans.scan(ANA, request(1))
        answer = await gateway.scans.scan(BEN, request(2))
        assert answer.quota
        assert [(one.kind, one.name, one.bytes_left) for one in answer.quota.shared] == [
            ("group", "shop", 5 * MIB),
            ("project", "my-project", 15 * MIB),
        ]
        assert answer.quota.daily_bytes_left == 5 * MIB
        assert (await gateway.scans.estimate(ANA, request(3))).verdict == "over_daily_quota"
        with pytest.raises(QuotaError) as caught:
            await gateway.scans.scan(ANA, request(3))
        assert (caught.value.details["kind"], caught.value.details["current"]) == ("group_daily_bytes", 20 * MIB)
        await gateway.scans.scan(CYD, request(4))
        with pytest.raises(QuotaError) as caught:
            await gateway.scans.scan(CYD, request(5))
        assert caught.value.details["kind"] == "project_daily_bytes"
    assert len(bq.query_jobs()) == 3


async def test_most_of_a_budget_taken_is_said_in_answers_and_once_in_the_log(
    open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway(scan={"max_daily_bytes_per_user": 30 * MIB}, quota={"warn_at_percent": 60}) as gateway:
        with caplog.at_level(logging.WARNING):
            first, second, third = [await gateway.scans.scan(ME, request(number)) for number in range(3)]
    assert first.quota
    assert second.quota
    assert third.quota
    assert first.quota.warning is None
    assert second.quota.warning == ("66% of your bytes for today are taken: 10,485,760 of 31,457,280 are left.")
    assert (third.quota.warning or "").startswith("100%")
    assert [one for one in caplog.messages if "the budget of me" in one] == [
        f"the budget of me: {second.quota.warning}"
    ]


async def test_a_bill_that_is_not_known_is_the_reservation_until_it_is(
    open_gateway: OpenGateway, bq: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.jobs.SETTLE_TIMEOUT_S", 0.3)
    monkeypatch.setattr("agnes_mcp.spending.recovery.RETRY_AFTER_S", 0.0)
    bq.bills_cancelled = True
    bq.faults.add(Fault("job", stuck=True), Fault("jobs.get", status=403, times=None))
    bq.faults.add(Fault("jobs.cancel", status=403, times=None))
    async with open_gateway(scan={"request_timeout_seconds": 3}) as gateway:
        await gateway.scans.estimate(ME, request(1))  # what is loaded once takes none of the scan's time
        with pytest.raises(AgnesError):
            await gateway.scans.scan(ME, request(1))
        left = (await gateway.usage.today(ME)).quota
        assert (left.daily_bytes_used, left.daily_bytes_assumed, left.running_scans) == (10 * MIB, 10 * MIB, 0)
        [line] = [line for line in audit_lines(tmp_path) if line["tool"] == "scan"]
        assert (line["bytes_billed"], line["reserved_bytes"]) == (None, 10 * MIB)
        assert line["job_id"]
        bq.faults.clear()
        left = (await gateway.usage.today(ME)).quota
        assert (left.daily_bytes_used, left.daily_bytes_assumed) == (10 * MIB, 0)
    [learnt] = [line for line in audit_lines(tmp_path) if line["tool"] == "recovery"]
    assert (learnt["request_id"], learnt["bytes_billed"]) == (line["request_id"], 10 * MIB)


async def test_a_bill_that_bigquery_withholds_is_the_reservation_and_said_so(
    open_gateway: OpenGateway, bq: StandIn, tmp_path: Path, released: threading.Event
) -> None:
    """It was priced; by the time it had run, a policy hid what it read."""
    table = bq.create_table("my_dataset", "hidden", schema="id INT64", rows=[{"id": 1}])

    async def hide(jobs: int) -> None:
        await until(lambda: len(bq.query_jobs()) == jobs)
        table.statistics = "absent"
        released.set()

    hidden = ScanRequest(table_id="hidden", where="id > 0")
    async with open_gateway(tables=("hidden",)) as gateway:
        async with anyio.create_task_group() as group:
            group.start_soon(hide, 1)
            scanned = await gateway.scans.scan(ME, hidden)
        table.statistics = "shown"
        released.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(hide, 2)
            fetched = await gateway.fetches.fetch(ME, hidden, name="kept")
        assert (scanned.bytes_billed, fetched.bytes_billed) == (10 * MIB, 10 * MIB)
        assert "does not say what this was billed" in (scanned.note or "")
        assert "does not say what this was billed" in fetched.warnings[-1]
        left = (await gateway.usage.today(ME)).quota
        assert (left.daily_bytes_used, left.daily_bytes_assumed) == (20 * MIB, 20 * MIB)
    told = [line for line in audit_lines(tmp_path) if line["tool"] in ("scan", "fetch")]
    assert [(line["bytes_billed"], line["reserved_bytes"]) for line in told] == [(None, 10 * MIB)] * 2


async def test_books_that_cannot_be_asked_allow_nothing_that_bills(
    open_gateway: OpenGateway, bq: StandIn, tmp_path: Path
) -> None:
    (tmp_path / "data" / "books").mkdir(parents=True)
    (tmp_path / "data" / "books" / FILE).write_bytes(b"what is this" * 1000)
    async with open_gateway() as gateway:
        assert (await gateway.catalog.browse(ME)).total == 4
        for ask in (lambda: gateway.scans.scan(ME, request(1)), lambda: gateway.usage.today(ME)):
            with pytest.raises(AgnesError) as caught:
                await ask()
            assert (caught.value.kind, caught.value.exit_code) == ("quota_unavailable", 9)
    assert bq.query_jobs() == []


async def test_what_is_paid_for_is_answered_though_the_books_are_gone(
    open_gateway: OpenGateway, bq: StandIn, tmp_path: Path, released: threading.Event
) -> None:
    async with open_gateway() as gateway, anyio.create_task_group() as group:

        async def remove() -> None:
            await until(bq.query_jobs)
            (tmp_path / "data" / "books" / FILE).unlink()
            released.set()

        group.start_soon(remove)
        answer = await gateway.scans.scan(ME, request(1))
        assert (answer.row_count, answer.bytes_billed, answer.quota) == (9, 10 * MIB, None)


async def test_a_directory_of_before_there_were_books_is_read_from_its_audit_once(
    open_gateway: OpenGateway, tmp_path: Path
) -> None:
    audit = Audit(tmp_path / "data" / "audit")
    audit.write(AuditLine(request_id="1", tool="scan", principal="me", bytes_billed=30))
    audit.write(AuditLine(request_id="2", tool="scan", principal="ana", bytes_billed=12))
    limits = {"max_daily_bytes_per_project": 100}
    for _ in range(2):  # the second one finds books
        async with open_gateway(quota=limits) as gateway:
            quota = (await gateway.usage.today(ME)).quota
            assert (quota.daily_bytes_used, quota.shared[0].bytes_left) == (30, 58)
    async with open_gateway(quota={"store": "process"}) as gateway:
        assert (await gateway.usage.today(ME)).quota_store == "process"
        assert (await gateway.usage.today(ME)).quota.daily_bytes_used == 30


SHELL = """
import asyncio, json, sys
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import QuotaError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest

async def main(settings, number, scans):
    counts = {"granted": 0, "refused": 0}
    async with Gateway(Settings.model_validate(settings)) as gateway:
        for each in range(scans):
            try:
                request = ScanRequest(table_id="orders", where=f"id > -{number * 100 + each}")
                await gateway.scans.scan(Principal("me", local=True), request)
                counts["granted"] += 1
            except QuotaError:
                counts["refused"] += 1
    print(json.dumps(counts))
asyncio.run(main(json.loads(sys.argv[1]), *map(int, sys.argv[2:])))
"""


def start_shell(described: str, *numbers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SHELL, described, *map(str, numbers)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.soak
async def test_shells_race_a_server_and_no_byte_is_over(open_gateway: OpenGateway, bq: StandIn) -> None:
    """24 scans of 10 MiB each from several processes, and the server's own, for a budget of 15 of them."""
    shell_count = count(4, 8)
    gateway = open_gateway(scan={"max_daily_bytes_per_user": 155 * MIB, "max_concurrent_per_user": 20})
    described = json.dumps(json.loads(gateway.settings.model_dump_json(exclude_unset=True)))
    async with gateway:
        shells = [start_shell(described, number, 24 // shell_count) for number in range(1, shell_count + 1)]
        own = 0
        while any(shell.poll() is None for shell in shells):
            try:
                await gateway.scans.scan(ME, request(1000 + own))
                own += 1
            except QuotaError:
                await anyio.sleep(0.02)
        counts = [json.loads(shell.communicate()[0]) for shell in shells]
        quota = (await gateway.usage.today(ME)).quota
    granted = sum(count["granted"] for count in counts) + own
    assert sum(count["granted"] + count["refused"] for count in counts) == 24
    assert granted == len(bq.query_jobs()) == 15
    assert (quota.daily_bytes_used, quota.daily_bytes_reserved, quota.running_scans) == (150 * MIB, 0, 0)
    tell("scans of shells and a server for one budget", tried=24 + own, through=granted)
