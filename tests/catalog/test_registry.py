"""Registering tables by the ten thousand: as much work as there are tables."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from support.steps import steps_of

from agnes_mcp.catalog.ids import Ids
from agnes_mcp.catalog.index import Index, Known, listed_places
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.search import Finder, folded
from agnes_mcp.config.settings import Settings
from agnes_mcp.models import Column, Table, TableSchema


def listed(count: int) -> list[Table]:
    return [
        Table(id=f"t{n}", source_type="bigquery", query_mode="remote", bucket="my_dataset", source_table=f"t{n}")
        for n in range(count)
    ]


def test_twice_the_tables_are_twice_the_work(tmp_path: Path) -> None:
    """At first, when all names are new, and again, when all have an id."""

    def work(count: int) -> tuple[int, int]:
        registry = Registry([], Ids(tmp_path / f"{count}.json"), "my-project", ["my_dataset"])
        tables = listed(count)
        anew = steps_of(lambda: registry.replace_discovered(tables))
        assert len(registry.by_id) == count
        return anew, steps_of(lambda: registry.replace_discovered(tables))

    for few, many in zip(work(1000), work(2000), strict=True):
        assert many < 2.5 * few


def test_a_search_goes_over_what_is_kept_and_notices_what_is_new() -> None:
    index = Index(None)
    finder, tables = Finder(index), listed(50)
    assert finder.find(tables, "heron") == []
    index.put(tables[7], TableSchema(table_id="t7", columns=[Column(name="Heron", type="STRING")]))
    index.put(tables[9], TableSchema(table_id="t9", columns=[], description="Herons\nand wings"))
    assert [(rank, table.id) for (rank, _), table in finder.find(tables, "heron")] == [(2, "t9"), (3, "t7")]
    assert [table.id for _, table in finder.find(tables, "wings t9")] == ["t9"]
    index.forget(tables[7])
    assert [table.id for _, table in finder.find(tables, "heron")] == ["t9"]


def test_descriptions_of_columns_and_of_their_fields_are_searched() -> None:
    index = Index(None)
    finder, tables = Finder(index), listed(200)
    street = Column(name="street", type="STRING", description="Where the Courier rings")
    address = Column(name="address", type="STRUCT", description="As\nprinted", fields=[street])
    index.put(tables[150], TableSchema(table_id="t150", columns=[address]))
    index.put(tables[3], TableSchema(table_id="t3", columns=[Column(name="courier", type="STRING")]))
    assert [(rank, table.id) for (rank, _), table in finder.find(tables, "courier")] == [(3, "t3"), (4, "t150")]
    assert [table.id for _, table in finder.find(tables, "as printed")] == ["t150"]
    assert [(rank, table.id) for (rank, _), table in finder.find(tables, "address rings")] == [(5, "t150")]


@pytest.mark.parametrize(
    ("described", "sought"),
    [
        ("Größe in cm", "GRÖSSE"),
        ("cafe\u0301 sales", "caf\u00e9"),
        ("عدد الطلبات", "الطلبات"),
        ("ยอดขายรายวัน", "ขายราย"),
        ("ग्राहक का पता", "ग्राहक"),
        ("売上 \uff49\uff44", "id"),
        ("🐦 herons", "🐦"),
        ("a b", "b"),
        ("x" * 70 + "needle", "xneedle"),
    ],
)
def test_words_of_any_length_and_script_are_found(described: str, sought: str) -> None:
    index = Index(None)
    finder, tables = Finder(index), listed(130)
    index.put(tables[129], TableSchema(table_id="t129", columns=[], description=described))
    assert [table.id for _, table in finder.find(tables, folded(sought))] == ["t129"]


def test_a_search_finds_what_looking_at_every_text_would() -> None:
    """Most tables are never looked at: none of those that hold the words may be among them."""
    chance, index = random.Random(7), Index(None)
    finder, tables = Finder(index), listed(300)
    texts = {}
    for table in tables:
        texts[table.id] = "".join(chance.choices("abc é中_", k=chance.randrange(40)))
        index.put(table, TableSchema(table_id=table.id, columns=[], description=texts[table.id]))
    for _ in range(300):
        sought = "".join(chance.choices("abc é中_", k=chance.randrange(1, 9)))
        if words := sought.split():
            found = {table.id for _, table in finder.find(tables, sought)}
            assert found == {key for key, text in texts.items() if all(word in text for word in words)}


def test_what_another_process_wrote_is_taken_over_where_it_is_newer(tmp_path: Path) -> None:
    def known(index: Index, table: Table) -> str:
        found = index.get(table)
        return found.columns if found else ""

    one, two = Index(tmp_path / "tables.jsonl"), Index(tmp_path / "tables.jsonl")
    tables = [table.model_copy(update={"place": f"my-project.my_dataset.{table.id}"}) for table in listed(2)]
    places = [table.place for table in tables]
    one.put(tables[0], TableSchema(table_id="t0", columns=[Column(name="old", type="INT64")]))
    one.note_listed(places)
    one.save(places)
    two.load()
    assert (known(two, tables[0]), two.listed) == ("old", frozenset(places))
    two.put(tables[0], TableSchema(table_id="t0", columns=[Column(name="new", type="INT64")]))
    two.put(tables[1], TableSchema(table_id="t1", columns=[Column(name="other", type="INT64")]))
    two.save(places)
    one.load()
    assert [known(one, table) for table in tables] == ["new", "other"]
    one.save(places[:1])
    fresh = Index(tmp_path / "tables.jsonl")
    fresh.load()
    assert [known(fresh, table) for table in tables] == ["new", "other"]  # nothing had changed, so nothing was written
    assert not list(tmp_path.glob(".tables-*"))


HEAD = b'{"format": 2}\n'
DAMAGED = {
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "no list of lines": b"[]\n",
    "another format": b'{"format": 1}\n',
    "cut": HEAD + b'{"place": "my-project.my_da',
    "empty line": HEAD + b"\n",
    "too deep": HEAD + b"[" * 100_000,
    "first line too deep": b"[" * 100_000,
    "too long a number": HEAD + b'{"place": "a.b.c", "listed": true, "known": ' + b"9" * 5000 + b"}",
    "no such knowledge": HEAD + b'{"place": "a.b.c", "listed": true, "known": [1]}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_index_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tables.jsonl"
    path.write_bytes(content)
    index = Index(path)
    index.load()
    assert index.listed == frozenset()
    assert listed_places(path) <= {"a.b.c"}
    [table] = (table.model_copy(update={"place": "my-project.my_dataset.t0"}) for table in listed(1))
    index.put(table, TableSchema(table_id="t0", columns=[Column(name="id", type="INT64")]))
    index.note_listed([table.place])
    index.save([table.place])
    again = Index(path)
    again.load()
    assert (again.listed, bool(again.get(table))) == (frozenset([table.place]), True)


#: What must not go on meanwhile is given so long to do so; on a slow machine it would be missed, and nothing else.
_A_MOMENT_S = 0.2


def test_what_is_counted_as_known_is_found_by_the_next_search() -> None:
    """Also where it is counted while it becomes known, and an earlier search is kept."""
    index = Index(None)
    finder, tables = Finder(index), listed(3)
    assert finder.find(tables, "heron") == []
    seen: list[tuple[int, int]] = []

    def look() -> None:
        seen.append((index.count(tables), len(finder.find(tables, "heron"))))

    looking = threading.Thread(target=look)

    class Watched(dict[str, Known]):
        def __setitem__(self, key: str, known: Known) -> None:
            super().__setitem__(key, known)
            looking.start()
            looking.join(_A_MOMENT_S)

    index._known = Watched()
    index.put(tables[1], TableSchema(table_id="t1", columns=[Column(name="heron", type="STRING")]))
    looking.join()
    assert seen == [(1, 1)]


def test_tables_that_are_replaced_at_once_are_all_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that ends while the configuration is read again, and an extract that comes in between."""
    registry = Registry([], Ids(tmp_path / "ids.json"), "my-project", ["my_dataset"])
    settings = Settings.model_validate({"tables": [{"id": "prices", "source_type": "local", "path": "prices.csv"}]})
    offered = Table(id="people", source_type="local", path="people.parquet")
    others = [
        threading.Thread(target=lambda: registry.replace_configured(settings)),
        threading.Thread(target=lambda: registry.replace_offered([offered])),
    ]
    give = Ids.give

    def give_late(ids: Ids, *given: Any) -> Any:
        monkeypatch.undo()
        for other in others:
            other.start()
            other.join(_A_MOMENT_S)
        return give(ids, *given)

    monkeypatch.setattr(Ids, "give", give_late)
    registry.replace_discovered(listed(2))
    for other in others:
        other.join()
    assert list(registry.by_id) == ["people", "prices", "t0", "t1"]
