"""The register of ids: an id keeps its table, whatever is created, dropped, renamed, restarted or raced."""

from __future__ import annotations

import json
import multiprocessing
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agnes_mcp.catalog.ids import Ids, Moved, table_id_of
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table

P, D = "my-project", "my_dataset"


def at(*names: str, dataset: str = D) -> list[tuple[str, str, str]]:
    return [(P, dataset, name) for name in names]


def give(ids: Ids, *names: str, dataset: str = D) -> dict[str, str]:
    return {place[2]: given for place, given in ids.give(at(*names, dataset=dataset), ()).items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ids.json"


def test_a_newcomer_never_takes_an_id(path: Path) -> None:
    assert give(Ids(path), "my_table") == {"my_table": "my_table"}
    again = Ids(path)
    assert give(again, "my-table", "my_table") == {"my_table": "my_table", "my-table": "my_dataset_my_table"}
    assert give(Ids(path), "my-table") == {"my-table": "my_dataset_my_table"}, "also while the first one is gone"
    assert give(Ids(path), "my_table", "my-table")["my_table"] == "my_table", "and once it is back"


def test_names_that_collide_when_first_seen_are_all_qualified(path: Path) -> None:
    given = give(Ids(path), "my-table", "my_table", "other")
    assert given["other"] == "other"
    assert "my_table" not in given.values()
    assert len(set(given.values())) == 3
    assert given == give(Ids(path), "other", "my_table", "my-table"), "in whatever order they are listed later"


def test_a_newcomer_does_not_take_the_name_that_none_of_them_got(path: Path) -> None:
    """Whoever writes `my_table` into a grant means the table that is called so."""
    first = give(Ids(path), "my_table", "My_Table")
    later = give(Ids(path), "my_table", "My_Table", "my table")
    assert {name: later[name] for name in first} == first
    assert "my_table" not in later.values()
    assert len(set(later.values())) == 3


def test_the_same_name_in_two_datasets(path: Path) -> None:
    ids = Ids(path)
    given = ids.give([*at("t"), *at("t", dataset="other")], ())
    assert set(given.values()) == {"my_dataset_t", "other_t"}


def test_cases_of_one_name_are_different_tables(path: Path) -> None:
    given = give(Ids(path), "Orders", "orders", "ORDERS")
    assert len(set(given.values())) == 3


def test_an_id_of_the_operator_is_nobody_elses(path: Path) -> None:
    ids = Ids(path)
    assert ids.configure({"orders": "my-project.a.x"}) == []
    assert ids.give(at("orders"), {"orders"}) == {(P, D, "orders"): "my_dataset_orders"}
    assert ids.give(at("local_one"), {"local_one"}) == {(P, D, "local_one"): "my_dataset_local_one"}


def test_the_operators_word_is_taken_and_said_once(path: Path) -> None:
    ids = Ids(path)
    give(ids, "orders")
    assert ids.configure({"orders": f"{P}.elsewhere.orders"}) == [
        Moved("orders", f"{P}.{D}.orders", f"{P}.elsewhere.orders")
    ]
    assert ids.configure({"orders": f"{P}.elsewhere.orders"}) == []
    assert Ids(path).configure({"orders": f"{P}.elsewhere.orders"}) == []
    later = Ids(path)
    assert give(later, "orders")["orders"] == "my_dataset_orders", "the table that had the id gets another"
    assert later.moved == {"orders": [f"{P}.{D}.orders"]}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("my-table", "my_table"),
        ("Orders 2026", "orders_2026"),
        ("Über_straße", "uber_strasse"),
        ("नमस्ते", None),
        ("ตารางลูกค้า", None),
        ("顧客", None),
        ("заказы", "zakazy"),
        ("---", None),
        ("x" * 1000, "x" * 64),
    ],
)
def test_names_in_any_script_get_a_usable_id(name: str, wanted: str | None) -> None:
    found = table_id_of(name)
    assert found.isascii()
    assert found.strip("_")
    assert len(found) <= 64
    assert wanted is None or found == wanted


def test_marks_make_a_different_name(path: Path) -> None:
    given = give(Ids(path), "ลูกค้า", "ลูกคา")
    assert len(set(given.values())) == 2


DAMAGED = (
    "", "{", "[]", '{"format": 1}', '{"format": 99, "ids": {}, "moved": {}}', '{"format": 1, "ids": {}}',
    '{"format": 1, "ids": [], "moved": {}}', '{"format": 1, "ids": {}, "moved": []}',
    "[" * 100_000,
    '{"format": 1, "ids": {"a": 5}, "moved": {}}', '{"format": 1, "ids": {}, "moved": {"a": 5}}',
    '{"format": 1, "ids": {}, "moved": {"a": "b"}}', '{"format": 1, "ids": {}, "moved": {"a": [5]}}',
)  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_register_gives_no_id(path: Path, content: str) -> None:
    """To begin anew would let an id mean another table."""
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(AgnesError, match="storage_failed") as told:
        give(Ids(path), "orders")
    assert str(path.parent) not in f"{told.value.message}{told.value.hint}"
    assert path.read_text() == content


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond 64 bytes: a write ends with an error, whoever runs the tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_id_that_could_not_be_written_is_not_given(path: Path) -> None:
    ids = Ids(path)
    assert give(ids, "orders") == {"orders": "orders"}
    before = path.read_text()
    for _ in range(2):  # the second time it would be known, had it been kept
        with full_disk(), pytest.raises(AgnesError, match="storage_failed"):
            give(ids, "orders", "people")
        with full_disk(), pytest.raises(AgnesError, match="storage_failed"):
            ids.configure({"orders": "my-project.my_dataset.others"})
    assert path.read_text() == before
    assert not list(path.parent.glob(".ids-*"))
    assert ids.given(at("orders", "people")) == {at("orders")[0]: "orders"}
    assert not ids.moved
    assert give(ids, "orders", "people") == {"orders": "orders", "people": "people"}


def test_tables_with_an_id_are_served_while_a_new_one_cannot_get_one(path: Path) -> None:
    def tables(*names: str) -> list[Table]:
        kind = {"source_type": "bigquery", "query_mode": "remote", "bucket": D}
        return [Table.model_validate({"id": name, "source_table": name, **kind}) for name in names]

    Registry([], Ids(path), P, [D]).replace_discovered(tables("orders", "people"))
    registry = Registry(tables("mine"), Ids(path), P, [D])
    registry.bind()
    with full_disk(), pytest.raises(AgnesError, match="storage_failed"):
        registry.replace_discovered(tables("orders", "people", "recent"))
    assert sorted(registry.by_id) == ["mine", "orders", "people"]
    registry.replace_discovered(tables("orders", "people", "recent"))
    assert sorted(registry.by_id) == ["mine", "orders", "people", "recent"]


def _race(path: str, own: str, ready: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    ids = Ids(Path(path))
    for number in range(20):
        give(ids, f"shared-{number}", f"shared_{number}", f"{own}_{number}")


@pytest.mark.race
def test_processes_that_list_at_once_agree(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(4)
    racing = [context.Process(target=_race, args=(str(path), f"own{n}", ready)) for n in range(4)]
    for process in racing:
        process.start()
    for process in racing:
        process.join(100)
    assert [process.exitcode for process in racing] == [0] * 4
    content = json.loads(path.read_text())["ids"]
    assert len(content) == len(set(content.values())) == 20 * 2 + 4 * 20


def test_ten_thousand_tables_are_registered_in_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = Ids._write

    def counted(ids: Ids) -> None:
        writes.append(1)
        write(ids)

    monkeypatch.setattr(Ids, "_write", counted)
    ids = Ids(path)
    names = [f"table_{number}" for number in range(10_000)]
    given = give(ids, *names)
    assert len(set(given.values())) == 10_000
    assert give(ids, *names) == given
    assert len(writes) == 1
