"""When a snapshot answers a request that would otherwise be paid for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from snapshots.shelves import ANA, BEN, FACTS, NOON, Clock, data_file, new_store, put, sessions

from agnes_mcp.models import Aggregate, Column, ScanRequest
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import SnapshotFacts

HOUR = timedelta(hours=1)
WHERE = FACTS.where_sql


def covering(store: SnapshotStore, where_sql: str = WHERE, max_age: timedelta = HOUR, **request: Any) -> str | None:
    asked = ScanRequest(table_id=request.pop("table_id", "web_sessions"), **request)
    found = store.covering(ANA, asked, where_sql, max_age)
    return found.name if found else None


def shelf(tmp_path: Path, **facts: Any) -> SnapshotStore:
    store = new_store(tmp_path, Clock())
    put(store, "s", sessions(10), FACTS.model_copy(update=facts))
    return store


@pytest.mark.parametrize(
    "request_fields",
    [
        {"select": ["id"]},
        {"select": ["COUNTRY", "Id"]},
        {"select": ["id"], "limit": 5, "order_by": ["country DESC"]},
        {"select": None},  # the snapshot holds both columns of its table
        {"aggregates": [Aggregate(function="count")]},
        {"group_by": ["country"], "aggregates": [Aggregate(function="sum", column="id", alias="n")], "order_by": ["n"]},
    ],
)
def test_the_same_rows_and_columns_are_covered(tmp_path: Path, request_fields: dict[str, Any]) -> None:
    assert covering(shelf(tmp_path), **request_fields) == "s"


@pytest.mark.parametrize(
    "request_fields",
    [
        {"table_id": "orders", "select": ["id"]},
        {"select": ["id", "age"]},
        {"select": ["id"], "order_by": ["age"]},
        {"group_by": ["age"], "aggregates": [Aggregate(function="count")]},
        {"aggregates": [Aggregate(function="sum", column="age")]},
        {"select": ["id"], "where_sql": ""},
        {"select": ["id"], "where_sql": WHERE.lower()},
    ],
)
def test_other_rows_or_columns_are_not(tmp_path: Path, request_fields: dict[str, Any]) -> None:
    assert covering(shelf(tmp_path), **request_fields) is None


@pytest.mark.parametrize(
    "facts",
    [
        {"limit": 10},  # reached: there may be more
        {"group_by": ["country"], "aggregates": [Aggregate(function="count")]},
        {"aggregates": [Aggregate(function="count")]},
        {"expires_at": NOON},
        {"effective_as_of": NOON - HOUR - timedelta(seconds=1)},
    ],
)
def test_a_snapshot_of_something_else_does_not_cover(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert covering(shelf(tmp_path, **facts), select=["id"]) is None


@pytest.mark.parametrize("facts", [{"limit": 11}, {"effective_as_of": NOON - HOUR}, {"expires_at": NOON + HOUR}])
def test_a_limit_that_was_not_reached_and_a_time_just_within_are_fine(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert covering(shelf(tmp_path, **facts), select=["id"]) == "s"


def test_all_columns_are_covered_by_all_columns_only(tmp_path: Path) -> None:
    wider = [*FACTS.source_columns, Column(name="age", type="INT64")]
    assert covering(shelf(tmp_path / "1", source_columns=wider)) is None
    assert covering(shelf(tmp_path / "2", source_columns=[])) is None
    assert covering(shelf(tmp_path / "3", source_columns=wider, select=None)) == "s"


def test_a_damaged_snapshot_covers_nothing(tmp_path: Path) -> None:
    store = shelf(tmp_path)
    data_file(store, "s").unlink()
    assert covering(store, select=["id"]) is None


def test_a_snapshot_of_somebody_else_covers_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path, Clock())
    put(store, "s", sessions(10), principal=BEN)
    assert covering(store, select=["id"]) is None


def test_the_newest_of_several_is_taken(tmp_path: Path) -> None:
    store = new_store(tmp_path, Clock())
    for name, age in (("a", 30), ("b", 10), ("c", 20)):
        facts = SnapshotFacts(**{**FACTS.model_dump(), "effective_as_of": NOON - timedelta(minutes=age)})
        put(store, name, sessions(1), facts)
    assert covering(store, select=["id"]) == "b"
