"""What a table must be filtered by, and its newest partition: found by dry runs alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from support.bigquery import call, table

from agnes_mcp.models import Column, Partition, TableSchema
from agnes_mcp.sources.bigquery.newest import newest_condition, wanted_column
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Partition as Cut
from agnes_mcp.stand_in import StandIn

TODAY = date(2026, 11, 26)
DAYS = [0, 1, -1, 3, 30, 45, 400, 5000, -40, -900]


def schema_of(type_: str) -> TableSchema:
    column = Column(name="cut", type=type_)
    return TableSchema(table_id="t", columns=[column], partition=Partition(column="cut", filter_required=True))


def asked(start_of: Callable[[date], date], held: set[date]) -> tuple[list[str], Callable[[str], int]]:
    """Bytes by partition: a partition is read whole where any day of it passes."""
    log: list[str] = []

    def size(where: str) -> int:
        log.append(where)
        since = start_of(date.fromisoformat(where.split("'")[1][:10]))
        return sum(10 for start in held if start >= since)

    return log, size


@pytest.mark.parametrize("back", DAYS)
@pytest.mark.parametrize("type_", ["DATE", "TIMESTAMP", "DATETIME"])
def test_the_newest_day_is_found_wherever_it_is(type_: str, back: int) -> None:
    newest = TODAY - timedelta(days=back)
    held = {newest, newest - timedelta(days=2), newest - timedelta(days=700)}
    log, size = asked(lambda day: day, held)
    where = newest_condition(schema_of(type_), size, TODAY)
    assert newest.isoformat() in where or (newest - timedelta(days=1)).isoformat() in where
    assert size(where) == 10
    assert len(log) < 40


@pytest.mark.parametrize("back", DAYS)
def test_a_month_is_taken_whole(back: int) -> None:
    newest = (TODAY - timedelta(days=back)).replace(day=1)
    _, size = asked(lambda day: day.replace(day=1), {newest, (newest - timedelta(days=1)).replace(day=1)})
    assert newest.isoformat() in newest_condition(schema_of("DATE"), size, TODAY)


@pytest.mark.parametrize("top", [0, 1, 7, 1000, 123_456_789, 2**62])
def test_numbers_are_narrowed(top: int) -> None:
    log: list[str] = []

    def size(where: str) -> int:
        log.append(where)
        since = int(where.rsplit(" ", 1)[1])
        return sum(1 for value in range(max(0, top - 50), top + 1) if value >= since)

    where = newest_condition(schema_of("INT64"), size, TODAY)
    assert size(where) > 0
    assert top - int(where.rsplit(" ", 1)[1]) <= max(1, top // 100) or top == 0
    assert len(log) < 20


@pytest.mark.parametrize("back", DAYS)
def test_what_a_view_reads_beside_it_is_not_taken_for_a_partition(back: int) -> None:
    newest = TODAY - timedelta(days=back)
    log, size = asked(lambda day: day, {newest, newest - timedelta(days=2)})
    where = newest_condition(schema_of("DATE"), lambda condition: size(condition) + 1000, TODAY)
    assert size(where) == 10
    assert len(log) < 40


def test_numbers_beside_others_are_narrowed() -> None:
    def size(where: str) -> int:
        return 1000 + sum(1 for value in range(100, 150) if value >= int(where.rsplit(" ", 1)[1]))

    assert size(newest_condition(schema_of("INT64"), size, TODAY)) in range(1001, 1010)


@pytest.mark.parametrize("type_", ["DATE", "INT64", "STRING"])
def test_where_no_bytes_are_known_everything_is_taken(type_: str) -> None:
    where = newest_condition(schema_of(type_), lambda _: None, TODAY)
    assert where.startswith("`cut` >= ")
    assert newest_condition(TableSchema(table_id="t", columns=[]), lambda _: 1, TODAY) == ""


def test_the_column_is_read_from_the_complaint() -> None:
    said = "Cannot query over table 'p.d.t' without a filter over column(s) '{}' that can be used"
    assert wanted_column(said.format("day")) == "day"
    assert (
        wanted_column(said.format("_PARTITION_LOAD_TIME', '_PARTITIONDATE', '_PARTITIONTIME")) == "_PARTITION_LOAD_TIME"
    )
    assert wanted_column("Unrecognized name: day") is None


@pytest.fixture
def filtered(bq: StandIn) -> StandIn:
    """`events`, of which a statement has to name some days, and views over it."""
    rows = [{"id": n, "day": f"2026-01-{n % 9 + 1:02}", "note": "x" * n} for n in range(100)]
    cut = Cut("day", require_filter=True)
    bq.create_table("my_dataset", "events", "id INT64, day DATE, note STRING", rows=rows, partition=cut)
    bq.create_view("my_dataset", "same_v", "SELECT note, id, day FROM my_dataset.events")
    bq.create_view(
        "my_dataset", "renamed_v", "SELECT DATE '2020-01-01' AS made, id, day AS event_day FROM my_dataset.events"
    )
    bq.create_view("my_dataset", "free_v", "SELECT id, day FROM my_dataset.events WHERE day >= '2026-01-05'")
    bq.create_table("my_dataset", "people", "id INT64, name STRING", rows=[{"id": n, "name": "x"} for n in range(100)])
    bq.create_view(
        "my_dataset", "joined_v", "SELECT p.name, e.day FROM my_dataset.people p JOIN my_dataset.events e USING (id)"
    )
    bq.create_view("my_dataset", "above_v", "SELECT id, event_day FROM my_dataset.renamed_v")
    return bq


@pytest.mark.parametrize(
    ("name", "column"),
    [("same_v", "day"), ("renamed_v", "event_day"), ("above_v", "event_day"), ("joined_v", "day"), ("free_v", None)],
)
def test_a_view_names_the_column_that_it_must_be_filtered_by(
    source: BigQuerySource, filtered: StandIn, name: str, column: str | None
) -> None:
    schema = source.schema(table(name), call())
    assert (schema.partition is not None and schema.partition.filter_required) == (column is not None)
    if column is not None:
        assert schema.partition == Partition(column=column, type="DAY", filter_required=True)
        assert source.newest(table(name), schema, call()) == f"`{column}` >= DATE '2026-01-09'"
        asked_before = len(filtered.requests)
        source.newest(table(name), schema, call())
        assert len(filtered.requests) == asked_before
    assert filtered.query_jobs() == []


def test_a_view_that_cannot_be_asked_about_has_a_schema_all_the_same(source: BigQuerySource, filtered: StandIn) -> None:
    filtered.catalog.table("my-project", "my_dataset", "events").forbidden = True
    assert source.schema(table("same_v"), call()).partition is None
