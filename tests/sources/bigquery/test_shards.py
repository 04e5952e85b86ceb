"""Tables of one day each, found as one."""

from __future__ import annotations

import pytest
from support.bigquery import call, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.shards import fold
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import StandIn

FOLDED = {
    ("events_20260101", "orders", "events_20260102"): ["events_*", "orders"],
    ("events_20260101",): ["events_20260101"],  # one is no family
    ("events_20260101", "events_20269999"): ["events_20260101", "events_20269999"],  # the second is no day
    ("events_20260101", "events_20260102", "events_secret"): ["events_20260101", "events_20260102", "events_secret"],
    ("events_20260101", "events_20260102", "events"): ["events_*", "events"],
    ("a_20260101", "b_20260101", "a_20260102", "b_20260102"): ["a_*", "b_*"],
    ("20260101", "20260102"): ["20260101", "20260102"],  # nothing in common
    ("events20260101", "events20260102"): ["events20260101", "events20260102"],
}


@pytest.mark.parametrize("names", FOLDED, ids=" ".join)
def test_what_is_one_table(names: tuple[str, ...]) -> None:
    assert fold(names) == FOLDED[names]


EVENTS = table("events_*")


@pytest.fixture
def sharded(bq: StandIn) -> StandIn:
    for day in (1, 3, 2):
        rows = [{"id": 10 * day + n} for n in range(day)]
        bq.create_table("my_dataset", f"events_2026010{day}", "id INT64, note STRING", rows=rows, created_ms=day)
    return bq


def test_the_schema_is_that_of_the_newest_with_the_suffix(source: BigQuerySource, sharded: StandIn) -> None:
    schema = source.schema(EVENTS, call())
    assert [column.name for column in schema.columns] == ["id", "note"]
    assert [column.name for column in schema.pseudo_columns] == ["_TABLE_SUFFIX"]
    assert (schema.entity_type, schema.rows, schema.size_bytes) == ("SHARDED", None, None)
    assert schema.partition is not None
    assert (schema.partition.column, schema.partition.type) == ("_TABLE_SUFFIX", "SHARD")
    rows = source.preview(EVENTS, schema, ["id"], 5, call())
    assert rows is not None
    assert rows.column("id").to_pylist() == [30, 31, 32]
    assert source.newest(EVENTS, schema, call()) == "_TABLE_SUFFIX = '20260103'"
    assert sharded.query_jobs() == []


def test_a_family_without_tables_is_not_found(source: BigQuerySource, bq: StandIn) -> None:
    with pytest.raises(AgnesError) as caught:
        source.schema(EVENTS, call())
    assert caught.value.kind == "bq_not_found"
