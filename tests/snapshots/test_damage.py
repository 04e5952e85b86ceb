"""Damage is found before a row is served, listed with its reason, and harms nothing else (SECURITY: corruption)."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from snapshots.shelves import (
    ANA,
    BEN,
    data_file,
    files_below,
    new_store,
    put,
    refresh,
    sessions,
    sidecar_file,
    stored_rows,
)

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.names import folder_name
from agnes_mcp.snapshots.sidecar import MAX_SIDECAR_BYTES, UnreadableSidecarError, _render, parse


def rewrite_sidecar(store: SnapshotStore, name: str, fields: dict[str, Any]) -> None:
    """Change fields and prove the result, as somebody who knows the format would."""
    path = sidecar_file(store, name)
    envelope = json.loads(path.read_bytes())
    envelope["snapshot"].update(fields)
    path.write_bytes(_render(envelope))


def assert_damaged(store: SnapshotStore, name: str = "s") -> str:
    """Listed with a reason, not served, and the neighbour is well; returns the reason."""
    listed = {snapshot.name: snapshot.damaged for snapshot in store.list(ANA)}
    for ask in (store.verify, lambda principal, snapshot: stored_rows(store, snapshot, principal)):
        with pytest.raises(AgnesError) as refused:
            ask(ANA, name)
        assert refused.value.kind == "snapshot_damaged"
        assert str(store.root) not in str(refused.value.__dict__)
    reason = listed[name] or store.get(ANA, name).damaged
    assert reason is not None
    assert listed["well"] is None
    assert len(stored_rows(store, "well")) == 4
    return reason


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    store = new_store(tmp_path)
    put(store, "s", sessions(50))
    put(store, "well", sessions(4))
    return store


def flips(size: int, count: int) -> list[tuple[int, int]]:
    """`count` bits over the whole of a file, the first and last bytes among them."""
    chance = random.Random(20260314)
    edges = [(offset, bit) for offset in (0, 1, 3, 4, size - 9, size - 8, size - 5, size - 1) for bit in range(8)]
    return edges + [(chance.randrange(size), chance.randrange(8)) for _ in range(count - len(edges))]


def test_each_of_600_flipped_bits_in_the_rows_is_found(store: SnapshotStore) -> None:
    path = data_file(store, "s")
    whole = path.read_bytes()
    missed = []
    for offset, bit in flips(len(whole), 600):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << bit
        path.write_bytes(damaged)
        if served(new_store(store.root)):
            missed.append((offset, bit))
    assert missed == []
    path.write_bytes(whole)
    assert served(new_store(store.root))


def test_every_truncation_and_extension_of_the_rows_is_found(store: SnapshotStore) -> None:
    path = data_file(store, "s")
    whole = path.read_bytes()
    sizes = sorted({*range(0, len(whole), 37), len(whole) - 1, len(whole) - 8, len(whole) + 1})
    wrong = {size: (whole + b"\x00")[:size] for size in sizes}
    missed = []
    for size, content in wrong.items():
        path.write_bytes(content)
        if served(new_store(store.root)) or new_store(store.root).get(ANA, "s").damaged is None:
            missed.append(size)
    assert missed == []


def served(store: SnapshotStore) -> bool:
    """Whether the rows are given out; any other error than the right one passes through."""
    try:
        store.verify(ANA, "s")
    except AgnesError as error:
        if error.kind != "snapshot_damaged":
            raise
        return False
    return True


def test_every_flipped_bit_and_truncation_of_the_sidecar_is_found(store: SnapshotStore) -> None:
    whole = sidecar_file(store, "s").read_bytes()
    parse(whole, "s")
    missed = [
        (offset, bit)
        for offset in range(len(whole))
        for bit in range(8)
        if readable(whole[:offset] + bytes([whole[offset] ^ 1 << bit]) + whole[offset + 1 :])
    ]
    missed += [(size, -1) for size in range(len(whole)) if readable(whole[:size])]
    assert missed == []
    assert len(whole) * 8 > 5000


def readable(content: bytes) -> bool:
    try:
        parse(content, "s")
    except UnreadableSidecarError:
        return False
    return True


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"garbage", "not JSON"),
        (b"\x00" * 100, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "another version"),
        (b'{"format_version": 2, "future": true}', "another version"),
        (b'{"format_version": 1}', "checksum"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b"9" * 100_000, "not JSON"),
        (b" " * (MAX_SIDECAR_BYTES + 1), "too large"),
        (b'"' + b"x" * (MAX_SIDECAR_BYTES * 2) + b'"', "too large"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_sidecar_of_anything_else_is_listed_as_damaged(store: SnapshotStore, content: bytes, reason: str) -> None:
    sidecar_file(store, "s").write_bytes(content)
    assert reason in assert_damaged(store)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "well"}, "another snapshot"),
        ({"principal": BEN}, "somebody else"),
        ({"rows": "many"}, "wrong rows"),
        ({"future": 1}, "wrong future"),
        ({"fetched_at": "yesterday"}, "wrong fetched_at"),
        ({"bytes_local": 1}, "another size"),
    ],
)
def test_a_sidecar_that_proves_itself_but_does_not_fit_is_damaged(
    store: SnapshotStore, fields: dict[str, Any], reason: str
) -> None:
    rewrite_sidecar(store, "s", fields)
    assert reason in assert_damaged(store)


@pytest.mark.parametrize("file", ["../../../etc/passwd", "well.0000000000000000.parquet", "", "s.parquet", 5, None])
def test_a_sidecar_cannot_point_anywhere_else(store: SnapshotStore, file: object) -> None:
    path = sidecar_file(store, "s")
    envelope = json.loads(path.read_bytes())
    envelope["file"] = file
    path.write_bytes(_render(envelope))
    assert_damaged(store)


def test_an_older_sidecar_without_a_field_still_loads(store: SnapshotStore) -> None:
    path = sidecar_file(store, "s")
    envelope = json.loads(path.read_bytes())
    for field in ("expires_at", "entity_type", "job_id", "where_sql"):
        del envelope["snapshot"][field]
    path.write_bytes(_render(envelope))
    assert store.get(ANA, "s").damaged is None
    assert store.get(ANA, "s").expires_at is None
    assert len(stored_rows(store, "s")) == 50


def test_rows_without_a_sidecar_are_listed_as_damaged_and_never_swept(store: SnapshotStore) -> None:
    """Somebody removed it by hand: what was paid for is not thrown away on the quiet."""
    sidecar_file(store, "s").unlink()
    assert "metadata is missing" in assert_damaged(store)
    store.sweep()
    assert data_file(store, "s").exists()
    assert store.drop(ANA, "s").damaged is not None
    assert [snapshot.name for snapshot in store.list(ANA)] == ["well"]


def test_a_sidecar_without_rows_is_listed_as_damaged(store: SnapshotStore) -> None:
    data_file(store, "s").unlink()
    assert "file is missing" in assert_damaged(store)


def test_a_symbolic_link_is_never_followed(store: SnapshotStore, tmp_path: Path) -> None:
    path = data_file(store, "s")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)
    assert "not a regular file" in assert_damaged(store)
    store.drop(ANA, "s")
    assert elsewhere.exists()


def test_a_sidecar_that_is_a_symbolic_link_is_never_followed(store: SnapshotStore, tmp_path: Path) -> None:
    path = sidecar_file(store, "s")
    elsewhere = tmp_path / "elsewhere"
    os.replace(path, elsewhere)
    path.symlink_to(elsewhere)
    assert "not a regular file" in assert_damaged(store)
    store.drop(ANA, "s")
    assert elsewhere.exists()


@pytest.mark.parametrize("what", ["folder", "fifo", "dangling"])
def test_anything_in_place_of_a_sidecar_is_damage_and_can_be_dropped(store: SnapshotStore, what: str) -> None:
    path = sidecar_file(store, "s")
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.with_name("nowhere"))
    assert_damaged(store)
    store.drop(ANA, "s")
    assert [snapshot.name for snapshot in store.list(ANA)] == ["well"]


def test_a_fifo_in_place_of_the_rows_does_not_hang(store: SnapshotStore) -> None:
    path = data_file(store, "s")
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in assert_damaged(store)


def test_the_folder_of_somebody_else_copied_over_is_damage(store: SnapshotStore) -> None:
    shutil.copytree(store.root / folder_name(ANA), store.root / folder_name(BEN))
    assert all("somebody else" in (snapshot.damaged or "") for snapshot in store.list(BEN))


def test_files_that_are_nobodys_are_left_alone(store: SnapshotStore) -> None:
    """Nothing of the user's is taken for ours."""
    folder = data_file(store, "s").parent
    strange = ["notes.txt", "s.parquet", "S.meta.json", "s.meta.json.bak", ".s.swp", "s.00.parquet", "con.meta.json"]
    for name in strange:
        (folder / name).write_bytes(b"mine")
    (store.root / "mine.txt").write_bytes(b"mine")
    (store.root / "mine").mkdir()
    store.sweep()
    assert [snapshot.name for snapshot in store.list(ANA)] == ["s", "well"]
    assert all((folder / name).exists() for name in strange)


def test_a_damaged_snapshot_blocks_its_name_until_forced_or_dropped(store: SnapshotStore) -> None:
    sidecar_file(store, "s").write_bytes(b"garbage")
    with pytest.raises(AgnesError, match="damaged") as refused:
        put(store, "s", sessions(5))
    assert refused.value.kind == "snapshot_exists"
    put(store, "s", sessions(5), force=True)
    assert len(stored_rows(store, "s")) == 5
    assert len(files_below(data_file(store, "s").parent)) == 4


def test_a_file_is_hashed_once_and_again_when_it_changes(store: SnapshotStore) -> None:
    path = store.verify(ANA, "s")
    known = store._rules.verifier._known
    assert len(known) == 1
    store.verify(ANA, "s")
    assert len(known) == 1
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert "checksum" in assert_damaged(store)
    assert store.list(ANA)[0].damaged == "its file fails its checksum"


def test_a_refresh_of_a_snapshot_with_a_damaged_sidecar_reports_what_is_known(store: SnapshotStore) -> None:
    sidecar_file(store, "s").write_bytes(b"")
    refreshed = refresh(store, "s", sessions(50))
    assert (refreshed.rows_old, refreshed.effective_as_of_old, refreshed.rows_new) == (None, None, 50)
    assert refreshed.bytes_local_old > 0


@pytest.mark.parametrize("one_line", [True, False])
def test_a_large_sidecar_is_one_line_and_an_indented_one_is_read_as_well(store: SnapshotStore, one_line: bool) -> None:
    path = sidecar_file(store, "s")
    envelope = json.loads(path.read_bytes())
    envelope["snapshot"]["where"] = "x" * 100_000
    assert _render(envelope).count(b"\n") == 1
    path.write_bytes(_render(envelope, one_line=one_line))
    assert store.get(ANA, "s").damaged is None
    for before, after in ((b", ", b",\t"), (b"{", b"{ "), (b"\n", b"\n\n")):
        path.write_bytes(_render(envelope, one_line=one_line).replace(before, after, 1))
        if path.read_bytes() != _render(envelope, one_line=one_line):
            assert "checksum" in (store.get(ANA, "s").damaged or "")
