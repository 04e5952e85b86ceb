"""Readers beside writers: each keeps the version it began with."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from snapshots.shelves import ANA, files_below, new_store, put, rows_of, sessions, stored_rows


def test_a_reader_keeps_its_rows_when_the_snapshot_is_dropped(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    with store.reading(ANA, "s") as (snapshot, path):
        new_store(tmp_path).drop(ANA, "s")
        assert store.list(ANA) == []
        new_store(tmp_path).sweep()
        put(store, "s", sessions(7))
        assert len(rows_of(path)) == snapshot.rows == 3
        assert len(stored_rows(store, "s")) == 7
    assert not path.exists()
    assert len(files_below(tmp_path)) == 2


def test_a_reader_keeps_its_version_when_the_snapshot_is_replaced(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))
    with store.reading(ANA, "s") as (_, first), store.reading(ANA, "s") as (_, second):
        put(new_store(tmp_path), "s", sessions(7), force=True)
        assert first == second
        assert len(rows_of(first)) == 3
    assert not first.exists()
    assert len(stored_rows(store, "s")) == 7


def test_a_reader_that_fails_clears_away_what_was_replaced_meanwhile(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, "s", sessions(3))

    def fail_while_reading() -> None:
        with store.reading(ANA, "s"):
            put(new_store(tmp_path), "s", sessions(7), force=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_reading()
    assert len(files_below(tmp_path)) == 2
    assert len(stored_rows(store, "s")) == 7


def test_one_store_serves_many_threads(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(5):
            name = f"s{number}"
            put(store, name, sessions(50 + turn, first=number * 1000), force=True)
            rows = stored_rows(store, name)
            if len(rows) != 50 + turn or rows[0][0] != number * 1000:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert len(store.list(ANA)) == 8
