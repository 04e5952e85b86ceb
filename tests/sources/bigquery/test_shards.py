"""Tables of one day each, found as one."""

from __future__ import annotations

import pytest
from support.bigquery import call, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.shards import Entry, fold
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import StandIn

FOLDED = {
    ("events_20260101", "orders", "events_20260102"): ["events_*", "orders"],
    ("events_20260101",): ["events_20260101"],  # one is no family
    ("events_20260101", "events_20269999"): ["events_20260101", "events_20269999"],  # the second is no day
    ("events_20260101", "events_20260102", "events_secret"): ["events_*", "events_secret"],
    ("events_20260101", "events_20260102", "events"): ["events_*", "events"],
    ("a_20260101", "b_20260101", "a_20260102", "b_20260102"): ["a_*", "b_*"],
    ("20260101", "20260102"): ["20260101", "20260102"],  # nothing in common
    ("events20260101", "events20260102"): ["events20260101", "events20260102"],
    # each family beside those that its name goes on from; of the last there is one day only
    ("events_20260101", "events_20260102", "events_intraday_20260103"): ["events_*", "events_intraday_*"],
    ("a_20260101", "a_b_20260101", "a_b_20260102"): ["a_20260101", "a_b_*"],
    ("a_20260101", "a_20260102", "a_b_c_20260101", "ab_20260101"): ["a_*", "a_b_c_*", "ab_20260101"],
    ("売上_20260101", "売上_20260102", "売上_速報_20260102"): ["売上_*", "売上_速報_*"],
    ("e_20260101", "e_20260102", "e_2026010", "e_202601011", "e_20260103x"): [
        "e_*", "e_2026010", "e_202601011", "e_20260103x",
    ],
}  # fmt: skip


@pytest.mark.parametrize("names", FOLDED, ids=" ".join)
def test_what_is_one_table(names: tuple[str, ...]) -> None:
    assert fold(map(Entry, names)) == FOLDED[names]


def test_a_view_that_is_called_so_leaves_them_apart() -> None:
    """BigQuery reads no wildcard that a view or an external table matches, whatever its condition."""
    days = [Entry(f"{prefix}_2026010{day}") for prefix in ("events", "events_intraday") for day in (1, 2)]
    apart = ["events_20260101", "events_20260102"]
    assert fold([*days, Entry("events_v", native=False)]) == [*apart, "events_intraday_*", "events_v"]
    assert fold([*days, Entry("eventsv", native=False)]) == ["events_*", "events_intraday_*", "eventsv"]
    view_of_a_day = Entry("events_intraday_20260109", native=False)
    assert fold([*days, view_of_a_day]) == [entry.name for entry in [*days, view_of_a_day]]


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


def test_columns_that_bigquery_would_not_read_are_no_columns(source: BigQuerySource, sharded: StandIn) -> None:
    """It takes those of the table made last of all that begin so, which may be one of another family."""
    sharded.create_table("my_dataset", "events_b_20260101", "id INT64, secret STRING", rows=[], created_ms=9)
    found = EVENTS.model_copy(update={"discovered": True})
    schema = source.schema(found, call())
    assert [column.name for column in schema.columns] == ["id"]
    assert source.newest(found, schema, call()) == "_TABLE_SUFFIX = '20260103'"


def test_a_family_without_tables_is_not_found(source: BigQuerySource, bq: StandIn) -> None:
    with pytest.raises(AgnesError) as caught:
        source.schema(EVENTS, call())
    assert caught.value.kind == "bq_not_found"
