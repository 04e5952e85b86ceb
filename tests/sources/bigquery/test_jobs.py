"""Query jobs over the wire: capped, labelled, cancelled, and paid for to the byte."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from support.bigquery import ORDERS, call, read_all, statement, table
from support.held import hold_jobs
from support.waiting import wait_until

from agnes_mcp.calls.call import Call, cancelled, timed_out
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import JobReference, Price, Principal, Progress
from agnes_mcp.sources.bigquery.jobs import REPEATED_REASONS, labels_of
from agnes_mcp.sources.bigquery.price import MIB
from agnes_mcp.sources.bigquery.requests import TRIES
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, StandIn

CZ = statement(ORDERS, ["id", "amount"], "WHERE country = 'CZ' ORDER BY id DESC")


def test_a_query_gives_its_rows_in_order_and_an_exact_receipt(source: BigQuerySource, bq: StandIn) -> None:
    rows, receipt = read_all(source, ORDERS, CZ)
    assert rows["id"].to_pylist() == list(range(998, -1, -2))
    (job,) = bq.query_jobs()
    assert receipt.model_dump() == {
        "bytes_billed": 10 * MIB,
        "job_id": job.body["jobReference"]["jobId"],
        "cache_hit": False,
        "assumed": False,
    }


def test_the_statement_goes_to_bigquery_whole_with_cap_labels_and_a_time_limit(
    source: BigQuerySource, bq: StandIn
) -> None:
    read_all(source, ORDERS, CZ, on=call(timeout_s=100, request_id="abc123"))
    (job,) = bq.query_jobs()
    assert job.sql == CZ.sql
    assert job.maximum_bytes_billed == 10 * MIB
    assert set(job.labels) == {"application", "tool", "principal", "request_id"}
    assert (job.labels["tool"], job.labels["request_id"]) == ("scan", "abc123")
    assert "ana" not in str(job.labels)
    assert 100_000 <= int(job.configuration["jobTimeoutMs"]) <= 130_000


def test_labels_are_made_of_what_bigquery_takes() -> None:
    labels = labels_of(Call("Größe/TOOL " * 20, Principal("Ana <ana@example.com>"), request_id="A.B:C"))
    assert labels["request_id"] == "a-b-c"
    for value in labels.values():
        assert 0 < len(value) <= 63
        assert set(value) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


def test_a_result_without_rows_keeps_its_columns_and_types(source: BigQuerySource) -> None:
    rows, receipt = read_all(source, ORDERS, statement(ORDERS, ["id", "day"], "WHERE id < 0"))
    assert rows.num_rows == 0
    assert [(f.name, str(f.type)) for f in rows.schema] == [("id", "int64"), ("day", "date32[day]")]
    assert receipt.bytes_billed == 10 * MIB


def test_a_repeated_query_is_served_from_the_cache_and_bills_nothing(source: BigQuerySource) -> None:
    read_all(source, ORDERS, CZ)
    _, receipt = read_all(source, ORDERS, CZ)
    assert (receipt.cache_hit, receipt.bytes_billed) == (True, 0)


def test_progress_tells_the_state_of_the_job_and_then_the_rows(
    source: BigQuerySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, seen = hold_jobs(monkeypatch), list[Progress]()

    def note(progress: Progress) -> None:
        seen.append(progress)
        if progress.message.startswith("BigQuery job "):
            released.set()

    read_all(source, ORDERS, CZ, on=call(on_progress=note))
    assert any(progress.message.startswith("BigQuery job ") for progress in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].message) == (500, 500, "500 rows")


def stop_when_running(bq: StandIn, on: Call, reason: AgnesError) -> threading.Thread:
    """Stops the call as soon as the job has been looked at."""

    def stop() -> None:
        wait_until(lambda: bq.requests.named("jobs.get"))
        on.stop(reason)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


@pytest.mark.parametrize(("reason", "kind"), [(cancelled(), "cancelled"), (timed_out(30), "timeout")])
def test_a_stopped_call_cancels_the_job_at_bigquery(
    source: BigQuerySource, bq: StandIn, reason: AgnesError, kind: str
) -> None:
    bq.faults.add(Fault("job", stuck=True))
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    on = call(timeout_s=300)
    thread = stop_when_running(bq, on, reason)
    with pytest.raises(AgnesError) as caught, source.read(ORDERS, schema, CZ, price, on) as reading:
        list(reading)
    thread.join(60)
    assert caught.value.kind == kind
    (cancel,) = bq.requests.named("jobs.cancel")
    assert cancel.path.split("/")[-2] == reading.receipt.job_id


def test_a_job_is_cancelled_when_its_reader_gives_up(source: BigQuerySource, bq: StandIn) -> None:
    bq.faults.add(Fault("job", stuck=True))
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    reading = source.read(ORDERS, schema, CZ, price, call(timeout_s=3))
    with pytest.raises(AgnesError) as caught, reading as running:
        list(running)
    assert caught.value.kind == "timeout"
    assert len(bq.requests.named("jobs.cancel")) == 1


def test_a_reading_that_is_never_read_costs_nothing(source: BigQuerySource, bq: StandIn) -> None:
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    with source.read(ORDERS, schema, CZ, price, call()) as reading:
        pass
    assert reading.receipt.bytes_billed == 0
    assert bq.query_jobs() == []
    assert bq.requests.named("jobs.cancel") == []


def test_a_reader_who_leaves_among_the_rows_pays_for_the_whole_job_and_cancels_nothing(
    source: BigQuerySource, bq: StandIn
) -> None:
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    with source.read(ORDERS, schema, CZ, price, call()) as reading:
        next(iter(reading))
    assert reading.receipt.bytes_billed == 10 * MIB
    assert bq.requests.named("jobs.cancel") == []


def test_the_bill_is_the_cap_where_it_cannot_be_learnt(
    source: BigQuerySource, bq: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never under what BigQuery may charge."""
    monkeypatch.setattr("agnes_mcp.sources.bigquery.jobs.SETTLE_TIMEOUT_S", 0.5)
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    bq.faults.add(Fault("job", stuck=True), Fault("jobs.get", status=403, times=None))
    bq.faults.add(Fault("jobs.cancel", status=503, times=None))
    with pytest.raises(AgnesError), source.read(ORDERS, schema, CZ, price, call()) as reading:
        list(reading)
    assert reading.receipt.bytes_billed == price.reserved_bytes
    assert reading.receipt.assumed


HIDDEN = table("hidden")
PRICE = Price(scan_bytes=20 * MIB, reserved_bytes=20 * MIB, path="query_job")


@pytest.fixture
def hidden(bq: StandIn) -> StandIn:
    """BigQuery withholds what statements over this table processed and billed."""
    bq.create_table("my_dataset", "hidden", schema="id INT64", rows=[{"id": 1}], statistics="absent")
    return bq


def test_a_job_that_does_not_say_what_it_billed_is_charged_what_was_set_aside(
    source: BigQuerySource, hidden: StandIn
) -> None:
    _, receipt = read_all(source, HIDDEN, statement(HIDDEN, ["id"], "WHERE id > 0"), price=PRICE)
    assert (receipt.bytes_billed, receipt.assumed) == (20 * MIB, True)


def test_a_query_that_failed_without_figures_is_billed_nothing(source: BigQuerySource, hidden: StandIn) -> None:
    """BigQuery bills no query that returns an error; a stopped one it may."""
    hidden.faults.add(Fault("job", reason="resourcesExceeded"))
    schema = source.schema(HIDDEN, call())
    asked = statement(HIDDEN, ["id"], "WHERE id > 0")
    with (
        pytest.raises(AgnesError, match=r"esource"),
        source.read(HIDDEN, schema, asked, PRICE, call()) as reading,
    ):
        list(reading)
    assert (reading.receipt.bytes_billed, reading.receipt.assumed) == (0, False)


def test_a_job_is_written_down_before_it_is_sent(source: BigQuerySource, bq: StandIn) -> None:
    told: list[tuple[JobReference | None, int]] = []
    asking = call()
    with asking.charging(lambda job: told.append((job, len(bq.requests.named("jobs.insert"))))):
        _, receipt = read_all(source, ORDERS, CZ, on=asking)
    dry_runs = len(bq.requests.named("jobs.insert")) - 1
    reference = JobReference(project="my-project", location="US", job_id=receipt.job_id or "")
    assert told == [(reference, dry_runs)]


def test_what_may_not_be_written_down_is_not_sent(source: BigQuerySource, bq: StandIn) -> None:
    asking = call()

    def refuse(job: JobReference | None) -> None:
        raise AgnesError("quota_unavailable", "No.", "Later.")

    with pytest.raises(AgnesError, match="No"), asking.charging(refuse):
        read_all(source, ORDERS, CZ, on=asking)
    assert bq.query_jobs() == []
    assert bq.requests.named("jobs.cancel") == []


def learnt(source: BigQuerySource, job_id: str | None) -> int | None:
    return source.learn_bill(JobReference(project="my-project", location="US", job_id=job_id or ""), call())


def test_what_a_job_billed_can_be_learnt_afterwards(source: BigQuerySource, bq: StandIn) -> None:
    _, receipt = read_all(source, ORDERS, CZ)
    assert learnt(source, receipt.job_id) == 10 * MIB
    assert bq.requests.named("jobs.cancel") == []
    with pytest.raises(AgnesError) as caught:
        learnt(source, "agnes_mcp_never_sent")
    assert caught.value.kind == "bq_not_found"


def test_what_is_hidden_stays_unknown(source: BigQuerySource, hidden: StandIn) -> None:
    _, receipt = read_all(source, HIDDEN, statement(HIDDEN, ["id"], "WHERE id > 0"), price=PRICE)
    assert learnt(source, receipt.job_id) is None


@pytest.mark.parametrize("billed", [True, False])
@pytest.mark.parametrize("cancel", ["granted", "refused"])
def test_a_job_that_nobody_waits_for_any_more_is_cancelled_and_its_bill_learnt(
    source: BigQuerySource, bq: StandIn, billed: bool, cancel: str
) -> None:
    bq.bills_cancelled = billed
    bq.faults.add(Fault("job", stall_s=0.5) if cancel == "refused" else Fault("job", stuck=True))
    if cancel == "refused":
        bq.faults.add(Fault("jobs.cancel", status=403))
    schema = source.schema(ORDERS, call())
    left = call()
    with source.read(ORDERS, schema, CZ, source.price(ORDERS, schema, CZ, call()), left) as reading:
        reader = threading.Thread(target=lambda: swallow(lambda: list(reading)))
        reader.start()
        wait_until(lambda: bq.requests.named("jobs.get"))
        assert learnt(source, reading.receipt.job_id) == (10 * MIB if billed or cancel == "refused" else 0)
        reader.join()


def swallow(work: Callable[[], object]) -> None:
    with suppress(AgnesError):
        work()


def test_a_job_that_bills_more_than_its_cap_fails_at_bigquery_and_bills_nothing(
    source: BigQuerySource, bq: StandIn
) -> None:
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call()).model_copy(update={"reserved_bytes": 5 * MIB})
    with pytest.raises(AgnesError) as caught, source.read(ORDERS, schema, CZ, price, call()) as reading:
        list(reading)
    assert caught.value.kind == "bytes_billed_cap_reached"
    assert caught.value.details["job_id"] == reading.receipt.job_id
    assert (caught.value.details["bytes_billed"], reading.receipt.bytes_billed) == (0, 0)


JOB_FAULTS = [
    ("responseTooLarge", "bq_response_too_large"),
    ("resourcesExceeded", "bq_bad_request"),
    ("invalidQuery", "bq_bad_request"),
    ("accessDenied", "cross_project_forbidden"),
    ("quotaExceeded", "bq_rate_limited"),
    ("rateLimitExceeded", "bq_rate_limited"),
    ("backendError", "bq_upstream_error"),
    ("internalError", "bq_upstream_error"),
    ("stopped", "cancelled"),
    ("notFound", "bq_not_found"),
    ("somethingNew", "bq_upstream_error"),
]


@pytest.mark.parametrize(("reason", "kind"), JOB_FAULTS)
def test_a_failed_job_says_why_with_its_id_and_bill(
    source: BigQuerySource, bq: StandIn, reason: str, kind: str
) -> None:
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    message = "" if reason in ("accessDenied", "responseTooLarge") else "What went wrong, whole: " + "x" * 600
    bq.faults.add(Fault("job", reason=reason, message=message, times=None))
    with pytest.raises(AgnesError) as caught, source.read(ORDERS, schema, CZ, price, call()) as reading:
        list(reading)
    assert caught.value.kind == kind
    assert message in caught.value.message
    assert caught.value.details["reason"] == reason
    assert caught.value.details["job_id"] == reading.receipt.job_id
    assert caught.value.details["bytes_billed"] == reading.receipt.bytes_billed


@pytest.mark.parametrize("reason", sorted(REPEATED_REASONS))
def test_a_job_that_bigquery_failed_is_repeated_with_one_bill(source: BigQuerySource, bq: StandIn, reason: str) -> None:
    bq.faults.add(Fault("job", reason=reason, times=TRIES - 1))
    told: list[str] = []
    asking = call()
    with asking.charging(lambda job: told.append(job.job_id if job else "")):
        rows, receipt = read_all(source, ORDERS, CZ, on=asking)
    assert (rows.num_rows, receipt.bytes_billed, receipt.assumed) == (500, 10 * MIB, False)
    sent = [job.body["jobReference"]["jobId"] for job in bq.query_jobs()]
    assert told == sent
    assert (len(set(sent)), receipt.job_id) == (TRIES, sent[-1])
    assert bq.requests.named("jobs.cancel") == []


def test_a_job_that_fails_by_its_own_fault_or_was_billed_is_not_repeated(source: BigQuerySource, bq: StandIn) -> None:
    for reason in ("invalidQuery", "resourcesExceeded", "quotaExceeded", "stopped", "somethingNew"):
        bq.requests.clear()
        bq.faults.add(Fault("job", reason=reason))
        with pytest.raises(AgnesError):
            read_all(source, ORDERS, CZ)
        assert len(bq.query_jobs()) == 1


def test_a_stopped_call_repeats_nothing(source: BigQuerySource, bq: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.requests.FIRST_PAUSE_S", 30.0)
    bq.faults.add(Fault("job", reason="backendError", times=None))
    on = call(on_progress=lambda progress: on.stop(cancelled()) if "trying again" in progress.message else None)
    with pytest.raises(AgnesError) as caught:
        read_all(source, ORDERS, CZ, on=on)
    assert caught.value.kind == "cancelled"
    assert len(bq.query_jobs()) == 1


def test_a_job_that_is_not_found_at_first_is_asked_for_again(source: BigQuerySource, bq: StandIn) -> None:
    bq.job_latency_s = 0.2
    bq.faults.add(Fault("jobs.get", reason="notFound", times=3))
    rows, receipt = read_all(source, ORDERS, CZ)
    assert (rows.num_rows, receipt.bytes_billed, receipt.assumed) == (500, 10 * MIB, False)
    assert bq.requests.named("jobs.cancel") == []
    assert len(bq.query_jobs()) == 1


def test_a_job_whose_insert_was_lost_may_be_found_late(source: BigQuerySource, bq: StandIn) -> None:
    bq.faults.add(Fault("jobs.insert", after=1, reset="body"), Fault("jobs.get", reason="notFound", times=2))
    rows, receipt = read_all(source, ORDERS, CZ)
    assert (rows.num_rows, receipt.bytes_billed) == (500, 10 * MIB)
    assert len(bq.query_jobs()) == 1
    assert bq.requests.named("jobs.cancel") == []


@pytest.mark.parametrize("insert", ["answered", "lost"])
def test_a_job_that_is_never_found_is_charged_what_was_set_aside(
    source: BigQuerySource, bq: StandIn, monkeypatch: pytest.MonkeyPatch, insert: str
) -> None:
    """It runs somewhere: that it is not found does not make it free, nor its cancelling certain."""
    monkeypatch.setattr("agnes_mcp.sources.bigquery.jobs.SETTLE_TIMEOUT_S", 0.5)
    monkeypatch.setattr("agnes_mcp.sources.bigquery.jobs.NOT_FOUND_FOR_S", 0.3)
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    if insert == "lost":
        bq.faults.add(Fault("jobs.insert", reset="body"))
    bq.faults.add(Fault("job", stuck=True), Fault("jobs.get", reason="notFound", times=None))
    bq.faults.add(Fault("jobs.cancel", reason="notFound", times=None))
    with pytest.raises(AgnesError) as caught, source.read(ORDERS, schema, CZ, price, call()) as reading:
        list(reading)
    assert caught.value.kind == "bq_not_found"
    assert (reading.receipt.bytes_billed, reading.receipt.assumed) == (price.reserved_bytes, True)


def test_an_insert_that_was_refused_costs_nothing(source: BigQuerySource, bq: StandIn) -> None:
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    bq.faults.add(Fault("jobs.insert", reason="accessDenied"))
    with pytest.raises(AgnesError), source.read(ORDERS, schema, CZ, price, call()) as reading:
        list(reading)
    assert (reading.receipt.bytes_billed, reading.receipt.assumed) == (0, False)


def test_an_insert_whose_answer_is_lost_runs_one_job(source: BigQuerySource, bq: StandIn) -> None:
    """The id is ours: the second try finds the job that the first one made."""
    schema = source.schema(ORDERS, call())
    price = source.price(ORDERS, schema, CZ, call())
    bq.faults.add(Fault("jobs.insert", reset="body"))
    with source.read(ORDERS, schema, CZ, price, call()) as reading:
        assert sum(batch.num_rows for batch in reading) == 500
    inserts = [r for r in bq.requests.named("jobs.insert") if not r.dry_run]
    assert len({r.body["jobReference"]["jobId"] for r in inserts}) == 1
    assert len(bq.query_jobs()) == 1


def test_jobs_run_in_the_project_that_pays_and_at_the_location_of_the_data(
    open_source: Callable[..., BigQuerySource], bq: StandIn
) -> None:
    read_all(open_source(billing_project="my-billing"), ORDERS, CZ)
    (job,) = bq.query_jobs()
    assert "/projects/my-billing/jobs" in job.path
    assert job.body["jobReference"]["location"] == "US"
    (session,) = bq.requests.named("CreateReadSession")
    assert session.path.startswith("projects/my-billing/")


def test_a_wrong_location_is_not_found_with_the_location_in_the_message(
    open_source: Callable[..., BigQuerySource],
) -> None:
    source, elsewhere = open_source(), ORDERS.model_copy(update={"location": "EU"})
    with pytest.raises(AgnesError) as caught:
        source.price(elsewhere, source.schema(elsewhere, call()), CZ, call())
    assert caught.value.kind == "bq_not_found"
    assert "location EU" in caught.value.message
    assert "data_source.bigquery.location" in caught.value.hint
