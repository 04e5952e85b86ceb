"""Faults on demand: each is seen by the official clients as BigQuery's own would be."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from google.api_core import exceptions, retry
from google.cloud import bigquery
from support.bigquery_backend import Client, StorageClient, open_session, read_stream, read_table

from agnes_mcp.stand_in import Fault, StandIn

NEVER = retry.Retry(predicate=lambda error: False)


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (Fault("tables.get", status=400), exceptions.BadRequest, "invalid"),
        (Fault("tables.get", status=403), exceptions.Forbidden, "accessDenied"),
        (Fault("tables.get", status=403, reason="quotaExceeded"), exceptions.Forbidden, "quotaExceeded"),
        (Fault("tables.get", status=403, reason="rateLimitExceeded"), exceptions.Forbidden, "rateLimitExceeded"),
        (Fault("tables.*", status=404), exceptions.NotFound, "notFound"),
        (Fault("*", status=429), exceptions.TooManyRequests, "rateLimitExceeded"),
        (Fault("tables.get", status=500), exceptions.InternalServerError, "internalError"),
        (Fault("tables.get", status=503), exceptions.ServiceUnavailable, "backendError"),
    ],
)
def test_a_status_with_its_reason(
    bq: StandIn, client: Client, fault: Fault, error: type[exceptions.GoogleAPICallError], reason: str
) -> None:
    bq.faults.add(fault)
    with pytest.raises(error) as seen:
        client.get_table("my_dataset.things", retry=NEVER)
    assert seen.value.errors[0]["reason"] == reason
    assert client.get_table("my_dataset.things", retry=NEVER).num_rows == 3  # spent


def test_the_message_and_headers_are_the_tests_own(bq: StandIn) -> None:
    bq.faults.add(Fault("tables.get", status=503, message="Later, please", headers={"Retry-After": "7"}))
    url = f"{bq.api_endpoint}/bigquery/v2/projects/my-project/datasets/my_dataset/tables/things"
    answer = requests.get(url, timeout=60)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json()["error"]["message"] == "Later, please"


def test_the_client_repeats_what_may_be_repeated(bq: StandIn, client: Client) -> None:
    bq.faults.add(Fault("tables.get", status=503, reason="backendError", times=2))
    assert client.get_table("my_dataset.things").num_rows == 3
    assert [call.status for call in bq.requests.named("tables.get")] == [503, 503, 200]


def test_after_times_and_where_aim_a_fault(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "other", "id INT64", rows=[])
    bq.faults.add(Fault("tables.get", status=404, where="*/other", after=1, times=2))
    outcomes = []
    for name in ("things", "other", "other", "other", "other"):
        try:
            client.get_table(f"my_dataset.{name}", retry=NEVER)
        except exceptions.NotFound:
            outcomes.append(404)
        else:
            outcomes.append(200)
    assert outcomes == [200, 200, 404, 404, 200]
    assert bq.faults.listed() == []


def test_a_fault_for_ever_lasts_until_it_is_cleared(bq: StandIn, client: Client) -> None:
    bq.faults.add(Fault("tables.get", status=404, times=None))
    for _ in range(3):
        with pytest.raises(exceptions.NotFound):
            client.get_table("my_dataset.things")
    bq.faults.clear()
    assert client.get_table("my_dataset.things").num_rows == 3


@pytest.mark.parametrize("where", ["before", "body"])
def test_a_connection_is_cut(bq: StandIn, where: str) -> None:
    bq.faults.add(Fault("tables.get", reset=where))
    url = f"{bq.api_endpoint}/bigquery/v2/projects/my-project/datasets/my_dataset/tables/things"
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.get(url, timeout=60)
    assert requests.get(url, timeout=60).status_code == 200


def test_an_answer_is_delayed(bq: StandIn, client: Client) -> None:
    bq.faults.add(Fault("tables.get", delay_s=0.3))
    started = time.monotonic()
    client.get_table("my_dataset.things")
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (Fault("job", reason="responseTooLarge"), exceptions.Forbidden, "responseTooLarge"),
        (Fault("job", reason="resourcesExceeded"), exceptions.BadRequest, "resourcesExceeded"),
        (Fault("job", reason="quotaExceeded", message="Enough"), exceptions.Forbidden, "quotaExceeded"),
        (Fault("job", reason="accessDenied", status=403), exceptions.Forbidden, "accessDenied"),
    ],
)
def test_a_job_fails_with_a_reason(
    bq: StandIn, client: Client, fault: Fault, error: type[exceptions.GoogleAPICallError], reason: str
) -> None:
    bq.faults.add(fault)
    job = client.query("SELECT id FROM my_dataset.things", job_retry=None)
    while not job.done():
        pass
    with pytest.raises(error):
        raise job.exception()
    assert job.error_result["reason"] == reason


def test_jobs_may_be_refused_with_the_missing_permission_named(bq: StandIn, client: Client) -> None:
    bq.faults.add(Fault("jobs.insert", status=403, where="*/my-project/*"))
    with pytest.raises(exceptions.Forbidden, match=r"bigquery\.jobs\.create permission in project my-project"):
        client.query("SELECT 1", retry=NEVER)
    assert bq.query_jobs() == []


@pytest.fixture
def many(bq: StandIn) -> StandIn:
    bq.create_table("my_dataset", "many", sql="SELECT i AS id, i AS other FROM range(500_000) t(i)")
    return bq


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("UNAUTHENTICATED", exceptions.Unauthenticated),
        ("RESOURCE_EXHAUSTED", exceptions.ResourceExhausted),
        ("PERMISSION_DENIED", exceptions.PermissionDenied),
        ("INTERNAL", exceptions.InternalServerError),
    ],
)
def test_a_stream_breaks_at_a_batch(
    many: StandIn, storage: StorageClient, code: str, error: type[exceptions.GoogleAPICallError]
) -> None:
    many.faults.add(Fault("ReadRows", grpc_code=code, message="Broken", at_batch=2))
    session = open_session(storage, "my_dataset.many")
    batches = read_stream(storage, session)
    assert next(batches).num_rows + next(batches).num_rows < 500_000
    with pytest.raises(error, match="Broken"):
        next(batches)
    assert many.requests.named("ReadRows")[0].status != "OK"


def test_the_client_resumes_a_stream_that_became_unavailable(many: StandIn, storage: StorageClient) -> None:
    many.faults.add(Fault("ReadRows", grpc_code="UNAVAILABLE", at_batch=2))
    ids = read_table(storage, open_session(storage, "my_dataset.many")).column("id").to_pylist()
    assert ids == list(range(500_000))
    first, second = many.requests.named("ReadRows")
    assert second.body["offset"] == first.rows > 0


def test_a_stream_may_end_early_as_if_it_were_complete(many: StandIn, storage: StorageClient) -> None:
    many.faults.add(Fault("ReadRows", truncate=True, at_batch=1))
    session = open_session(storage, "my_dataset.many")
    assert 0 < read_table(storage, session).num_rows < session.estimated_row_count


def test_a_stream_stalls(many: StandIn, storage: StorageClient) -> None:
    many.faults.add(Fault("ReadRows", stall_s=30, at_batch=1))
    session = open_session(storage, "my_dataset.many")
    call = storage.read_rows(session.streams[0].name, timeout=0.5, retry=None)
    with pytest.raises(exceptions.DeadlineExceeded):
        list(call)


def test_a_session_is_refused(many: StandIn, storage: StorageClient) -> None:
    many.faults.add(Fault("CreateReadSession", grpc_code="PERMISSION_DENIED", message="No readsessions.create"))
    with pytest.raises(exceptions.PermissionDenied, match=r"readsessions\.create"):
        open_session(storage, "my_dataset.many")


def test_faults_tokens_and_settings_over_the_control_endpoint(bq: StandIn, client: Client) -> None:
    control = bq.api_endpoint
    described: list[Any] = [{"call": "tables.get", "status": 404}, {"call": "jobs.*", "status": 503, "times": None}]
    assert len(requests.post(f"{control}/__faults", json=described, timeout=60).json()["faults"]) == 2
    with pytest.raises(exceptions.NotFound):
        client.get_table("my_dataset.things")
    assert requests.get(f"{control}/__faults", timeout=60).json()["faults"][0]["call"] == "jobs.*"
    assert requests.delete(f"{control}/__faults", timeout=60).json() == {"faults": []}
    log = requests.get(f"{control}/__requests", timeout=60).json()["requests"]
    assert [(call["name"], call["status"]) for call in log] == [("tables.get", 404)]
    requests.post(f"{control}/__settings", json={"job_latency_s": 0.25}, timeout=60)
    assert bq.job_latency_s == 0.25
    requests.post(f"{control}/__tokens", json={"expire": ["old"], "accept": ["new"]}, timeout=60)
    expired = requests.get(f"{control}/projects", headers={"Authorization": "Bearer old"}, timeout=60)
    assert expired.status_code == 401
    requests.delete(f"{control}/__requests", timeout=60)
    assert len(bq.requests) == 0


def test_a_fault_that_makes_no_sense_is_refused(bq: StandIn) -> None:
    answer = requests.post(f"{bq.api_endpoint}/__faults", json={"call": "x", "sttus": 1}, timeout=60)
    assert (answer.status_code, "sttus" in answer.text) == (400, True)
    assert requests.post(f"{bq.api_endpoint}/__nothing", json={}, timeout=60).status_code == 404


def test_the_log_proves_that_no_query_job_was_made(bq: StandIn, client: Client) -> None:
    client.get_table("my_dataset.things")
    list(client.list_rows("my_dataset.things", selected_fields=[bigquery.SchemaField("id", "INT64")]))
    client.query("SELECT id FROM my_dataset.things", job_config=bigquery.QueryJobConfig(dry_run=True))
    assert bq.requests.names == ["tables.get", "tabledata.list", "jobs.insert"]
    assert bq.query_jobs() == []
    assert bq.requests.named("jobs.insert")[0].dry_run is True
