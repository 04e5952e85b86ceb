"""What a test may switch on a table, a dataset or a call: Google's client sees each as BigQuery's own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound
from google.cloud import bigquery
from google.oauth2.credentials import Credentials
from support.bigquery_backend import Client, StorageClient, open_session, read_table, rest_client

from agnes_mcp.stand_in import Fault, Partition, StandIn

DRY = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)


def dry(client: Client, sql: str, location: str | None = None) -> dict[str, Any]:
    """The query statistics of a dry run, as REST writes them."""
    job = client.query(sql, job_config=DRY, location=location)
    found: dict[str, Any] = job._properties["statistics"]["query"]
    return found


def names_of(statistics: dict[str, Any]) -> list[str]:
    return [table["tableId"] for table in statistics["referencedTables"]]


def test_a_lower_bound_is_said(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "odd", "id INT64", rows=[{"id": 1}], accuracy="LOWER_BOUND")
    assert dry(client, "SELECT id FROM my_dataset.things")["totalBytesProcessedAccuracy"] == "PRECISE"
    told = dry(client, "SELECT t.id FROM my_dataset.odd AS o JOIN my_dataset.things AS t ON o.id = t.id")
    assert (told["totalBytesProcessedAccuracy"], told["totalBytesProcessed"]) == ("LOWER_BOUND", "32")


@pytest.mark.parametrize(("statistics", "shown"), [("absent", None), ("zero", 0)])
def test_statistics_that_are_hidden_before_and_after(
    bq: StandIn, client: Client, statistics: Any, shown: int | None
) -> None:
    bq.create_table("my_dataset", "secret", "id INT64", rows=[{"id": 1}], statistics=statistics)
    estimate = client.query("SELECT id FROM my_dataset.secret", job_config=DRY)
    assert estimate._properties["statistics"]["query"].get("totalBytesProcessed") == (None if shown is None else "0")
    job = client.query("SELECT id FROM my_dataset.secret")
    assert [row.id for row in job.result()] == [1]
    job.reload()
    assert (job.total_bytes_processed, job.total_bytes_billed) == (shown, shown)


def test_a_row_access_policy_permits_its_rows_and_hides_the_bytes(
    bq: StandIn, client: Client, storage: StorageClient
) -> None:
    table = bq.create_table(
        "my_dataset", "staff", "id INT64", rows=[{"id": i} for i in range(5)], row_filter="id IN (1, 2)"
    )
    job = client.query("SELECT id FROM my_dataset.staff ORDER BY id")
    assert [row.id for row in job.result()] == [1, 2]
    job.reload()
    assert job.total_bytes_billed is None
    with pytest.raises(Forbidden, match=r"User does not have full access for table .* due to row access policies"):
        list(client.list_rows("my_dataset.staff"))
    assert read_table(storage, open_session(storage, table="my_dataset.staff")).column("id").to_pylist() == [1, 2]
    table.row_filter = "FALSE"
    assert list(client.query_and_wait("SELECT id FROM my_dataset.staff")) == []


def test_a_policy_tag_denies_its_column_alone(bq: StandIn, client: Client) -> None:
    rows = [{"id": 1, "email": "a@example.com"}]
    tags = {"email": "personal : email"}
    bq.create_table("my_dataset", "people", "id INT64, email STRING", rows=rows, policy_tags=tags)
    bq.create_view("my_dataset", "people_v", "SELECT * FROM my_dataset.people")
    words = 'access policy tag "personal : email" on column my-project.my_dataset.people.email'
    for sql in ("SELECT * FROM my_dataset.people", "SELECT COUNT(email) FROM my_dataset.people_v"):
        with pytest.raises(Forbidden, match=words):
            dry(client, sql)
    assert [row.id for row in client.query_and_wait("SELECT id FROM my_dataset.people_v")] == [1]
    with pytest.raises(Forbidden, match=words):
        list(client.list_rows("my_dataset.people"))
    table = client.get_table("my_dataset.people")
    assert [field.policy_tags is not None for field in table.schema] == [False, True]
    assert [row.id for row in client.list_rows(table, selected_fields=table.schema[:1])] == [1]


def test_a_job_runs_where_its_tables_are(bq: StandIn, client: Client) -> None:
    bq.create_dataset("europe", location="EU")
    bq.create_table("europe", "t", "id INT64", rows=[{"id": 1}])
    assert client.get_table("europe.t").location == "EU"
    job = client.query("SELECT id FROM europe.t")
    assert ([row.id for row in job.result()], job.location) == ([1], "EU")
    with pytest.raises(NotFound, match="Dataset my-project:europe was not found in location US"):
        dry(client, "SELECT id FROM europe.t", location="US")
    with pytest.raises(NotFound, match="Dataset my-project:my_dataset was not found in location EU"):
        dry(client, "SELECT 1 FROM europe.t, my_dataset.things")
    with pytest.raises(NotFound, match="Not found: Job"):
        client.get_job(job.job_id, location="US")


def test_a_sheet_wants_drives_scope(bq: StandIn, tmp_path: Any) -> None:
    bq.store.cursor().execute(f"COPY (SELECT 7 AS id) TO '{tmp_path}/s.parquet' (FORMAT parquet)")
    bq.create_external("my_dataset", "sheet", tmp_path / "s.parquet", drive=True)
    with rest_client(
        bq.api_endpoint,
        credentials=Credentials("plain"),  # type: ignore[no-untyped-call]  # google-auth
    ) as client:
        external = client.get_table("my_dataset.sheet")
        assert (external.table_type, external.external_data_configuration.source_format) == (
            "EXTERNAL",
            "GOOGLE_SHEETS",
        )
        with pytest.raises(Forbidden, match="Permission denied while getting Drive credentials"):
            client.query_and_wait("SELECT id FROM my_dataset.sheet")
        bq.tokens.grant_drive("plain")
        assert [row.id for row in client.query_and_wait("SELECT id FROM my_dataset.sheet")] == [7]


def test_a_view_over_a_required_filter(bq: StandIn, client: Client) -> None:
    rows = [{"id": i, "day": f"2024-01-0{i}"} for i in (1, 2, 3)]
    strict = Partition("day", require_filter=True)
    bq.create_table("my_dataset", "strict", "id INT64, day DATE", rows=rows, partition=strict)
    bq.create_view("my_dataset", "strict_v", "SELECT id, day AS happened FROM my_dataset.strict")
    with pytest.raises(BadRequest, match=r"without a filter over column\(s\) 'day'"):
        dry(client, "SELECT id FROM my_dataset.strict_v")
    asked = dry(client, "SELECT id FROM my_dataset.strict_v WHERE happened = '2024-01-02'")
    assert asked["totalBytesProcessed"] == "16"


@pytest.fixture
def events(bq: StandIn) -> StandIn:
    for day in (1, 2, 3):
        rows = [{"id": day * 10 + i, "kind": "view"} for i in range(day)]
        bq.create_table("my_dataset", f"events_2024010{day}", "id INT64, kind STRING", rows=rows)
    return bq


SHARDED: dict[str, tuple[list[tuple[Any, ...]], list[str], str]] = {
    "SELECT id FROM `my-project.my_dataset.events_*` ORDER BY id": (
        [(10,), (20,), (21,), (30,), (31,), (32,)],
        ["events_20240101", "events_20240102", "events_20240103"],
        "48",
    ),
    "SELECT id, _TABLE_SUFFIX AS s FROM `my_dataset.events_*` WHERE _TABLE_SUFFIX = '20240102' ORDER BY id": (
        [(20, "20240102"), (21, "20240102")],
        ["events_20240102"],
        "16",
    ),
    "SELECT COUNT(*) FROM `my_dataset.events_2024*` AS e WHERE e._TABLE_SUFFIX BETWEEN '0101' AND '0102' AND id > 0": (
        [(3,)],
        ["events_20240101", "events_20240102"],
        "24",
    ),
    "SELECT * FROM `my_dataset.events_*` WHERE _TABLE_SUFFIX IN ('20240101', 'x')": (
        [(10, "view")],
        ["events_20240101"],
        "14",
    ),
    "SELECT id FROM `my_dataset.events_*` WHERE _TABLE_SUFFIX > '9'": ([], [], "0"),
}


@pytest.mark.parametrize("sql", SHARDED)
def test_shards_are_one_table_priced_by_its_suffixes(events: StandIn, client: Client, sql: str) -> None:
    rows, referenced, processed = SHARDED[sql]
    told = dry(client, sql)
    assert (names_of(told), told["totalBytesProcessed"]) == (referenced, processed)
    job = client.query(sql)
    assert [tuple(row.values()) for row in job.result()] == rows
    assert job.total_bytes_billed == len(referenced) * 10 * 1024 * 1024


def test_shards_that_are_none(events: StandIn, client: Client) -> None:
    with pytest.raises(NotFound, match=r"my-project:my_dataset\.other_\* does not match any table"):
        dry(client, "SELECT 1 FROM `my_dataset.other_*`")
    events.create_view("my_dataset", "events_v", "SELECT 1 AS id")
    with pytest.raises(BadRequest, match="Views cannot be queried through prefix"):
        dry(client, "SELECT 1 FROM `my_dataset.events_*`")


def test_names_differ_by_case(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "Things", "id INT64", rows=[{"id": 100}], partition=Partition(), ingested="now()")
    bq.create_table("MY_dataset", "things", "id INT64", rows=[{"id": 200}])
    answers = [
        next(iter(client.query_and_wait(f"SELECT MAX(id) AS id FROM {path}"))).id
        for path in ("my_dataset.things", "my_dataset.Things", "MY_dataset.things")
    ]
    assert answers == [2, 100, 200]
    assert [table.table_id for table in client.list_tables("my_dataset")] == ["Things", "things"]
    with pytest.raises(NotFound):
        dry(client, "SELECT 1 FROM my_dataset.THINGS")


@pytest.fixture
def scoped() -> Iterator[tuple[StandIn, Client]]:
    with StandIn("example.com:my-project") as stand_in:
        stand_in.create_table("my_dataset", "t", "id INT64", rows=[{"id": 1}])
        with rest_client(stand_in.api_endpoint, project=stand_in.project) as client:
            yield stand_in, client


def test_a_project_of_a_domain(scoped: tuple[StandIn, Client]) -> None:
    _, client = scoped
    for path in ("`example.com:my-project.my_dataset.t`", "`example.com:my-project`.my_dataset.t", "my_dataset.t"):
        job = client.query(f"SELECT id FROM {path}")
        assert [row.id for row in job.result()] == [1]
        assert [table.project for table in job.referenced_tables] == ["example.com:my-project"]
    reference = bigquery.DatasetReference("example.com:my-project", "my_dataset").table("t")
    assert client.get_table(reference).num_rows == 1


def test_a_dataset_that_is_forbidden_and_one_that_is_gone(bq: StandIn, client: Client) -> None:
    bq.create_table("closed", "t", "id INT64", rows=[]).forbidden = False
    bq.create_dataset("closed").forbidden = True
    bq.create_dataset("past", gone=True)
    assert [dataset.dataset_id for dataset in client.list_datasets()] == ["closed", "my_dataset", "past"]
    with pytest.raises(Forbidden, match=r"Permission bigquery.tables.list denied on dataset my-project:closed"):
        list(client.list_tables("closed"))
    with pytest.raises(Forbidden, match=r"Permission bigquery.tables.get denied on table my-project:closed.t"):
        client.get_table("closed.t")
    with pytest.raises(Forbidden, match=r"User does not have permission to query table my-project:closed\.t"):
        dry(client, "SELECT 1 FROM closed.t")
    with pytest.raises(NotFound, match="Not found: Dataset my-project:past"):
        list(client.list_tables("past"))


def test_a_table_that_is_forbidden(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "closed", "id INT64", rows=[], forbidden=True)
    table = bigquery.DatasetReference("my-project", "my_dataset").table("closed")
    with pytest.raises(Forbidden, match=r"bigquery.tables.getData denied on table my-project:my_dataset.closed"):
        list(client.list_rows(table, selected_fields=[bigquery.SchemaField("id", "INTEGER")]))
    with pytest.raises(Forbidden, match="User does not have permission to query"):
        dry(client, "SELECT 1 FROM my_dataset.closed")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("billingNotEnabled", "Billing has not been enabled for this project"),
        ("accessNotConfigured", "has not been used in project .* or it is disabled"),
        ("policyViolation", "VPC Service Controls: Request is prohibited"),
        ("accessDenied", "User does not have bigquery.jobs.create permission"),
    ],
)
def test_a_reason_brings_its_status_and_words(bq: StandIn, client: Client, reason: str, words: str) -> None:
    bq.faults.add(Fault("jobs.*", reason=reason))
    with pytest.raises(Forbidden, match=words) as refused:
        client.query("SELECT 1", job_retry=None, retry=None)
    assert refused.value.errors[0]["reason"] == reason


@pytest.mark.parametrize("reason", ["backendError", "jobRateLimitExceeded"])
def test_a_job_that_ends_badly_is_made_again_by_the_client(bq: StandIn, client: Client, reason: str) -> None:
    bq.faults.add(Fault("job", reason=reason))
    assert [row.id for row in client.query("SELECT 1 AS id").result()] == [1]
    assert len(bq.query_jobs()) == 2


def test_a_job_may_not_be_found_at_first(bq: StandIn, client: Client) -> None:
    job = client.query("SELECT 1 AS id", job_id="my-job", job_retry=None)
    bq.faults.add(Fault("jobs.get", status=404))
    with pytest.raises(NotFound, match=r"Not found: Job my-project:US\.my-job"):
        client.get_job("my-job", retry=None)
    assert client.get_job("my-job").job_id == job.job_id


def test_cells_that_no_client_can_read(bq: StandIn) -> None:
    bq.create_table("my_dataset", "times", "at TIMESTAMP, id INT64", rows=[{"at": "2024-01-01", "id": 1}])
    bq.faults.add(Fault("tabledata.list", cells={"at": "253402300800000000.0"}, times=None))
    bq.faults.add(Fault("jobs.query", cells={"id": "one"}))
    with rest_client(bq.api_endpoint) as client:
        path = "/projects/my-project/datasets/my_dataset/tables/times/data"
        rows = client._connection.api_request("GET", path)["rows"]
        assert rows == [{"f": [{"v": "253402300800000000.0"}, {"v": "1"}]}]
        with pytest.raises(ValueError, match="one"):
            list(client.query_and_wait("SELECT id FROM my_dataset.times"))


KINDS = {
    "SELECT 1 AS a": "SELECT",
    "/* a */ WITH t AS (SELECT 1 AS a) SELECT a FROM t;": "SELECT",
    "DELETE FROM my_dataset.things WHERE TRUE": "DELETE",
    "INSERT my_dataset.things (id) VALUES (1)": "INSERT",
    "UPDATE my_dataset.things SET id = 1 WHERE TRUE": "UPDATE",
    "MERGE my_dataset.things AS t USING my_dataset.things AS s ON TRUE WHEN MATCHED THEN DELETE": "MERGE",
    "TRUNCATE TABLE my_dataset.things": "TRUNCATE_TABLE",
    "CREATE TABLE my_dataset.x (id INT64)": "CREATE_TABLE",
    "CREATE OR REPLACE TEMP TABLE x AS SELECT 1 AS a": "CREATE_TABLE_AS_SELECT",
    "CREATE MATERIALIZED VIEW my_dataset.x AS SELECT 1 AS a": "CREATE_MATERIALIZED_VIEW",
    "DROP VIEW my_dataset.x": "DROP_VIEW",
    "ALTER TABLE my_dataset.things ADD COLUMN y INT64": "ALTER_TABLE",
    "EXPORT DATA OPTIONS (uri='gs://b/*') AS SELECT 1": "EXPORT_DATA",
    "CALL my_dataset.f()": "CALL",
    "ASSERT TRUE": "ASSERT",
    "SELECT 1; SELECT 2": "SCRIPT",
    "DECLARE x INT64; SELECT x": "SCRIPT",
    "BEGIN SELECT 1; END": "SCRIPT",
    "EXECUTE IMMEDIATE 'SELECT 1'": "SCRIPT",
}


@pytest.mark.parametrize("sql", KINDS)
def test_a_dry_run_says_what_kind_of_statement_it_is(bq: StandIn, client: Client, sql: str) -> None:
    told = dry(client, sql)
    assert told["statementType"] == KINDS[sql]
    if "my_dataset.things" in sql:
        assert set(names_of(told)) == {"things"}
    if KINDS[sql] != "SELECT":
        with pytest.raises(BadRequest, match="Only a single SELECT"):
            client.query(sql).result()


def test_routines_are_opened_and_referenced(bq: StandIn, client: Client) -> None:
    bq.create_routine("my_dataset", "twice", ["n"], "n * 2")
    for call in ("my_dataset.twice(id + 1)", "`my-project.my_dataset.twice`(id + 1)"):
        sql = f"SELECT {call} AS n FROM my_dataset.things ORDER BY n"
        assert [row.n for row in client.query_and_wait(sql)] == [2, 4, 6]
        told = dry(client, sql)
        assert [routine["routineId"] for routine in told["referencedRoutines"]] == ["twice"]
    bq.create_view("my_dataset", "twice_v", "SELECT my_dataset.twice(id) AS n FROM my_dataset.things")
    assert len(dry(client, "SELECT n FROM my_dataset.twice_v")["referencedRoutines"]) == 1
    assert dry(client, "SELECT id FROM my_dataset.things")["referencedRoutines"] == []
    with pytest.raises(GoogleAPICallError, match=r"Function not found: my_dataset.nope"):
        dry(client, "SELECT my_dataset.nope(1)")


@pytest.mark.parametrize(
    ("listing", "expected"),
    [("bases", {"things"}), ("named", {"v2"}), ("both", {"v2", "v1", "things"})],
)
def test_which_tables_are_referenced_through_a_view(
    bq: StandIn, client: Client, listing: Any, expected: set[str]
) -> None:
    bq.create_view("my_dataset", "v1", "SELECT id FROM my_dataset.things")
    bq.create_view("my_dataset", "v2", "SELECT id FROM my_dataset.v1")
    bq.references = listing
    assert set(names_of(dry(client, "SELECT id FROM my_dataset.v2"))) == expected
    job = client.query("SELECT id FROM my_dataset.v2")
    job.result()
    assert {table.table_id for table in job.referenced_tables} == expected


def test_a_table_has_the_past_that_was_kept(bq: StandIn, client: Client) -> None:
    table = bq.catalog.table("my-project", "my_dataset", "things")
    asked = (
        "SELECT id FROM my_dataset.things FOR SYSTEM_TIME AS OF TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL {} HOUR)"
    )
    with pytest.raises(BadRequest, match="Cannot read before"):
        dry(client, asked.format(1))
    bq.keep_past(table, dt.datetime.now(dt.UTC) - dt.timedelta(hours=2), [{"id": 7, "name": "old"}])
    assert [row.id for row in client.query_and_wait(asked.format(3))] == [7]
    assert [row.id for row in client.query_and_wait(asked.format(1) + " ORDER BY id")] == [0, 1, 2]
    with pytest.raises(BadRequest, match="Cannot read before"):
        dry(client, asked.format(24 * 8))
