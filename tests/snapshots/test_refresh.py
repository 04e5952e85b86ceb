"""Refreshing a snapshot: compared in full, before anything is overwritten."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from snapshots.shelves import (
    ANA,
    FACTS,
    NOON,
    Clock,
    data_file,
    failing,
    files_below,
    new_call,
    new_store,
    put,
    refresh,
    sessions,
    sidecar_file,
    stored_rows,
)

from agnes_mcp.calls.call import cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.snapshots import compare_columns
from agnes_mcp.snapshots.comparison import TypeChange

DAY = timedelta(days=1)


def test_the_same_rows_keep_the_file_and_move_the_times_on(tmp_path: Path) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    put(store, "s", sessions(1000))
    before = data_file(store, "s"), data_file(store, "s").stat().st_mtime_ns
    clock.forward(DAY)
    shuffled = sessions(1000).sort_by([("id", "descending")])
    refreshed = refresh(store, "s", shuffled, FACTS.model_copy(update={"bytes_billed": 77}))
    assert refreshed.identical
    assert (data_file(store, "s"), data_file(store, "s").stat().st_mtime_ns) == before
    assert (refreshed.effective_as_of_old, refreshed.effective_as_of_new) == (NOON, NOON + DAY)
    assert (refreshed.rows_old, refreshed.rows_new) == (1000, 1000)
    assert refreshed.bytes_local_old == refreshed.bytes_local_new
    stored = store.get(ANA, "s")
    assert (stored.fetched_at, stored.effective_as_of, stored.bytes_billed) == (NOON + DAY, NOON + DAY, 77)
    assert stored == refreshed.snapshot
    assert len(stored_rows(store, "s")) == 1000
    assert len(files_below(tmp_path)) == 2


def test_other_rows_replace_the_file(tmp_path: Path) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    put(store, "s", sessions(1000))
    old = data_file(store, "s")
    clock.forward(DAY)
    refreshed = refresh(store, "s", sessions(1200))
    assert not refreshed.identical
    assert (refreshed.rows_old, refreshed.rows_new) == (1000, 1200)
    assert refreshed.bytes_local_new == data_file(store, "s").stat().st_size
    assert not old.exists()
    assert len(stored_rows(store, "s")) == 1200


def test_a_change_far_behind_the_first_megabyte_is_noticed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    rows = 400_000
    chance = random.Random(1)
    ids = pa.array([chance.getrandbits(63) for _ in range(rows)])  # which nothing packs
    table = pa.table({"id": ids, "text": pa.array([f"{i * 7919:x}" for i in range(rows)])})
    put(store, "s", table)
    assert data_file(store, "s").stat().st_size > 1_500_000
    changed = table.set_column(1, "text", pa.array([*table.column("text").to_pylist()[:-1], "other"]))
    assert not refresh(store, "s", changed).identical
    assert refresh(store, "s", changed).identical


def test_the_order_counts_where_one_was_asked_for(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    facts = FACTS.model_copy(update={"order_by": ["id"]})
    put(store, "s", sessions(100), facts)
    assert refresh(store, "s", sessions(100), facts).identical
    assert not refresh(store, "s", sessions(100).sort_by([("id", "descending")]), facts).identical
    assert stored_rows(store, "s")[0][0] == 99


@pytest.mark.parametrize("error", [cancelled(), RuntimeError()])
def test_a_refresh_that_fails_never_marks_the_snapshot_as_fresh(tmp_path: Path, error: Exception) -> None:
    clock = Clock()
    store = new_store(tmp_path, clock)
    before = put(store, "s", sessions(100))
    clock.forward(DAY)
    with pytest.raises(type(error)), store.claim(ANA, "s", new_call(), force=True) as claimed:
        claimed.replace_if_changed(failing(sessions(100).to_batches(), error), sessions(0).schema, FACTS)
    assert store.get(ANA, "s") == before
    assert len(files_below(tmp_path)) == 2
    assert len(stored_rows(store, "s")) == 100


def test_a_column_that_is_gone_stops_the_refresh_before_a_row_is_pulled(tmp_path: Path) -> None:
    def unpaid() -> Iterator[pa.RecordBatch]:
        pytest.fail("rows were pulled")
        yield

    store = new_store(tmp_path)
    before = put(store, "s", sessions(100))
    with pytest.raises(AgnesError) as refused, store.claim(ANA, "s", new_call(), force=True) as claimed:
        claimed.replace_if_changed(unpaid(), sessions(0).drop_columns(["country"]).schema, FACTS)
    assert refused.value.kind == "schema_drift"
    assert "country" in refused.value.message
    assert refused.value.exit_code == 2
    assert store.get(ANA, "s") == before
    assert len(files_below(tmp_path)) == 2


def test_a_column_of_another_type_is_a_warning(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(100))
    as_text = sessions(100).set_column(0, "id", sessions(100).column("id").cast(pa.string()))
    refreshed = refresh(store, "s", as_text)
    assert refreshed.warnings == ["Column id was BIGINT and now is VARCHAR."]
    assert not refreshed.identical


def test_a_new_column_is_no_obstacle(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(100))
    refreshed = refresh(store, "s", sessions(100).append_column("extra", pa.array(range(100))))
    assert refreshed.warnings == []
    assert [column.name for column in store.get(ANA, "s").columns] == ["id", "country", "extra"]


def test_only_an_existing_snapshot_can_be_refreshed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(AgnesError) as refused:
        refresh(store, "s", sessions(1))
    assert refused.value.kind == "snapshot_not_found"
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "sidecar"])
def test_refreshing_a_damaged_snapshot_repairs_it_even_with_the_same_rows(tmp_path: Path, damage: str) -> None:
    """An equal hash in the books does not save a file that is gone."""
    store = new_store(tmp_path)
    put(store, "s", sessions(100))
    path = data_file(store, "s")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[40] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "remove":
        path.unlink()
    else:
        sidecar_file(store, "s").write_bytes(b"{}")
    assert not refresh(store, "s", sessions(100)).identical
    assert store.get(ANA, "s").damaged is None
    assert len(stored_rows(store, "s")) == 100


def test_the_facts_of_a_refresh_forget_what_only_the_first_run_knew(tmp_path: Path) -> None:
    """The request and the estimate are carried over, the time and the bill are not."""
    clock = Clock()
    store = new_store(tmp_path, clock)
    known = {"effective_as_of": NOON - DAY, "bytes_billed": 5, "job_id": "j1", "estimated_scan_bytes_at_fetch": 9}
    put(store, "s", sessions(10), FACTS.model_copy(update=known))
    clock.forward(DAY)
    again = store.get(ANA, "s").again()
    refreshed = refresh(store, "s", sessions(10), again).snapshot
    assert refreshed.request() == FACTS.request()
    assert (refreshed.bytes_billed, refreshed.job_id, refreshed.estimated_scan_bytes_at_fetch) == (None, None, 9)
    assert refreshed.effective_as_of == NOON + DAY


def struct(*fields: Column) -> Column:
    return Column(name="payload", type="STRUCT", fields=list(fields))


def test_columns_are_compared_by_name_in_any_case_and_type_to_the_last_field() -> None:
    old = [Column(name="ID", type="INT64", mode="REQUIRED"), struct(Column(name="a", type="INT64"))]
    new = [
        Column(name="id", type="INT64"),
        struct(Column(name="a", type="STRING")),
        Column(name="extra", type="DATE"),
    ]
    drift = compare_columns(old, new)
    assert (drift.added, drift.dropped) == (["extra"], [])
    assert drift.changed == [TypeChange("payload", "STRUCT<a INT64>", "STRUCT<a STRING>")]


def test_only_needed_columns_matter() -> None:
    old = [Column(name="a", type="INT64"), Column(name="b", type="INT64"), Column(name="c", type="INT64")]
    new = [Column(name="c", type="INT64", mode="REPEATED")]
    assert compare_columns(old, new, needed=["A"]).dropped == ["a"]
    assert compare_columns(old, new, needed=["a"]).changed == []
    assert compare_columns(old, new, needed=["c"]).changed == [TypeChange("c", "INT64", "REPEATED INT64")]
    assert compare_columns(old, new).dropped == ["a", "b"]
