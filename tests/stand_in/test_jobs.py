"""The life of a query job, as the official client sees it."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from typing import Any

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, NotFound
from google.cloud import bigquery
from support.bigquery_backend import Client, rest_client
from support.waiting import wait_until

from agnes_mcp.stand_in import Fault, StandIn

SLOW = "SELECT SUM(a.id * b.id * c.id) AS n FROM my_dataset.many AS a, my_dataset.many AS b, my_dataset.many AS c"


def run_without_cache() -> bigquery.QueryJobConfig:
    return bigquery.QueryJobConfig(use_query_cache=False)


def await_state(client: Client, job: Any, state: str) -> Any:
    """The job once it is in that state."""
    wait_until(lambda: client.get_job(job.job_id, location=job.location).state == state)
    return client.get_job(job.job_id, location=job.location)


def test_a_job_runs_in_the_background(bq: StandIn, client: Client) -> None:
    bq.faults.add(Fault("job", stuck=True))
    job = client.query("SELECT id FROM my_dataset.things", job_config=run_without_cache())
    assert job.state == "RUNNING"
    assert client.get_job(job.job_id, location=job.location).state == "RUNNING"
    assert job.error_result is None
    job.cancel()
    assert await_state(client, job, "DONE").error_result["reason"] == "stopped"


def test_a_running_job_tells_what_is_known_of_it(bq: StandIn, client: Client) -> None:
    bq.job_latency_s = 1.0
    job = client.query("SELECT id FROM my_dataset.things", job_config=run_without_cache())
    running = client.get_job(job.job_id, location=job.location)
    assert (running.estimated_bytes_processed, running.total_bytes_billed) == (24, None)
    [stage] = running.query_plan
    assert stage.parallel_inputs == 10
    assert 0 <= stage.completed_parallel_inputs < 10
    [moment] = running.timeline
    assert moment.completed_units + moment.pending_units == 10
    job.result()
    done = client.get_job(job.job_id, location=job.location)
    assert (done.query_plan[0].completed_parallel_inputs, done.timeline[0].pending_units) == (10, 0)
    assert done.ended >= done.started
    assert [str(table) for table in done.referenced_tables] == ["my-project.my_dataset.things"]


def test_progress_grows_while_the_job_runs(bq: StandIn, client: Client) -> None:
    bq.job_latency_s = 0.6
    job = client.query("SELECT id FROM my_dataset.things", job_config=run_without_cache())
    seen: list[int] = []
    while (found := client.get_job(job.job_id, location=job.location)).state == "RUNNING":
        seen.append(found.timeline[0].completed_units)
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3


def test_the_client_chooses_the_id_and_it_serves_once(client: Client) -> None:
    job = client.query("SELECT 1", job_id="mine-1", job_retry=None)
    job.result()
    assert job.job_id == "mine-1"
    with pytest.raises(Conflict, match=r"Already Exists: Job my-project:US\.mine-1") as refused:
        client.query("SELECT 2", job_id="mine-1", job_retry=None)
    assert refused.value.errors[0]["reason"] == "duplicate"


def test_labels_and_settings_stay_with_the_job(bq: StandIn, client: Client) -> None:
    config = bigquery.QueryJobConfig(labels={"app": "agnes"}, maximum_bytes_billed=10**9, priority="INTERACTIVE")
    job = client.query("SELECT id FROM my_dataset.things", job_config=config)
    job.result()
    found = client.get_job(job.job_id, location=job.location)
    assert (found.labels, found.maximum_bytes_billed) == ({"app": "agnes"}, 10**9)
    [made] = bq.query_jobs()
    assert (made.labels, made.maximum_bytes_billed, made.dry_run) == ({"app": "agnes"}, 10**9, False)
    assert made.sql == "SELECT id FROM my_dataset.things"
    assert "destinationTable" not in made.body["configuration"]["query"]  # the log keeps what was sent


def test_jobs_are_listed_newest_first(client: Client) -> None:
    for name in ("a", "b", "c"):
        client.query("SELECT 1", job_id=name, job_retry=None).result()
    assert [job.job_id for job in client.list_jobs(max_results=2)] == ["c", "b"]


def test_a_cancelled_job_stops_computing(bq: StandIn, client: Client) -> None:
    """The statement would run for hours."""
    bq.create_table("my_dataset", "many", sql="SELECT i AS id FROM range(100_000) t(i)")
    job = client.query(SLOW, job_config=run_without_cache())
    time.sleep(0.2)  # let it reach the computation; earlier would be right too
    assert job.cancel() is True
    done = await_state(client, job, "DONE")
    assert done.error_result == {
        "reason": "stopped",
        "message": "Job execution was cancelled: User requested cancellation",
    }
    with pytest.raises(GoogleAPICallError, match="cancelled"):
        done.result()
    assert client.query_and_wait("SELECT COUNT(*) AS n FROM my_dataset.many").total_rows == 1


@pytest.mark.parametrize(("bills", "billed"), [(False, 0), (True, 10 * 1024 * 1024)])
def test_a_cancelled_job_may_be_billed(bq: StandIn, client: Client, bills: bool, billed: int) -> None:
    bq.bills_cancelled = bills
    bq.faults.add(Fault("job", stuck=True))
    job = client.query("SELECT id FROM my_dataset.things", job_config=run_without_cache())
    job.cancel()
    assert await_state(client, job, "DONE").total_bytes_billed == billed


def test_cancelling_a_finished_job_changes_nothing(client: Client) -> None:
    job = client.query("SELECT 1")
    job.result()
    job.cancel()
    assert client.get_job(job.job_id, location=job.location).error_result is None


def test_a_waiting_result_call_ends_when_its_time_is_up(bq: StandIn, client: Client) -> None:
    bq.faults.add(Fault("job", stuck=True))
    job = client.query("SELECT 1", job_config=run_without_cache())
    url = f"{bq.api_endpoint}/bigquery/v2/projects/my-project/queries/{job.job_id}"
    answer = requests.get(url, {"timeoutMs": "50"}, timeout=60).json()
    assert (answer["jobComplete"], "rows" in answer) == (False, False)
    assert job.running()
    job.cancel()


def test_one_call_queries_say_that_they_still_run(bq: StandIn) -> None:
    bq.job_latency_s = 0.5
    url = f"{bq.api_endpoint}/bigquery/v2/projects/my-project/queries"
    body: dict[str, Any] = {
        "query": "SELECT id FROM my_dataset.things ORDER BY id",
        "useLegacySql": False,
        "timeoutMs": 10,
    }
    first = requests.post(url, json=body, timeout=60).json()
    assert first["jobComplete"] is False
    assert "rows" not in first
    rest = requests.get(f"{url}/{first['jobReference']['jobId']}", {"timeoutMs": "5000"}, timeout=60).json()
    assert (rest["jobComplete"], rest["totalRows"]) == (True, "3")
    assert [row["f"][0]["v"] for row in rest["rows"]] == ["0", "1", "2"]


def test_one_call_queries_answer_rows_and_pages(bq: StandIn) -> None:
    url = f"{bq.api_endpoint}/bigquery/v2/projects/my-project/queries"
    body: dict[str, Any] = {
        "query": "SELECT id FROM my_dataset.things ORDER BY id",
        "useLegacySql": False,
        "maxResults": 2,
    }
    first = requests.post(url, json=body, timeout=60).json()
    assert (first["jobComplete"], len(first["rows"]), first["totalRows"]) == (True, 2, "3")
    following = {"pageToken": first["pageToken"]}
    rest = requests.get(f"{url}/{first['jobReference']['jobId']}", following, timeout=60).json()
    assert [row["f"][0]["v"] for row in rest["rows"]] == ["2"]
    assert "pageToken" not in rest
    dry = requests.post(url, json=body | {"dryRun": True}, timeout=60).json()
    assert (dry["totalBytesProcessed"], dry["jobReference"].get("jobId")) == ("24", None)


def test_results_by_pages_and_start(shop_client: Client) -> None:
    job = shop_client.query("SELECT id FROM my_dataset.orders ORDER BY id")
    sizes = [page.num_items for page in job.result(page_size=400).pages]
    assert sizes == [400, 400, 200]
    again = shop_client.query("SELECT id FROM my_dataset.orders ORDER BY id")
    assert [row.id for row in again.result(start_index=998)] == [998, 999]
    assert [row.id for row in job.result(max_results=2)] == [0, 1]


def test_order_is_kept_in_a_long_result(shop_client: Client) -> None:
    rows = shop_client.query_and_wait("SELECT id FROM my_dataset.orders ORDER BY id DESC")
    assert [row.id for row in rows] == list(range(999, -1, -1))


def test_a_refused_statement_makes_a_failed_job(bq: StandIn, client: Client) -> None:
    job = client.query("SELECT nope FROM my_dataset.things")
    assert job.state == "DONE"
    assert job.error_result == {
        "reason": "invalidQuery",
        "message": "Unrecognized name: nope at [1:8]",
        "location": "query",
    }
    with pytest.raises(BadRequest, match="Unrecognized name: nope"):
        job.result()
    assert client.get_job(job.job_id, location=job.location).total_bytes_billed == 0


def test_a_statement_may_fail_while_it_runs(client: Client) -> None:
    with pytest.raises(BadRequest, match="division by zero: 1 / 0") as failed:
        client.query("SELECT 1 / (id - id) FROM my_dataset.things WHERE id = 1").result()
    assert failed.value.errors[0]["reason"] == "invalidQuery"


def test_jobs_are_found_in_their_location_only(bq: StandIn, client: Client) -> None:
    job = client.query("SELECT id FROM my_dataset.things")
    job.result()
    assert job.location == "US"
    with pytest.raises(NotFound, match="Not found: Job my-project:EU"):
        client.get_job(job.job_id, location="EU")
    with pytest.raises(NotFound, match="Not found: Job my-project:none"):
        client.get_job("none")


def test_a_job_in_the_wrong_location_finds_no_dataset(bq: StandIn) -> None:
    bq.create_dataset("far", location="EU")
    bq.create_table("far", "t", "id INT64", rows=[{"id": 1}])
    with rest_client(bq.api_endpoint, location="US") as client:
        wording = "Not found: Dataset my-project:far was not found in location US"
        with pytest.raises(NotFound, match=wording) as refused:
            client.query("SELECT id FROM far.t").result()
        assert refused.value.errors[0]["reason"] == "notFound"
        with pytest.raises(NotFound, match=wording):
            client.query("SELECT id FROM far.t", job_config=bigquery.QueryJobConfig(dry_run=True))
    with rest_client(bq.api_endpoint) as client:
        job = client.query("SELECT id FROM far.t")
        assert ([row.id for row in job.result()], job.location) == ([1], "EU")
        with pytest.raises(NotFound, match="was not found in location EU"):
            client.query("SELECT a.id FROM far.t AS a, my_dataset.things AS b").result()


def test_the_billing_project_may_be_another(bq: StandIn) -> None:
    with rest_client(bq.api_endpoint, project="billing-project") as client:
        job = client.query("SELECT id FROM `my-project.my_dataset.things`")
        assert (job.result().total_rows, job.project) == (3, "billing-project")
        with pytest.raises(NotFound, match="Not found: Dataset billing-project:my_dataset"):
            client.query("SELECT id FROM my_dataset.things").result()
    assert bq.query_jobs()[0].path.startswith("/bigquery/v2/projects/billing-project/")


def test_a_default_dataset_completes_names(client: Client) -> None:
    config = bigquery.QueryJobConfig(default_dataset="my-project.my_dataset")
    assert client.query("SELECT id FROM things", job_config=config).result().total_rows == 3
    with pytest.raises(BadRequest, match='Table "things" must be qualified with a dataset'):
        client.query("SELECT id FROM things").result()


def test_many_jobs_at_once_do_not_mix(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "many", sql="SELECT i AS id FROM range(10_000) t(i)")

    def ask(residue: int) -> set[int]:
        rows = client.query_and_wait(f"SELECT id FROM my_dataset.many WHERE MOD(id, 16) = {residue}")
        return {row.id % 16 for row in rows}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(16))) == [{residue} for residue in range(16)]


def test_a_job_that_is_done_leaves_no_thread(bq: StandIn, client: Client) -> None:
    client.query_and_wait("SELECT 0 AS n")
    before = set(threading.enumerate())
    for number in range(1, 6):
        client.query_and_wait(f"SELECT {number} AS n")
    wait_until(lambda: not [left for left in set(threading.enumerate()) - before if "_interrupt" in left.name])
