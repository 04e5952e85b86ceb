"""Faults at random: a read gives exactly the right rows or one coded error, and is never charged less than it cost."""

from __future__ import annotations

import random
import threading
import warnings

import psutil
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.bigquery import ORDERS, call, read_all, statement, table
from support.counts import count, tell
from support.waiting import wait_until

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, StandIn

ROWS = 60_000
BIG = table("big")
#: What such a read may end with; anything else is a fault of ours.
FORESEEN = {
    "auth_failed",
    "bq_bad_request",
    "bq_forbidden",
    "bq_not_found",
    "bq_rate_limited",
    "bq_response_too_large",
    "bq_unreachable",
    "bq_upstream_error",
    "bytes_billed_cap_reached",
    "cancelled",
    "cross_project_forbidden",
    "estimate_failed",
}
REST_CALLS = ["tables.get", "jobs.insert", "jobs.get", "tabledata.list"]
GRPC_CALLS = ["CreateReadSession", "ReadRows"]
JOB_REASONS = ["backendError", "internalError", "responseTooLarge", "resourcesExceeded", "stopped", "rateLimitExceeded"]


def some_fault(chance: random.Random) -> Fault:
    kind = chance.choice(["status", "reset", "grpc", "truncate", "job"])
    times = chance.choice([1, 1, 2, 3, None])
    after = chance.randrange(3)
    if kind == "status":
        status = chance.choice([400, 401, 403, 404, 409, 429, 500, 502, 503])
        return Fault(chance.choice(REST_CALLS), status=status, times=times, after=after)
    if kind == "reset":
        return Fault(chance.choice(REST_CALLS), reset=chance.choice(["before", "body"]), times=times, after=after)
    if kind == "grpc":
        code = chance.choice(["UNAVAILABLE", "INTERNAL", "UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"])
        return Fault(chance.choice(GRPC_CALLS), grpc_code=code, at_batch=chance.randrange(3), times=times)
    if kind == "truncate":
        return Fault("ReadRows", truncate=True, at_batch=chance.randrange(3), times=times)
    return Fault("job", reason=chance.choice(JOB_REASONS), times=times)


@pytest.fixture
def big(bq: StandIn) -> StandIn:
    bq.create_table("my_dataset", "big", schema="id INT64", sql=f"SELECT i AS id FROM range({ROWS}) t(i)")
    return bq


def billed(bq: StandIn, job_id: str) -> int:
    """What the stand-in says that a job has cost, asked past all faults."""
    options = {"api_endpoint": bq.api_endpoint}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = bigquery.Client("my-project", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call] # google-auth annotates a part of itself
    found = [job for job in client.list_jobs() if job.job_id == job_id]
    client.close()  # type: ignore[no-untyped-call] # as above
    return int(found[0].total_bytes_billed or 0) if found else 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(count(20, 1_000)))
def test_random_faults_give_exact_rows_or_one_foreseen_error(
    source: BigQuerySource, big: StandIn, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # shorter than the call's own deadline, as it is for people: a job that is never found is not a timeout
    monkeypatch.setattr("agnes_mcp.sources.bigquery.jobs.NOT_FOUND_FOR_S", 2.0)
    chance = random.Random(seed)
    schema = source.schema(BIG, call())
    tail = chance.choice(["", f"WHERE id >= 0 AND {seed} = {seed}"])
    asked = statement(BIG, ["id"], tail)
    price = source.price(BIG, schema, asked, call())
    big.faults.add(*(some_fault(chance) for _ in range(chance.randrange(1, 4))))
    rows: list[int] = []
    ended_with = ""
    try:
        with source.read(BIG, schema, asked, price, call(timeout_s=30)) as reading:
            for batch in reading:
                rows += batch.column("id").to_pylist()
    except AgnesError as error:
        ended_with = error.kind
    assert rows == list(range(len(rows)))
    assert ended_with in FORESEEN or len(rows) == ROWS
    big.faults.clear()
    if reading.receipt.job_id:
        assert billed(big, reading.receipt.job_id) <= reading.receipt.bytes_billed <= (price.reserved_bytes or 0)
    tell("reads with random faults", tried=1, through=len(rows) == ROWS)


def test_a_hundred_reads_leave_no_descriptors_and_no_threads(source: BigQuerySource, bq: StandIn) -> None:
    def read() -> None:
        read_all(source, ORDERS, statement(ORDERS, ["id"]))
        read_all(source, ORDERS, statement(ORDERS, ["id"], "WHERE id < 10"))

    for _ in range(3):
        read()
    process = psutil.Process()
    descriptors, threads = process.num_fds(), threading.active_count()
    for _ in range(50):
        read()
    # the stand-in's own threads may still be on their way out
    wait_until(lambda: process.num_fds() <= descriptors + 2 and threading.active_count() <= threads + 2)
