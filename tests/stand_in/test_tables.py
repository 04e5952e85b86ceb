"""Datasets, tables and their rows over REST, as the official client sees them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import requests
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery
from support.bigquery_backend import Client

from agnes_mcp.stand_in import Partition, StandIn

UTC = dt.UTC


@pytest.fixture
def files(bq: StandIn, tmp_path: Path) -> Path:
    path = tmp_path / "files.parquet"
    with bq.store.cursor() as cursor:
        cursor.execute(f"COPY (SELECT i AS id, 'x' AS name FROM range(5) t(i)) TO '{path}' (FORMAT parquet)")
    return path


def test_datasets(bq: StandIn, client: Client) -> None:
    bq.create_dataset("another", location="EU", description="Far away")
    assert [item.dataset_id for item in client.list_datasets()] == ["another", "my_dataset"]
    found = client.get_dataset("another")
    assert (found.location, found.description, found.full_dataset_id) == ("EU", "Far away", "my-project:another")


def test_a_dataset_that_is_dropped_can_be_made_again_elsewhere(bq: StandIn, client: Client) -> None:
    bq.create_table("another", "t", "id INT64", rows=[])
    bq.create_dataset("another", location="EU")
    assert client.get_dataset("another").location == "US"
    bq.drop_dataset("another")
    with pytest.raises(NotFound):
        client.get_table("another.t")
    bq.create_dataset("another", location="EU")
    assert client.get_dataset("another").location == "EU"
    with pytest.raises(NotFound):
        client.get_table("another.t")


def test_results_stay_hidden_among_datasets(client: Client) -> None:
    client.query_and_wait("SELECT 1")
    job = client.query("SELECT 2")
    job.result()
    assert job.destination.dataset_id.startswith("_")
    assert [item.dataset_id for item in client.list_datasets()] == ["my_dataset"]


def test_tables_are_listed_by_pages(bq: StandIn, client: Client) -> None:
    for index in range(7):
        bq.create_table("many", f"t{index}", "id INT64", rows=[])
    pages = client.list_tables("many", page_size=3).pages
    assert [[item.table_id for item in page] for page in pages] == [["t0", "t1", "t2"], ["t3", "t4", "t5"], ["t6"]]


def test_a_listed_table_names_its_kind_and_partitioning(shop_client: Client) -> None:
    listed = {item.table_id: item for item in shop_client.list_tables("my_dataset")}
    assert listed["orders_v"].table_type == "VIEW"
    assert listed["orders"].time_partitioning.field == "day"
    assert listed["strict"].time_partitioning.type_ == "DAY"
    assert listed["plain"].clustering_fields == ["code", "id"]


def test_a_table_tells_all_of_itself(bq: StandIn, client: Client) -> None:
    later = int(dt.datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)
    bq.create_table(
        "my_dataset",
        "told",
        [
            {"name": "id", "type": "INTEGER", "mode": "REQUIRED", "description": "The key"},
            {"name": "day", "type": "DATE"},
            {"name": "price", "type": "NUMERIC", "precision": "10", "scale": "2"},
            {
                "name": "lines",
                "type": "RECORD",
                "mode": "REPEATED",
                "fields": [{"name": "sku", "type": "STRING", "description": "What"}, {"name": "n", "type": "INTEGER"}],
            },
            {"name": "valid", "type": "RANGE", "rangeElementType": {"type": "DATE"}},
        ],
        rows=[{"id": 1, "day": "2024-01-01", "lines": [{"sku": "a", "n": 1}]}],
        partition=Partition("day", "MONTH", require_filter=True, expiration_ms=86_400_000),
        clustering=["id"],
        primary_key=["id"],
        description="One row",
        friendly_name="Told",
        labels={"team": "sales"},
        expires_ms=later,
    )
    table = client.get_table("my_dataset.told")
    assert [(f.name, f.field_type, f.mode, f.description) for f in table.schema] == [
        ("id", "INTEGER", "REQUIRED", "The key"),
        ("day", "DATE", "NULLABLE", None),
        ("price", "NUMERIC", "NULLABLE", None),
        ("lines", "RECORD", "REPEATED", None),
        ("valid", "RANGE", "NULLABLE", None),
    ]
    assert (table.schema[2].precision, table.schema[2].scale) == (10, 2)
    assert [(f.name, f.description) for f in table.schema[3].fields] == [("sku", "What"), ("n", None)]
    assert table.schema[4].range_element_type.element_type == "DATE"
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "day")
    assert (table.require_partition_filter, table.time_partitioning.expiration_ms) == (True, 86_400_000)
    assert table.clustering_fields == ["id"]
    assert table.table_constraints.primary_key.columns == ["id"]
    assert (table.description, table.friendly_name, table.labels) == ("One row", "Told", {"team": "sales"})
    assert (table.table_type, table.location, table.num_rows) == ("TABLE", "US", 1)
    assert table.num_bytes == 8 + 8 + (2 + 1) + 8
    assert table.expires == dt.datetime(2100, 1, 1, tzinfo=UTC)
    assert abs(table.modified - dt.datetime.now(UTC)) < dt.timedelta(minutes=5)


def test_range_partitioning(shop_client: Client) -> None:
    cut = shop_client.get_table("my_dataset.by_range").range_partitioning
    assert (cut.field, cut.range_.start, cut.range_.end, cut.range_.interval) == ("id", 0, 1000, 100)


def test_ingestion_time_partitioning_has_no_field_and_hides_its_columns(shop_client: Client) -> None:
    table = shop_client.get_table("my_dataset.loaded")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", None)
    rows = list(shop_client.query_and_wait("SELECT * FROM my_dataset.loaded LIMIT 1"))
    assert "_PARTITIONTIME" not in rows[0].keys()  # noqa: SIM118 - a Row iterates over its values
    sql = "SELECT _PARTITIONTIME AS pt, _PARTITIONDATE AS pd, day FROM my_dataset.loaded WHERE id = 2"
    [row] = shop_client.query_and_wait(sql)
    assert (row.pt, row.pd) == (dt.datetime(2024, 1, 3, tzinfo=UTC), row.day)


def test_kinds_of_tables(bq: StandIn, client: Client, files: Path) -> None:
    """A view's numbers are zero on the wire, whatever is behind it."""
    bq.create_view("my_dataset", "view", "SELECT id FROM my_dataset.things", description="Ids")
    bq.create_materialized_view("my_dataset", "mv", "SELECT COUNT(*) AS n FROM my_dataset.things")
    bq.create_external("my_dataset", "files", files)
    bq.create_table("my_dataset", "snap", parquet=files, snapshot=True)
    tables = {name: client.get_table(f"my_dataset.{name}") for name in ("view", "mv", "files", "snap")}
    seen = {name: (table.table_type, table.num_rows, table.num_bytes) for name, table in tables.items()}
    assert seen == {
        "view": ("VIEW", 0, 0),
        "mv": ("MATERIALIZED_VIEW", 1, 8),
        "files": ("EXTERNAL", 0, 0),
        "snap": ("SNAPSHOT", 5, 5 * (8 + 3)),
    }
    assert tables["view"].view_query == "SELECT id FROM my_dataset.things"
    assert tables["view"].description == "Ids"
    assert tables["mv"].mview_query == "SELECT COUNT(*) AS n FROM my_dataset.things"
    for name in ("view", "mv", "files"):
        with pytest.raises(BadRequest, match="Cannot list a table of type"):
            list(client.list_rows(tables[name]))
    assert len(list(client.list_rows(tables["snap"]))) == 5
    assert [row.id for row in client.query_and_wait("SELECT id FROM my_dataset.files ORDER BY id")] == [0, 1, 2, 3, 4]


def test_an_expired_or_dropped_table_is_gone(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "old", "id INT64", rows=[], expires_ms=1)
    with pytest.raises(NotFound, match=r"Not found: Table my-project:my_dataset\.old"):
        client.get_table("my_dataset.old")
    bq.drop_table("my_dataset", "things")
    assert list(client.list_tables("my_dataset")) == []


def test_table_names_keep_their_case_and_may_be_quoted_in_the_path(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "Žluté věci 2024", "id INT64", rows=[{"id": 1}])
    assert client.get_table("my-project.my_dataset.Žluté věci 2024").num_rows == 1
    assert [row.id for row in client.query_and_wait("SELECT id FROM `my_dataset.Žluté věci 2024`")] == [1]
    with pytest.raises(NotFound):
        client.get_table("my_dataset.THINGS")


def test_rows_by_pages_columns_and_start(shop_client: Client) -> None:
    table = shop_client.get_table("my_dataset.orders")
    columns = [field for field in table.schema if field.name in ("id", "code")]
    rows = shop_client.list_rows(table, selected_fields=columns, start_index=990, page_size=4)
    pages = [[tuple(row.values()) for row in page] for page in rows.pages]
    assert [len(page) for page in pages] == [4, 4, 2]
    assert pages[0][0] == (990, "abc")
    assert [row.id for row in shop_client.list_rows(table, max_results=5)] == [0, 1, 2, 3, 4]


def test_fields_of_a_struct_may_be_selected(shop: StandIn) -> None:
    url = f"{shop.api_endpoint}/bigquery/v2/projects/my-project/datasets/my_dataset/tables/orders/data"
    answer = requests.get(url, {"selectedFields": "buyer.age,id", "maxResults": "1"}, timeout=60).json()
    assert answer["rows"] == [{"f": [{"v": "0"}, {"v": {"f": [{"v": "0"}]}}]}]
    assert answer["totalRows"] == "1000"
    refused = requests.get(url, {"selectedFields": "nope"}, timeout=60)
    assert (refused.status_code, refused.json()["error"]["errors"][0]["reason"]) == (400, "invalid")


def test_free_rows_are_no_job(shop: StandIn, shop_client: Client) -> None:
    before = len(shop.query_jobs())
    assert (
        len(list(shop_client.list_rows("my_dataset.orders", selected_fields=[bigquery.SchemaField("id", "INT64")])))
        == 1000
    )
    assert len(shop.query_jobs()) == before


def test_a_page_of_long_rows_is_cut_short(bq: StandIn, client: Client) -> None:
    """BigQuery cuts a page at about ten megabytes, whatever maxResults asks for."""
    bq.create_table("my_dataset", "long", sql="SELECT i AS id, repeat('x', 1000) AS text FROM range(40000) t(i)")
    rows = client.list_rows("my_dataset.long", selected_fields=client.get_table("my_dataset.long").schema)
    sizes = [page.num_items for page in rows.pages]
    assert len(sizes) > 2
    assert sum(sizes) == 40_000


def test_paths_without_the_prefix_and_unknown_paths(bq: StandIn) -> None:
    short = requests.get(f"{bq.api_endpoint}/projects/my-project/datasets/my_dataset/tables/things", timeout=60)
    assert short.json()["tableReference"]["tableId"] == "things"
    unknown = requests.get(f"{bq.api_endpoint}/bigquery/v2/projects/my-project/models", timeout=60)
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_long_answers_are_compressed_for_those_who_read_it(shop: StandIn) -> None:
    url = f"{shop.api_endpoint}/bigquery/v2/projects/my-project/datasets/my_dataset/tables/orders/data"
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=60)
    packed = requests.get(url, headers={"Accept-Encoding": "gzip"}, timeout=60)
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json() == plain.json()
