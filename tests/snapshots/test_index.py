"""Lists read outlines of large sidecars: the same snapshots, each sidecar opened once, none trusted blindly."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from snapshots.shelves import ANA, FACTS, data_file, new_store, put, sessions, sidecar_file

from agnes_mcp.models import Column, ScanRequest
from agnes_mcp.snapshots import SnapshotStore, index
from agnes_mcp.snapshots.folder import Folder, Found
from agnes_mcp.snapshots.reading import Stored, load

COLUMNS = 300
WIDE = pa.table({f"column_{n}": [1] for n in range(COLUMNS)})
WIDE_FACTS = FACTS.model_copy(
    update={
        "select": list(WIDE.column_names),
        "source_columns": [Column(name=name, type="INT64") for name in (*WIDE.column_names, "more")],
        "sql": "SELECT 1",
    }
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names whose sidecars were opened for a list, in order."""
    names = list[str]()

    def load_and_tell(folder: Folder, name: str) -> Stored | None:
        names.append(name)
        return load(folder, name)

    monkeypatch.setattr(index, "load", load_and_tell)
    return names


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose names were listed, in order."""
    places = list[str]()
    survey = Folder.survey

    def survey_and_tell(folder: Folder) -> dict[str, Found]:
        places.append(folder.path.name)
        return survey(folder)

    monkeypatch.setattr(Folder, "survey", survey_and_tell)
    return places


def settled(store: SnapshotStore) -> SnapshotStore:
    """As if what is there had been there for a minute."""
    for path in store.root.glob("*/*.meta.json"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))
    return store


def settled_folder(store: SnapshotStore) -> None:
    """The same of the list of what is there."""
    for path in store.root.glob("*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    store = new_store(tmp_path / "snapshots")
    put(store, "wide", WIDE, WIDE_FACTS)
    put(store, "small", sessions(3))
    return settled(store)


def index_file(store: SnapshotStore) -> Path:
    (path,) = store.root.glob("*/.index.json")
    return path


def index_folder(store: SnapshotStore) -> Path:
    (path,) = store.root.glob("*")
    return path


def test_a_large_one_is_listed_in_outline_and_had_whole(store: SnapshotStore) -> None:
    small, wide = store.list(ANA)
    whole = store.get(ANA, "wide")
    assert (small.name, len(small.columns)) == ("small", 2)
    assert (wide.columns, wide.source_columns, wide.sql) == ([], [], "")
    assert wide.select is not None
    assert len(wide.select) == 201
    assert f"{COLUMNS} columns" in wide.select[-1]
    assert len(whole.columns) == COLUMNS == len(whole.select or ())
    left_out = {"columns", "source_columns", "sql", "select"}
    assert wide.model_dump(exclude=left_out) == whole.model_dump(exclude=left_out)


def test_each_sidecar_is_opened_once_and_large_ones_not_by_the_next_process(
    store: SnapshotStore, opened: list[str]
) -> None:
    for _ in range(3):
        store.list(ANA)
    assert opened == ["small", "wide"]
    next_process = new_store(store.root)
    assert next_process.list(ANA) == store.list(ANA)
    assert opened == ["small", "wide", "small"]
    assert index_file(store).stat().st_size < 8_000 + sidecar_file(store, "wide").stat().st_size // 8


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "foreign", "not json"])
def test_an_index_that_is_not_whole_is_read_as_none(store: SnapshotStore, opened: list[str], damage: str) -> None:
    listed = store.list(ANA)
    path = index_file(store)
    whole = path.read_bytes()
    contents = {
        "torn": whole[:-10],
        "flipped": whole.replace(b"wide", b"wode"),
        "empty": b"",
        "foreign": b"[]",
        "not json": b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
    }
    path.write_bytes(contents[damage])
    opened.clear()
    assert new_store(store.root).list(ANA) == listed
    assert "wide" in opened


def test_what_changes_is_noticed(store: SnapshotStore) -> None:
    """A replaced, a dropped, a damaged one: by lists of this process and of another one that has listed before."""
    other = new_store(store.root)
    for each in (store, other):
        each.list(ANA)
    put(store, "wide", WIDE.slice(0, 0), WIDE_FACTS, force=True)
    assert [each.list(ANA)[1].rows for each in (store, other, new_store(store.root))] == [0, 0, 0]
    settled(store).list(ANA)
    path = sidecar_file(store, "wide")
    path.write_bytes(path.read_bytes()[:-100])
    assert [bool(each.list(ANA)[1].damaged) for each in (store, other, new_store(store.root))] == [True] * 3
    store.drop(ANA, "wide")
    assert [len(each.list(ANA)) for each in (store, other, new_store(store.root))] == [1, 1, 1]


def test_rows_that_are_gone_are_noticed_beside_an_unchanged_sidecar(store: SnapshotStore) -> None:
    store.list(ANA)
    data_file(store, "wide").unlink()
    assert [each.list(ANA)[1].damaged for each in (store, new_store(store.root))] == ["its file is missing"] * 2


@pytest.mark.parametrize(
    ("select", "covered"),
    [(["column_1"], True), (["COLUMN_299"], True), (["column_1", "more"], False), (None, False)],
)
def test_what_covers_a_request_is_told_by_all_columns(
    store: SnapshotStore, opened: list[str], select: list[str] | None, covered: bool
) -> None:
    request = ScanRequest(table_id=FACTS.table_id, select=select, where=FACTS.where)
    for _ in range(3):
        found = store.covering(ANA, request, FACTS.where_sql, timedelta(days=1))
        assert (found is not None and found.name == "wide") == covered
    assert opened.count("wide") <= 2  # for its outline, and for its columns


def test_a_request_that_it_does_not_concern_opens_nothing(store: SnapshotStore, opened: list[str]) -> None:
    store.list(ANA)
    opened.clear()
    assert store.covering(ANA, ScanRequest(table_id="other"), "", timedelta(days=1)) is None
    assert opened == []


def covering(store: SnapshotStore) -> str | None:
    found = store.covering(ANA, REQUEST, FACTS.where_sql, timedelta(days=1))
    return found.name if found else None


REQUEST = ScanRequest(table_id=FACTS.table_id, select=["column_1"], where=FACTS.where)


def _drop(other: SnapshotStore) -> None:
    other.drop(ANA, "wide")


def _replace(other: SnapshotStore) -> None:
    put(other, "wide", WIDE.slice(0, 0), WIDE_FACTS.model_copy(update={"where_sql": "other"}), force=True)


def _retire(other: SnapshotStore) -> None:
    assert {gone.name for gone in other.retire(timedelta(0), None)} >= {"wide"}


def _unlink_rows(other: SnapshotStore) -> None:
    data_file(other, "wide").unlink()


def _cut_rows(other: SnapshotStore) -> None:
    os.truncate(data_file(other, "wide"), 10)


def _tear(other: SnapshotStore) -> None:
    path = sidecar_file(other, "wide")
    path.write_bytes(path.read_bytes()[:-100])


def _remove_folder(other: SnapshotStore) -> None:
    shutil.rmtree(sidecar_file(other, "wide").parent)


def _newer(other: SnapshotStore) -> None:
    put(other, "newer", WIDE, WIDE_FACTS)


@pytest.mark.parametrize(
    ("change", "then"),
    [
        (_drop, None),
        (_replace, None),
        (_retire, None),
        (_unlink_rows, None),
        (_cut_rows, None),
        (_tear, None),
        (_remove_folder, None),
        (_newer, "newer"),
    ],
)
def test_what_covers_is_looked_for_in_what_is_there(
    store: SnapshotStore, listed: list[str], change: Callable[[SnapshotStore], None], then: str | None
) -> None:
    """Whatever another process does between two requests; where it does nothing, the folder is not listed again."""
    other = new_store(store.root)
    for _ in range(2):
        assert covering(settled(store)) == "wide"
        settled_folder(store)
        assert [covering(store) for _ in range(2)] == ["wide"] * 2
        listed.clear()
        assert covering(store) == "wide"
        assert listed == []
        change(other)
        assert [covering(store) for _ in range(2)] == [then] * 2
        settled_folder(store)
        assert [covering(store) for _ in range(3)] == [then] * 3
        for snapshot in other.list(ANA):
            other.drop(ANA, snapshot.name)
        assert covering(store) is None
        put(other, "wide", WIDE, WIDE_FACTS)


def test_a_folder_is_settled_once_its_clock_has_gone_on(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that has whole seconds, or every other one, it goes on later."""
    folder, now = index_folder(store), 10**18
    monkeypatch.setattr(time, "time_ns", lambda: now)
    found = []
    for modified_ns in (now, now - 50_000_001, now - 200_000_001, now - 2 * 10**9, now - 4 * 10**9):
        os.utime(folder, ns=(modified_ns, modified_ns))
        found.append(index._settled(str(folder)) is not None)
    assert found == [False, False, True, False, True]
    assert index._settled(str(folder / "none")) is None
