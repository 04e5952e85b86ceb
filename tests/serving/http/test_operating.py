"""Probes, metrics, logs, and leaving."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving.served import (
    ACCEPT,
    INITIALIZE,
    STOP_WITHIN_S,
    Served,
    bearer,
    body_of,
    connect,
    serve,
    token_of,
    user,
    write_instance,
)
from support.instances import bigquery_at, remote_table
from support.waiting import PATIENCE_S

from agnes_mcp.access.grants import digest_token
from agnes_mcp.serving.http.metrics import watch_loop
from agnes_mcp.stand_in import StandIn

ANA, SCRAPER = token_of("ana"), "scraper-token-of-the-metrics"
#: Rows that are read for as long as nobody stops it.
ENDLESS = "SELECT count(*) FROM range(1000000000000) AS a(i) WHERE hash(i) = 1"
JSON = {"Content-Type": "application/json", **ACCEPT}


@pytest.fixture(scope="module")
def bq() -> Iterator[StandIn]:
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table("my_dataset", "remote", schema="id INT64", rows=[{"id": i} for i in range(1000)])
        yield stand_in


@pytest.fixture
def config(bq: StandIn, tmp_path: Path, tables: list[dict[str, Any]]) -> Path:
    bigquery = bigquery_at(bq)
    remote = remote_table("remote")
    return write_instance(
        tmp_path / "instance.yaml",
        tables=[*tables, remote],
        data_source={"bigquery": bigquery},
        api={"scan": {"max_concurrent_per_user": 1}},
        access={"users": [user("ana", "*"), user("bob", [])]},
        server={"metrics_token_sha256": digest_token(SCRAPER), "max_sessions": 3},
    )


def figures(served: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = served.get("/metrics", SCRAPER).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(served: Served, name: str, **labels: str) -> float | None:
    return figures(served).get((name, frozenset(labels.items())))


async def test_metrics_count_what_was_called_and_billed(config: Path, bq: StandIn) -> None:
    with serve(config) as served:
        async with connect(served, "http", "auto", ANA) as client:
            await client.call_tool("catalog", {})
            await client.call_tool("catalog", {})
            await client.call_tool("schema", {"table_id": "nowhere"})
            await client.call_tool("made_up_by_the_caller", {})
            scanned = body_of(await client.call_tool("scan", {"table_id": "remote", "select": ["id"], "limit": 3}))
            assert scanned["bytes_billed"] > 0
            assert figure(served, "agnes_requests_total", tool="catalog", status="ok", principal="ana") == 2
            assert figure(served, "agnes_requests_total", tool="schema", status="rejected", principal="ana") == 1
            assert figure(served, "agnes_requests_total", tool="other", status="rejected", principal="ana") == 1
            assert figure(served, "agnes_bytes_billed_total", principal="ana") == scanned["bytes_billed"]
            assert figure(served, "agnes_request_seconds_count", tool="scan") == 1
            assert figure(served, "agnes_running_scans", principal="ana") == 0
            assert (figure(served, "agnes_token_age_seconds") or 0) >= 0
            await _see_waits_lookups_and_processes(served, client)
            await _see_a_scan_running(served, client, bq)
        assert "made_up_by_the_caller" not in served.get("/metrics", SCRAPER).text


async def _see_waits_lookups_and_processes(served: Served, client: Any) -> None:
    """Who asks twice finds what was kept; calls stand in line for threads and processes."""
    hits = figure(served, "agnes_cache_lookups_total", cache="schemas", result="hit") or 0
    assert (figure(served, "agnes_cache_lookups_total", cache="schemas", result="miss") or 0) >= 1
    await client.call_tool("schema", {"table_id": "remote"})
    assert (figure(served, "agnes_cache_lookups_total", cache="schemas", result="hit") or 0) > hits
    assert figure(served, "agnes_processes_replaced_total") == 0
    assert not (await client.call_tool("query", {"sql": "SELECT 1"})).is_error
    assert (figure(served, "agnes_processes_started_total") or 0) >= 1
    assert figure(served, "agnes_wait_seconds_count", queue="process") == 1
    assert (figure(served, "agnes_wait_seconds_count", queue="thread") or 0) >= 2
    assert {figure(served, "agnes_waiting_calls", queue=queue) for queue in ("thread", "process", "slot")} == {0}
    assert (figure(served, "agnes_event_loop_lag_seconds_count") or 0) > 0
    await _see_a_process_replaced(served, client)


async def _see_a_process_replaced(served: Served, client: Any) -> None:
    """A query that its caller takes back takes its process along."""
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "query", {"sql": ENDLESS})
            while figure(served, "agnes_busy_processes") != 1:
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()
        while figure(served, "agnes_processes_replaced_total") != 1:
            await anyio.sleep(0.02)


async def _see_a_scan_running(served: Served, client: Any, bq: StandIn) -> None:
    """One scan has the only slot, and another one stands in line for it."""
    asked = {"table_id": "remote", "select": ["id"], "limit": 5}
    waited = figure(served, "agnes_wait_seconds_count", queue="slot") or 0
    bq.job_latency_s = 3600
    try:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "scan", asked)
                while figure(served, "agnes_running_scans", principal="ana") != 1:
                    await anyio.sleep(0.02)
                group.start_soon(client.call_tool, "scan", asked)
                while figure(served, "agnes_waiting_calls", queue="slot") != 1:
                    await anyio.sleep(0.02)
                group.cancel_scope.cancel()
            while figure(served, "agnes_running_scans", principal="ana") != 0:
                await anyio.sleep(0.02)
            while figure(served, "agnes_waiting_calls", queue="slot") != 0:
                await anyio.sleep(0.02)
            while figure(served, "agnes_wait_seconds_count", queue="slot") != waited + 1:
                await anyio.sleep(0.02)
    finally:
        bq.job_latency_s = 0


async def test_work_on_the_loop_shows_as_its_lag() -> None:
    """Whoever keeps the loop makes it late by as much; one that is free is told about as well."""
    lags: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(watch_loop, lags.append)
        while not lags:
            await anyio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251 - this is what is to be seen
        seen = len(lags)
        while len(lags) < seen + 2:
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert min(lags) >= 0
    assert max(lags) >= 0.2


def test_metrics_are_for_their_own_token(config: Path) -> None:
    with serve(config) as served:
        assert served.get("/metrics", SCRAPER).headers["content-type"].startswith("text/plain")
        assert served.get("/metrics").status_code == 401
        assert served.get("/metrics", ANA).status_code == 401
        assert served.get("/metrics?token=" + SCRAPER).status_code == 401
        assert not starts(served, SCRAPER), "and their token is for nothing else"
        _sessions_are_limited(served)


def starts(served: Served, token: str) -> bool:
    return served.request("POST", "/mcp", token, headers=JSON, json=INITIALIZE).status_code == 200


def _sessions_are_limited(served: Served) -> None:
    """Three of each transport; one that ends makes room."""
    assert [starts(served, ANA) for _ in range(4)] == [True, True, True, False]
    with httpx2.Client(headers=bearer(ANA), timeout=60) as client:
        streams = [client.stream("GET", f"{served.url}/sse") for _ in range(3)]
        for stream in streams:
            assert stream.__enter__().status_code == 200
        refused = client.get(f"{served.url}/sse")
        assert refused.status_code == 503
        assert refused.json()["hint"]
        streams[0].__exit__(None, None, None)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with client.stream("GET", f"{served.url}/sse") as again:
                if again.status_code == 200:
                    break
            assert time.monotonic() < deadline
        for stream in streams[1:]:
            stream.__exit__(None, None, None)


async def test_no_token_is_written_down(config: Path) -> None:
    """Not in logs at their most talkative, not in the audit, not in metrics, not in an answer."""
    wrong = "agnes_wrong_token_that_somebody_tried"
    with serve(config, "--log-level", "debug") as served:
        for transport in ("http", "sse"):
            for era in ("auto", "legacy"):
                async with connect(served, transport, era, ANA) as client:
                    answers = [str(await client.call_tool("usage", {}))]
                    answers.append(str(await client.call_tool("scan", {"table_id": "nowhere", "where": "x ="})))
        answers.append(served.request("POST", "/mcp", wrong, headers=JSON, json=INITIALIZE).text)
        answers.append(served.get(f"/mcp?token={wrong}").text)
        answers.append(served.get("/metrics", SCRAPER).text)
    audit = "".join(path.read_text() for path in (config.parent / "data").rglob("*.jsonl"))
    assert '"usage"' in audit
    written = "".join([*served.log, *answers, audit])
    for secret in (ANA, wrong, SCRAPER, digest_token(ANA)):
        assert secret not in written


async def test_it_leaves_in_time_whatever_is_open(config: Path, bq: StandIn) -> None:
    """A scan that would take an hour, three kinds of open streams: stopped, settled, gone; the audit knows."""
    bq.job_latency_s = 3600
    with serve(config) as served:
        try:
            await _leave_with_everything_open(served)
        finally:
            bq.job_latency_s = 0
        assert served.process.returncode == 0
    audit = (config.parent / "data" / "audit" / "audit.jsonl").read_text()
    scan = next(line for line in audit.splitlines() if '"tool":"scan"' in line)
    assert '"status":"cancelled"' in scan
    assert "Traceback" not in "".join(served.log)


async def _leave_with_everything_open(served: Served) -> None:
    with httpx2.Client(headers=bearer(ANA), timeout=60) as raw, raw.stream("GET", f"{served.url}/sse") as sse:
        assert sse.status_code == 200
        with anyio.fail_after(60):
            async with connect(served, "http", "auto", ANA) as client, anyio.create_task_group() as group:
                group.start_soon(_listen, client)
                group.start_soon(_scan_until_the_end, client)
                while figure(served, "agnes_running_scans", principal="ana") != 1:
                    await anyio.sleep(0.02)
                served.process.send_signal(signal.SIGTERM)
                await anyio.to_thread.run_sync(served.process.wait, STOP_WITHIN_S)
                group.cancel_scope.cancel()


async def _listen(client: Any) -> None:
    with suppress(Exception):  # however the server's leaving looks from here
        async with client.listen(resources_list_changed=True) as events:
            async for _ in events:
                pass


async def _scan_until_the_end(client: Any) -> None:
    with suppress(Exception):
        await client.call_tool("scan", {"table_id": "remote", "select": ["id"], "limit": 7})


#: A server in which one table's file is on a disk that has gone: to open it never returns, and nothing interrupts it.
BLOCKING = """
import os
from agnes_mcp.cli import main
from agnes_mcp.sources.local.source import LocalSource
known = LocalSource.schema
def schema(self, table, call):
    if table.id == "blocking":
        os.open(os.environ["PIPE_WITHOUT_WRITER"], os.O_RDONLY)
    return known(self, table, call)
LocalSource.schema = schema
main()
"""


@contextmanager
def serve_what_blocks(folder: Path, tables: list[dict[str, Any]], timeout_s: float) -> Iterator[Served]:
    """An instance with a table `blocking`. A pipe's open stands in for that of a lost disk, which cannot be had here;
    of a table it would be refused."""
    os.mkfifo(folder / "pipe")
    blocking = {**tables[0], "id": "blocking"}
    scan = {"request_timeout_seconds": timeout_s}
    config = write_instance(folder / "instance.yaml", tables=[*tables, blocking], api={"scan": scan})
    with serve(config, program=(sys.executable, "-c", BLOCKING), PIPE_WITHOUT_WRITER=str(folder / "pipe")) as served:
        yield served


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
async def test_a_thread_that_never_comes_back_is_told_and_harms_nobody(
    tmp_path: Path, tables: list[dict[str, Any]]
) -> None:
    with serve_what_blocks(tmp_path, tables, timeout_s=5) as served:
        async with connect(served, "http", "auto") as client:
            answer = await client.call_tool("scan", {"table_id": "blocking"})
            assert body_of(answer)["error"] == "timeout"
            assert not (await client.call_tool("sample", {"table_id": "orders"})).is_error
        assert served.get("/readyz").json() == {"status": "degraded", "degraded": ["threads"]}
        assert (figure(served, "agnes_stuck_threads") or 0) >= 1
        served.process.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(served.process.wait, STOP_WITHIN_S) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
async def test_it_leaves_in_time_while_a_thread_is_blocked(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    """SIGTERM while the call still waits: it is audited, and the process goes."""
    with serve_what_blocks(tmp_path, tables, timeout_s=600) as served:
        with anyio.fail_after(60):
            async with connect(served, "http", "auto") as client, anyio.create_task_group() as group:
                group.start_soon(_sample_what_blocks, client)
                while not figure(served, "agnes_busy_threads"):
                    await anyio.sleep(0.02)
                served.process.send_signal(signal.SIGTERM)
                assert await anyio.to_thread.run_sync(served.process.wait, STOP_WITHIN_S) == 0
                group.cancel_scope.cancel()
    audit = (tmp_path / "data" / "audit" / "audit.jsonl").read_text()
    sample = next(line for line in audit.splitlines() if '"tool":"sample"' in line)
    assert '"status":"cancelled"' in sample


async def _sample_what_blocks(client: Any) -> None:
    with suppress(Exception):
        await client.call_tool("sample", {"table_id": "blocking"})


def test_readiness_says_what_is_degraded(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    """BigQuery cannot be reached: local tables still are, and the server says so without naming a cause."""
    bigquery = {"project": "my-project", "api_endpoint": "http://127.0.0.1:1", "storage_endpoint": "grpc://127.0.0.1:1"}
    remote = remote_table("remote")
    path = write_instance(
        tmp_path / "instance.yaml", tables=[*tables, remote], data_source={"bigquery": bigquery},
        api={"scan": {"request_timeout_seconds": 5}},
    )  # fmt: skip
    with serve(path) as served:
        assert served.get("/readyz").json() == {"status": "ok", "degraded": []}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}

        async def use() -> None:
            async with connect(served, "http", "auto") as client:
                assert (await client.call_tool("sample", {"table_id": "remote"})).is_error
                assert not (await client.call_tool("sample", {"table_id": "orders"})).is_error

        anyio.run(use)
        assert served.get("/readyz").json() == {"status": "degraded", "degraded": ["bigquery"]}, call
        assert served.get("/healthz").json() == {"status": "ok"}


def test_the_log_is_lines_of_json(config: Path) -> None:
    import json

    with serve(config, "--log-level", "info") as served:
        served.get("/healthz")
        threading.Event().wait(0)
        lines = [line for line in served.log if not line.startswith("agnes-mcp: ")]
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))
    assert not re.search(r"\x1b", "".join(served.log))
