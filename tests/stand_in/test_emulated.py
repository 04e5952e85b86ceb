"""What any BigQuery answers: run against the stand-in, and with `make test-emulator` against local-bigquery.

A test that the emulator cannot pass carries the reason; it must then fail there, so that the list stays true.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, InvalidArgument, NotFound
from google.cloud import bigquery
from support.bigquery_backend import EMULATOR_VARIABLE, Backend, open_session, read_table, session_schema

pytestmark = pytest.mark.emulator

ROWS = [
    {
        "id": 1,
        "day": "2024-01-01",
        "name": "ann",
        "amount": "1.5",
        "tags": ["a", "b"],
        "buyer": {"city": "Brno", "age": 3},
    },
    {"id": 2, "day": "2024-01-02", "name": None, "amount": "-0.25", "tags": [], "buyer": {"city": None, "age": 4}},
    {
        "id": 3,
        "day": "2024-01-03",
        "name": "čeněk",
        "amount": "1000000",
        "tags": ["c"],
        "buyer": {"city": "Ústí", "age": 5},
    },
]
SCHEMA = (
    "id INT64 NOT NULL OPTIONS(description='The key'), day DATE, name STRING, amount NUMERIC, tags ARRAY<STRING>, "
    "buyer STRUCT<city STRING, age INT64>"
)


def lacking(reason: str) -> pytest.MarkDecorator:
    """What the emulator lacks."""
    return pytest.mark.xfail(EMULATOR_VARIABLE in os.environ, reason=f"emulator: {reason}", strict=True)


@pytest.fixture(scope="module")
def shared(bigquery_backend: Backend) -> Backend:
    """A table `t` of three rows and a view `v` of it."""
    bigquery_backend.create_table("t", SCHEMA, ROWS)
    query = f"SELECT id, name FROM `{bigquery_backend.client.project}.{bigquery_backend.dataset}.t`"
    bigquery_backend.create_view("v", query)
    return bigquery_backend


def table_of(backend: Backend, name: str = "t") -> str:
    return f"`{backend.client.project}`.`{backend.dataset}`.`{name}`"


def answer(backend: Backend, sql: str, **config: Any) -> list[tuple[Any, ...]]:
    job = backend.client.query(sql, job_config=bigquery.QueryJobConfig(**config))
    return [tuple(row.values()) for row in job.result(timeout=30)]


def test_metadata(shared: Backend) -> None:
    table = shared.client.get_table(f"{shared.dataset}.t")
    assert [(f.name, f.field_type, f.mode) for f in table.schema] == [
        ("id", "INTEGER", "REQUIRED"),
        ("day", "DATE", "NULLABLE"),
        ("name", "STRING", "NULLABLE"),
        ("amount", "NUMERIC", "NULLABLE"),
        ("tags", "STRING", "REPEATED"),
        ("buyer", "RECORD", "NULLABLE"),
    ]
    assert table.schema[0].description == "The key"
    assert [f.name for f in table.schema[5].fields] == ["city", "age"]
    assert (table.table_type, table.num_rows) == ("TABLE", 3)


@lacking("numBytes is 0")
def test_bytes_of_a_table(shared: Backend) -> None:
    size = shared.client.get_table(f"{shared.dataset}.t").num_bytes
    assert size == 3 * (8 + 8 + 16 + 8) + (2 + 3) + (2 + 7) + 3 * (2 + 1) + (2 + 4) + (2 + 6)


def test_view_metadata(shared: Backend) -> None:
    view = shared.client.get_table(f"{shared.dataset}.v")
    assert (view.table_type, [f.name for f in view.schema]) == ("VIEW", ["id", "name"])
    assert "SELECT id, name" in view.view_query


def test_tables_are_listed(shared: Backend) -> None:
    listed = {item.table_id: item.table_type for item in shared.client.list_tables(shared.dataset)}
    assert listed == {"t": "TABLE", "v": "VIEW"}


def test_free_rows(shared: Backend) -> None:
    table = shared.client.get_table(f"{shared.dataset}.t")
    rows = [tuple(row.values()) for row in shared.client.list_rows(table, max_results=2)]
    assert [row[0] for row in rows] == [1, 2]
    assert rows[0][3:] == (Decimal("1.5"), ["a", "b"], {"city": "Brno", "age": 3})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("id + 1", 2),
        ("id / 2", 0.5),
        ("amount * 2", Decimal("3")),
        ("UPPER(name)", "ANN"),
        ("LENGTH(name)", 3),
        ("ARRAY_LENGTH(tags)", 2),
        ("tags[OFFSET(1)]", "b"),
        ("buyer.city", "Brno"),
        ("SAFE_DIVIDE(id, 0)", None),
        ("STARTS_WITH(name, 'a')", True),
        ("REGEXP_CONTAINS(name, r'^a.n$')", True),
        ("FORMAT_DATE('%Y/%m', day)", "2024/01"),
        ("EXTRACT(DAYOFWEEK FROM day)", 2),
        ("EXTRACT(ISOWEEK FROM day)", 1),
        ("DATE_DIFF(DATE '2024-03-01', day, MONTH)", 2),
        ("TIMESTAMP_DIFF(TIMESTAMP '2024-01-02 12:00:00', TIMESTAMP '2024-01-01 13:00:00', DAY)", 0),
        ("IF(id > 0, 'yes', 'no')", "yes"),
        ("COALESCE(NULL, 7)", 7),
        ("SAFE_CAST('x' AS INT64)", None),
        ("name IN UNNEST(['ann', 'bob'])", True),
    ],
)
def test_expressions(shared: Backend, expression: str, expected: object) -> None:
    assert answer(shared, f"SELECT {expression} AS x FROM {table_of(shared)} WHERE id = 1") == [(expected,)]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("day >= '2024-01-02'", [2, 3]),
        ("day BETWEEN DATE '2024-01-01' AND DATE '2024-01-02'", [1, 2]),
        ("name IS NULL", [2]),
        ("name LIKE '%n%'", [1, 3]),
        ("name != 'ann'", [3]),
        ("NOT (id = 1 OR id = 2)", [3]),
        ("amount < 0", [2]),
        ("buyer.age IN (3, 5)", [1, 3]),
        ("EXISTS (SELECT 1 FROM UNNEST(tags) AS tag WHERE tag = 'c')", [3]),
        ("DATE_TRUNC(day, MONTH) = '2024-01-01'", [1, 2, 3]),
    ],
)
def test_predicates(shared: Backend, where: str, ids: list[int]) -> None:
    assert [row[0] for row in answer(shared, f"SELECT id FROM {table_of(shared)} WHERE {where} ORDER BY id")] == ids


def test_order_puts_nulls_first_ascending_and_last_descending(shared: Backend) -> None:
    for direction, names in (("ASC", [None, "ann", "čeněk"]), ("DESC", ["čeněk", "ann", None])):
        rows = answer(shared, f"SELECT name FROM {table_of(shared)} ORDER BY name {direction}")
        assert [row[0] for row in rows] == names


def test_aggregates(shared: Backend) -> None:
    sql = f"SELECT COUNT(*), COUNT(name), SUM(amount), AVG(id), MAX(day) IS NULL FROM {table_of(shared)}"
    assert answer(shared, sql) == [(3, 2, Decimal("1000001.25"), 2.0, False)]


def test_unnamed_columns_are_numbered(shared: Backend) -> None:
    result = shared.client.query_and_wait(f"SELECT COUNT(*), id AS k, 1 + 1 FROM {table_of(shared)} GROUP BY id")
    assert [field.name for field in result.schema] == ["f0_", "k", "f1_"]


def test_query_and_wait(shared: Backend) -> None:
    assert [row.id for row in shared.client.query_and_wait(f"SELECT id FROM {table_of(shared, 'v')} ORDER BY id")] == [
        1,
        2,
        3,
    ]


def test_parameters(shared: Backend) -> None:
    ids = bigquery.ArrayQueryParameter("ids", "INT64", [1, 3])
    day = bigquery.ScalarQueryParameter("day", "DATE", "2024-01-02")
    sql = f"SELECT id FROM {table_of(shared)} WHERE id IN UNNEST(@ids) AND day > @day"
    assert answer(shared, sql, query_parameters=[ids, day]) == [(3,)]
    positional = [bigquery.ScalarQueryParameter(None, "INT64", 2)]
    assert answer(shared, f"SELECT id FROM {table_of(shared)} WHERE id = ?", query_parameters=positional) == [(2,)]


def test_pages_of_a_result(shared: Backend) -> None:
    job = shared.client.query(f"SELECT id FROM {table_of(shared)} ORDER BY id")
    pages = [[row.id for row in page] for page in job.result(page_size=2).pages]
    assert pages == [[1, 2], [3]]


def test_storage_read_of_a_table(shared: Backend) -> None:
    table = f"{shared.client.project}.{shared.dataset}.t"
    session = open_session(shared.storage, table, columns=["id", "amount", "tags", "buyer"])
    read = read_table(shared.storage, session).sort_by("id")
    assert read.schema.field("id").type == pa.int64()
    assert read.schema.field("amount").type == pa.decimal128(38, 9)
    assert read.column("tags").to_pylist() == [["a", "b"], [], ["c"]]
    assert read.column("buyer").to_pylist()[1] == {"city": None, "age": 4}


def test_storage_read_with_a_restriction(shared: Backend) -> None:
    table = f"{shared.client.project}.{shared.dataset}.t"
    session = open_session(shared.storage, table, columns=["id"], restriction="day >= '2024-01-02'")
    assert sorted(read_table(shared.storage, session).column("id").to_pylist()) == [2, 3]


def test_storage_read_of_a_query_result(shared: Backend) -> None:
    job = shared.client.query(f"SELECT id * 10 AS tens FROM {table_of(shared)}")
    job.result()
    target = job.destination
    session = open_session(shared.storage, f"{target.project}.{target.dataset_id}.{target.table_id}")
    assert session_schema(session).names == ["tens"]
    assert sorted(read_table(shared.storage, session).column("tens").to_pylist()) == [10, 20, 30]


@lacking("reads views through Storage Read")
def test_storage_read_of_a_view_is_refused(shared: Backend) -> None:
    with pytest.raises(InvalidArgument):
        open_session(shared.storage, f"{shared.client.project}.{shared.dataset}.v")


def test_rows_of_a_view_are_refused(shared: Backend) -> None:
    view = shared.client.get_table(f"{shared.dataset}.v")
    with pytest.raises(BadRequest):
        list(shared.client.list_rows(view))


@pytest.mark.parametrize(
    ("sql", "error", "words"),
    [
        ("SELECT nope FROM {0}", BadRequest, "Unrecognized name: nope"),
        ("SELECT id FROM {0} WHERE", BadRequest, "Syntax error"),
        ("SELECT FROBNICATE(id) FROM {0}", BadRequest, "Function not found: FROBNICATE"),
        ("SELECT id FROM {1}.missing", NotFound, "Not found: Table"),
        ("SELECT id FROM no_such_dataset.t", NotFound, "Not found: Dataset"),
    ],
)
def test_refusals(shared: Backend, sql: str, error: type[GoogleAPICallError], words: str) -> None:
    with pytest.raises(error) as refused:
        answer(shared, sql.format(table_of(shared), shared.dataset))
    assert words in refused.value.message


def test_missing_metadata(shared: Backend) -> None:
    with pytest.raises(NotFound, match="Not found: Table"):
        shared.client.get_table(f"{shared.dataset}.missing")
    with pytest.raises(NotFound, match="Not found: Dataset"):
        shared.client.get_dataset("no_such_dataset")


def test_a_job_id_serves_once(shared: Backend) -> None:
    job = shared.client.query("SELECT 1", job_id=f"once_{shared.dataset}", job_retry=None)
    job.result()
    with pytest.raises(Conflict):
        shared.client.query("SELECT 1", job_id=job.job_id, job_retry=None)


def test_labels_stay_with_the_job(shared: Backend) -> None:
    job = shared.client.query("SELECT 1", job_config=bigquery.QueryJobConfig(labels={"app": "test"}))
    job.result()
    assert shared.client.get_job(job.job_id, location=job.location).labels == {"app": "test"}


def test_a_dry_run_has_a_schema(shared: Backend) -> None:
    job = shared.client.query(f"SELECT id FROM {table_of(shared)}", job_config=bigquery.QueryJobConfig(dry_run=True))
    assert (job.state, [field.name for field in job.schema]) == ("DONE", ["id"])


@lacking("a dry run prices nothing")
def test_a_dry_run_has_a_price(shared: Backend) -> None:
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    assert shared.client.query(f"SELECT id FROM {table_of(shared)}", job_config=config).total_bytes_processed == 24


@lacking("maximumBytesBilled is ignored")
def test_a_cap_is_kept(shared: Backend) -> None:
    with pytest.raises(GoogleAPICallError):
        answer(shared, f"SELECT id FROM {table_of(shared)}", maximum_bytes_billed=1, use_query_cache=False)
