"""Schemas, previews and discovery over the wire: free calls only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.bigquery import ORDERS, call, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.metadata import entity_type, partition_of
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, Partition, StandIn


def test_a_schema_is_one_free_call(source: BigQuerySource, bq: StandIn) -> None:
    """No query job, no INFORMATION_SCHEMA."""
    schema = source.schema(ORDERS, call())
    assert bq.requests.names == ["tables.get"]
    assert [(c.name, c.type, c.mode) for c in schema.columns] == [
        ("id", "INT64", "REQUIRED"),
        ("day", "DATE", "NULLABLE"),
        ("country", "STRING", "NULLABLE"),
        ("amount", "FLOAT64", "NULLABLE"),
    ]
    assert schema.partition is not None
    assert (schema.partition.column, schema.partition.type, schema.partition.filter_required) == ("day", "DAY", False)
    assert (schema.clustered_by, schema.primary_key) == (["country"], ["id"])
    assert (schema.entity_type, schema.rows, schema.description) == ("BASE TABLE", 1000, "One row per order")
    assert schema.size_bytes
    assert schema.modified is not None
    assert schema.modified.tzinfo is not None


def test_nested_fields_keep_their_modes_and_descriptions(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table(
        "my_dataset",
        "nested",
        schema=[
            {"name": "tags", "type": "STRING", "mode": "REPEATED", "description": "Free words"},
            {
                "name": "buyer",
                "type": "RECORD",
                "fields": [
                    {"name": "name", "type": "STRING", "description": "As given"},
                    {
                        "name": "visits",
                        "type": "RECORD",
                        "mode": "REPEATED",
                        "fields": [{"name": "at", "type": "TIME"}],
                    },
                ],
            },
            {"name": "during", "type": "RANGE", "rangeElementType": {"type": "DATE"}},
        ],
    )
    assert source.schema(table("nested"), call()).columns == [
        Column(name="tags", type="STRING", mode="REPEATED", description="Free words"),
        Column(
            name="buyer",
            type="STRUCT",
            fields=[
                Column(name="name", type="STRING", description="As given"),
                Column(name="visits", type="STRUCT", mode="REPEATED", fields=[Column(name="at", type="TIME")]),
            ],
        ),
        Column(name="during", type="RANGE<DATE>"),
    ]


def test_ingestion_time_partitions_show_their_pseudo_columns(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table("my_dataset", "landed", schema="id INT64", rows=[], partition=Partition(None, require_filter=True))
    schema = source.schema(table("landed"), call())
    assert [c.name for c in schema.pseudo_columns] == ["_PARTITIONTIME", "_PARTITIONDATE"]
    assert schema.partition is not None
    assert schema.partition.column is None
    assert schema.partition.filter_required


PARTITIONS: list[tuple[dict[str, Any], tuple[Any, ...] | None]] = [
    ({}, None),
    ({"timePartitioning": {"type": "HOUR", "field": "at"}}, ("at", "HOUR", False)),
    ({"timePartitioning": {"type": "DAY", "requirePartitionFilter": True}}, (None, "DAY", True)),
    ({"rangePartitioning": {"field": "n"}, "requirePartitionFilter": True}, ("n", "RANGE", True)),
    (
        {"externalDataConfiguration": {"hivePartitioningOptions": {"fields": ["dt"], "requirePartitionFilter": True}}},
        ("dt", "HIVE", True),
    ),
]


@pytest.mark.parametrize(("resource", "expected"), PARTITIONS)
def test_every_way_to_partition_is_read(resource: dict[str, Any], expected: tuple[Any, ...] | None) -> None:
    found = partition_of(resource)
    assert (found and (found.column, found.type, found.filter_required)) == expected


ENTITIES = [
    ({"type": "TABLE"}, "BASE TABLE"),
    ({"type": "BASE TABLE"}, "BASE TABLE"),
    ({"type": "view"}, "VIEW"),
    ({"type": "MATERIALIZED_VIEW"}, "MATERIALIZED VIEW"),
    ({"type": "Materialized View"}, "MATERIALIZED VIEW"),
    ({"type": "EXTERNAL"}, "EXTERNAL"),
    ({"type": "SNAPSHOT"}, "SNAPSHOT"),
    ({"type": "TABLE", "cloneDefinition": {"cloneTime": "x"}}, "CLONE"),
    ({"type": "SOMETHING_NEW"}, "SOMETHING_NEW"),
]


@pytest.mark.parametrize(("resource", "expected"), ENTITIES)
def test_entity_types_are_compared_without_case_space_and_underscore(resource: dict[str, Any], expected: str) -> None:
    assert entity_type(resource) == expected


def test_views_report_no_rows_and_no_size_and_have_no_free_preview(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_view("my_dataset", "cz", "SELECT id FROM `my-project.my_dataset.orders` WHERE country = 'CZ'")
    bq.create_materialized_view("my_dataset", "sums", "SELECT SUM(amount) AS s FROM `my-project.my_dataset.orders`")
    for name, kind in (("cz", "VIEW"), ("sums", "MATERIALIZED VIEW")):
        schema = source.schema(table(name), call())
        assert (schema.entity_type, schema.rows, schema.size_bytes) == (kind, None, None)
        assert source.preview(table(name), schema, [schema.columns[0].name], 5, call()) is None
    assert "tabledata.list" not in bq.requests.names
    assert bq.query_jobs() == []


def test_a_preview_is_free_and_has_the_columns_asked_for_in_that_order(source: BigQuerySource, bq: StandIn) -> None:
    schema = source.schema(ORDERS, call())
    rows = source.preview(ORDERS, schema, ["AMOUNT", "id"], 3, call())
    assert rows is not None
    assert rows.to_pydict() == {"amount": [0.0, 0.25, 0.5], "id": [0, 1, 2]}
    assert bq.query_jobs() == []
    asked = bq.requests.named("tabledata.list")
    assert len(asked) == 1
    assert asked[0].query["maxResults"] == "3"


def test_a_preview_of_an_empty_table_keeps_its_types(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table("my_dataset", "empty", schema="id INT64, tags ARRAY<STRING>", rows=[])
    schema = source.schema(table("empty"), call())
    rows = source.preview(table("empty"), schema, ["tags", "id"], 5, call())
    assert rows is not None
    assert rows.num_rows == 0
    assert [str(field.type) for field in rows.schema] == ["list<item: string>", "int64"]


def test_discovery_pages_through_every_table_of_the_datasets_and_reads_none(
    open_source: Callable[..., BigQuerySource], bq: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.metadata.TABLES_PER_PAGE", 3)
    for number in range(7):
        bq.create_table("other", f"t{number}", schema="id INT64", rows=[])
    bq.create_view("my_dataset", "v", "SELECT id FROM `my-project.my_dataset.orders`")
    found = open_source(datasets=["my_dataset", "other"]).discover(call())
    assert [(t.bucket, t.source_table) for t in found] == [
        ("my_dataset", "orders"),
        ("my_dataset", "v"),
        *(("other", f"t{number}") for number in range(7)),
    ]
    assert {t.discovered for t in found} == {True}
    assert set(bq.requests.names) == {"tables.list"}
    assert len(bq.requests) == 4


def test_a_table_of_another_project_is_read_there_and_paid_here(
    open_source: Callable[..., BigQuerySource], bq: StandIn
) -> None:
    bq.create_table("shared", "rates", schema="id INT64", rows=[{"id": 1}], project="other-project")
    source = open_source(billing_project="my-billing")
    rates = table("rates", "shared", project="other-project")
    schema = source.schema(rates, call())
    assert source.preview(rates, schema, ["id"], 1, call()) is not None
    assert {request.path.split("/projects/")[1].split("/")[0] for request in bq.requests} == {"other-project"}


NAMES = [
    {"source_table": "../orders"},
    {"source_table": "orders/data"},
    {"source_table": "orders%2f"},
    {"source_table": "orders?x=1"},
    {"source_table": "orders`"},
    {"source_table": "orders\n"},
    {"bucket": "my_dataset\n"},
    {"bucket": "my-dataset"},
    {"bucket": ""},
    {"project": "My-Project"},
    {"project": "my-project\n"},
    {"project": "a/../b"},
]


@pytest.mark.parametrize("wrong", NAMES)
def test_names_that_are_none_never_reach_a_path(source: BigQuerySource, bq: StandIn, wrong: dict[str, str]) -> None:
    with pytest.raises(AgnesError) as caught:
        source.schema(ORDERS.model_copy(update=wrong), call())
    assert caught.value.kind == "config_invalid"
    assert len(bq.requests) == 0


def test_a_table_named_in_another_script_is_found(source: BigQuerySource, bq: StandIn) -> None:
    bq.create_table("my_dataset", "Objednávky 2026-ž", schema="id INT64", rows=[{"id": 7}])
    found = table("Objednávky 2026-ž")
    assert source.schema(found, call()).rows == 1


def test_a_missing_table_is_not_phrased_as_not_registered(source: BigQuerySource) -> None:
    with pytest.raises(AgnesError) as caught:
        source.schema(table("gone"), call())
    assert caught.value.kind == "bq_not_found"
    assert "Not found: Table my-project:my_dataset.gone" in caught.value.message
    assert "is registered here" in caught.value.hint


def test_a_passing_fault_is_tried_again_and_shown_as_progress(source: BigQuerySource, bq: StandIn) -> None:
    bq.faults.add(
        Fault("tables.get", status=503, times=2), Fault("tables.get", status=429, headers={"Retry-After": "0"})
    )
    seen: list[str] = []
    assert source.schema(ORDERS, call(on_progress=lambda p: seen.append(p.message))).rows == 1000
    assert len(bq.requests.named("tables.get")) == 4
    assert [message.split(";")[0] for message in seen] == [
        "BigQuery: backendError",
        "BigQuery: backendError",
        "BigQuery: rateLimitExceeded",
    ]
