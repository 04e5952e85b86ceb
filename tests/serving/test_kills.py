"""Servers that are killed or told to leave while BigQuery works for them: what it bills is in the books anyway."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from serving.served import bearer, environment, serve, token_of, user
from support.counts import count, tell
from support.instances import ONE_PROCESS, bigquery_at, remote_table
from support.waiting import wait_until

from agnes_mcp.stand_in import Fault, StandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX"),
]
COMMAND = str(Path(sys.executable).with_name("agnes-mcp"))
MIB = 2**20
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
#: What each scan here is billed: BigQuery's minimum.
BILLED = 10 * MIB
#: A host kills so long after it has asked a server to leave.
KILLED_AFTER_S = 0.35


@pytest.fixture
def bq() -> Iterator[StandIn]:
    """What is cancelled is billed in full, as BigQuery may."""
    with StandIn(project="my-project") as stand_in:
        stand_in.bills_cancelled = True
        stand_in.create_table(
            "my_dataset", "orders", schema="id INT64, day DATE", rows=[{"id": i, "day": "2026-01-01"} for i in range(9)]
        )
        yield stand_in


@pytest.fixture
def config(bq: StandIn, tmp_path: Path) -> Path:
    """A stuck scan stays until something ends it, however long fifty servers take on a busy machine."""
    return write_config(bq, tmp_path, api={"scan": {"request_timeout_seconds": 86_400}})


def write_config(bq: StandIn, folder: Path, **more: Any) -> Path:
    path = folder / "instance.yaml"
    described = {"data_dir": "state", "data_source": {"bigquery": bigquery_at(bq)}, "tables": [remote_table("orders")]}
    path.write_text(yaml.safe_dump({**described, "engine": ONE_PROCESS, **more}))
    return path


class Server:
    """A server on its pipes, spoken to as hosts do."""

    def __init__(self, config: Path) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--config", str(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=environment(),
        )  # fmt: skip
        self._number = 0
        self.ask("initialize", INITIALIZE)
        self.send({"method": "notifications/initialized"})

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def begin(self, method: str, params: dict[str, Any]) -> int:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        return self._number

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = self.begin(method, params)
        assert self.process.stdout
        while True:
            line = self.process.stdout.readline()
            assert line, "the server ended"
            message = json.loads(line)
            if message.get("id") == number and "method" not in message:
                return dict(message["result"])

    def scan(self, number: int) -> int:
        """Begin a scan that no other's cached result serves."""
        return self.begin(
            "tools/call", {"name": "scan", "arguments": {"table_id": "orders", "where": f"id > -{number}"}}
        )

    def quota(self) -> dict[str, Any]:
        answer = self.ask("tools/call", {"name": "usage", "arguments": {}})
        return dict(answer["structuredContent"]["quota"])

    def end(self, sent: signal.Signals = signal.SIGKILL, kill_after_s: float = 60) -> None:
        self.process.send_signal(sent)
        try:
            self.process.wait(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.communicate()


@contextmanager
def serving(config: Path) -> Iterator[Server]:
    server = Server(config)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()


def jobs(bq: StandIn) -> list[str]:
    """The ids of all query jobs that were sent."""
    return [str(job.body["jobReference"]["jobId"]) for job in bq.query_jobs()]


def billed(bq: StandIn, job_ids: list[str]) -> int:
    """What BigQuery has billed for them so far. A job that runs will be billed, too."""
    total = 0
    for job_id in job_ids:
        job = httpx2.get(f"{bq.api_endpoint}/bigquery/v2/projects/my-project/jobs/{job_id}").json()
        total += int(job["statistics"]["query"].get("totalBytesBilled", BILLED))
    return total


def shown(quota: dict[str, Any]) -> dict[str, Any]:
    """Without what moves on by itself between two looks: time, and how much of a bill is known for certain."""
    return {name: value for name, value in quota.items() if name not in ("seconds_to_reset", "daily_bytes_assumed")}


def audit_of(config: Path) -> list[dict[str, Any]]:
    path = config.parent / "state" / "audit" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_what_a_killed_server_was_billed_is_in_the_books_of_the_next(bq: StandIn, config: Path) -> None:
    """SIGKILL with up to three jobs under way, at any moment of theirs; the next server is the next that is killed."""
    chance, tries, under_way = random.Random(1), count(3, 50), 0
    for number in range(tries + 1):
        with serving(config) as server:
            quota = server.quota()
            assert quota["daily_bytes_used"] >= billed(bq, jobs(bq))
            assert (quota["running_scans"], quota["daily_bytes_reserved"]) == (0, 0)
            if number == tries:
                server.end(signal.SIGTERM)
                break
            before, wanted = len(jobs(bq)), chance.randint(1, 3)
            bq.faults.add(Fault("job", stuck=True, times=3))
            for scan in range(3):
                server.scan(1 + number * 3 + scan)
            wait_until(lambda before=before, wanted=wanted: len(jobs(bq)) >= before + wanted)  # type: ignore[misc]
            server.end()
        under_way += len(jobs(bq)) - before
        bq.faults.clear()
    tell("servers killed with jobs under way", tried=tries, through=tries, note=f"{under_way} jobs")
    assert under_way >= tries


def test_a_neighbour_on_the_same_directory_is_neither_billed_nor_cancelled(bq: StandIn, config: Path) -> None:
    tries = count(2, 50)
    with serving(config) as neighbour:
        bq.faults.add(Fault("job", stuck=True))
        kept = neighbour.scan(10**6)
        wait_until(lambda: len(jobs(bq)) == 1)
        [its_job] = jobs(bq)
        for number in range(tries + 1):
            with serving(config) as server:
                mine = [job for job in jobs(bq) if job != its_job]
                quota = server.quota()
                assert billed(bq, mine) == BILLED * number == quota["daily_bytes_used"]
                assert (quota["running_scans"], quota["daily_bytes_reserved"]) == (1, BILLED)
                assert shown(neighbour.quota()) == shown(quota)
                if number == tries:
                    server.end(signal.SIGTERM)
                    break
                bq.faults.add(Fault("job", stuck=True))
                server.scan(1 + number)
                wait_until(lambda number=number: len(jobs(bq)) == number + 2)  # type: ignore[misc]
                server.end()
            bq.faults.clear()
        assert not [one for one in bq.requests.named("jobs.cancel") if its_job in one.path]
        neighbour.send({"method": "notifications/cancelled", "params": {"requestId": kept}})
        wait_until(lambda: bool([one for one in bq.requests.named("jobs.cancel") if its_job in one.path]))
        wait_until(lambda: neighbour.quota()["running_scans"] == 0)
        assert neighbour.quota()["daily_bytes_used"] == billed(bq, jobs(bq)) == BILLED * (tries + 1)
    tell("servers killed beside a neighbour", tried=tries, through=tries)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_books_before_anything_else(bq: StandIn, config: Path, sent: signal.Signals) -> None:
    """Three jobs run; the host kills 0.35 s after it has asked."""
    tries = count(1, 20)
    for number in range(tries):
        bq.faults.add(Fault("job", stuck=True, times=3))
        before = len(jobs(bq))
        with serving(config) as server:
            for scan in range(3):
                server.scan(1 + number * 3 + scan)
            wait_until(lambda before=before: len(jobs(bq)) == before + 3)  # type: ignore[misc]
            server.end(sent, KILLED_AFTER_S)
        mine = jobs(bq)[before:]
        lines = [line for line in audit_of(config) if line["job_id"] in mine and line["tool"] == "scan"]
        assert sorted(line["job_id"] for line in lines) == sorted(mine)
        for line in lines:
            assert (line["status"], line["error_kind"]) == ("cancelled", "cancelled")
            assert BILLED in (line["reserved_bytes"], line["bytes_billed"])
        bq.faults.clear()
        with serving(config) as next_one:
            quota = next_one.quota()
            assert quota["daily_bytes_used"] >= billed(bq, jobs(bq)) == BILLED * len(jobs(bq))
            assert quota["running_scans"] == 0
            next_one.end(signal.SIGTERM)
        assert sum(line["bytes_billed"] or 0 for line in audit_of(config)) == billed(bq, jobs(bq))
    tell(f"servers told to leave by {sent.name}", tried=tries, through=tries)


def test_a_server_that_is_told_to_leave_cancels_its_jobs(bq: StandIn, config: Path) -> None:
    with serving(config) as server:
        bq.faults.add(Fault("job", stuck=True))
        server.scan(1)
        wait_until(lambda: len(jobs(bq)) == 1)
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0
    with serving(config) as next_one:
        wait_until(lambda: next_one.quota().get("daily_bytes_assumed", 0) == 0)
        assert next_one.quota()["daily_bytes_used"] == billed(bq, jobs(bq)) == BILLED
    assert [one for one in bq.requests.named("jobs.cancel") if jobs(bq)[0] in one.path]


def test_over_http_a_signal_closes_the_books_too(bq: StandIn, tmp_path: Path) -> None:
    config = write_config(bq, tmp_path, access={"users": [user("ana", "*")]})
    bq.faults.add(Fault("job", stuck=True))
    with serve(config) as served:
        headers = {**bearer(token_of("ana")), "Accept": "application/json, text/event-stream"}
        greeted = httpx2.post(f"{served.url}/mcp", headers=headers, timeout=60, json=rpc(1, "initialize", INITIALIZE))
        session = {**headers, "Mcp-Session-Id": greeted.headers["Mcp-Session-Id"]}
        scan = rpc(2, "tools/call", {"name": "scan", "arguments": {"table_id": "orders", "where": "id > 1"}})
        with httpx2.stream("POST", f"{served.url}/mcp", headers=session, json=scan, timeout=60):
            wait_until(lambda: len(jobs(bq)) == 1)
            served.process.send_signal(signal.SIGTERM)
            served.process.wait(timeout=60)
    [line] = [line for line in audit_of(config) if line["tool"] == "scan"]
    assert (line["status"], line["job_id"], line["reserved_bytes"]) == ("cancelled", jobs(bq)[0], BILLED)
    with serve(config) as served:
        assert usage(served.url)["daily_bytes_used"] == billed(bq, jobs(bq)) == BILLED


def rpc(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def usage(url: str) -> dict[str, Any]:
    headers = {**bearer(token_of("ana")), "Accept": "application/json, text/event-stream"}
    greeted = httpx2.post(f"{url}/mcp", headers=headers, timeout=60, json=rpc(1, "initialize", INITIALIZE))
    session = {**headers, "Mcp-Session-Id": greeted.headers["Mcp-Session-Id"]}
    asked = rpc(2, "tools/call", {"name": "usage", "arguments": {}})
    answer = httpx2.post(f"{url}/mcp", headers=session, timeout=60, json=asked).text
    message = json.loads(answer.split("data: ", 1)[1].splitlines()[0] if "data: " in answer else answer)
    return dict(message["result"]["structuredContent"]["quota"])
