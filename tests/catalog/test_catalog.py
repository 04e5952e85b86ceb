"""The catalog: found by any word, paged without gaps, within one answer's size, at ten thousand tables too."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.instances import ME, settings_of, table

from agnes_mcp.answers.fitting import chars_of, compact
from agnes_mcp.catalog.cache import TtlCache
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.sources.local.source import LocalSource


async def ids_of(gateway: Gateway, **asked: Any) -> list[str]:
    """The ids of every page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await gateway.catalog.browse(ME, cursor=cursor, **asked)
        assert chars_of(page) <= gateway.settings.api.max_result_chars
        assert page.tables or not page.total
        found += [entry.id for entry in page.tables]
        if page.next_cursor is None:
            assert page.total == len(found)
            return found
        cursor = page.next_cursor


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("orders", ["orders"]),
        ("ORDERS  ", ["orders"]),
        ("shop", ["orders"]),
        ("country amount", ["orders"]),
        ("visit.channel", ["orders"]),
        ("orders country", ["orders"]),
        ("person", ["people"]),
        ("id", ["cities", "events", "orders", "parts", "people", "prices"]),
        ("no such word", []),
        ("%", []),
        ("' OR 1=1", []),
    ],
)
async def test_every_word_is_found_somewhere(gateway: Gateway, search: str, found: list[str]) -> None:
    if search == "id":
        found = [name for name in found if name != "cities"]  # its only column is city
    assert sorted(await ids_of(gateway, search=search)) == found


async def test_the_best_match_comes_first(tmp_path: Path, files: dict[str, Path]) -> None:
    """By exact id, then id or name, then description, then columns."""
    tables = [
        table("a_column", files["orders"]),
        table("b_described", files["people"], description="Has much to do with amount."),
        table("c_amount_daily", files["people"]),
        table("amount", files["people"]),
        table("d_else", files["cities"]),
    ]
    async with Gateway(settings_of(tmp_path, tables)) as gateway:
        assert await ids_of(gateway, search="amount") == ["amount", "c_amount_daily", "b_described", "a_column"]
        assert await ids_of(gateway, search="amount", limit=1) == await ids_of(gateway, search="amount")


async def test_an_entry_says_how_the_table_is_read(gateway: Gateway) -> None:
    """Examples only on columns that exist."""
    entry = (await gateway.catalog.browse(ME, search="orders")).tables[0]
    assert (entry.source_type, entry.query_mode, entry.sql_flavor) == ("local", "local", "duckdb")
    assert (entry.rows, entry.primary_key) == (1000, ["order_id"])
    columns = {column.name for column in (await gateway.catalog.columns(ME, "orders")).columns}
    assert entry.where_examples
    for example in entry.where_examples:
        assert example.split()[0] in columns
        assert (await gateway.scans.estimate(ME, request_with(example))).sql
    assert "orders" in entry.fetch_via


def request_with(where: str) -> Any:
    from agnes_mcp.models import ScanRequest

    return ScanRequest(table_id="orders", where=where)


@pytest.mark.slow
async def test_ten_thousand_tables(tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One file behind all of them; every page fits, none is missing, none comes twice."""
    monkeypatch.setattr("agnes_mcp.operations.catalog.LEARN_FOR_S", 0.02)
    tables = [
        table(f"t{n:05}", files["orders"], name=f"Table {n}", description=f"Number {n} of many. " + "words " * (n % 60))
        for n in range(10_000)
    ]
    async with Gateway(settings_of(tmp_path, tables)) as gateway:
        assert await ids_of(gateway, limit=500) == [f"t{n:05}" for n in range(10_000)]
        assert await ids_of(gateway, search="t09999") == ["t09999"]
        found = await ids_of(gateway, search="number 77", limit=500)
        assert len(found) == len([n for n in range(10_000) if "77" in str(n)])
        assert (await gateway.catalog.browse(ME, search="no such table")).total == 0


async def test_one_entry_too_long_for_an_answer_does_not_stop_the_paging(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    keys = [f"a_column_with_a_rather_long_name_{n}" for n in range(400)]
    tables = [table(f"t{n}", files["people"], primary_key=keys, description="d" * 5_000) for n in range(5)]
    async with Gateway(settings_of(tmp_path, tables, api={"max_result_chars": 20_000})) as gateway:
        assert await ids_of(gateway) == [f"t{n}" for n in range(5)]


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "!!!", "é", "a" * 10_000, "\0",
        base64.urlsafe_b64encode(b"[1]").decode(),
        base64.urlsafe_b64encode(b"null").decode(),
        base64.urlsafe_b64encode(json.dumps(["a", "b", "", None]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps([0, {}, "", None]).encode()).decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
    ids=range(10),
)  # fmt: skip
async def test_a_made_up_cursor_is_refused(gateway: Gateway, cursor: str) -> None:
    with pytest.raises(AgnesError) as caught:
        await gateway.catalog.browse(ME, cursor=cursor)
    assert caught.value.kind == "invalid_cursor"


async def test_a_cursor_belongs_to_its_search(gateway: Gateway) -> None:
    cursor = (await gateway.catalog.browse(ME, search="id", limit=1)).next_cursor
    assert cursor
    assert (await gateway.catalog.browse(ME, search="id", limit=1, cursor=cursor)).tables
    for asked in ({"search": "country"}, {"source_type": "local", "search": "id"}, {}):
        with pytest.raises(AgnesError) as caught:
            await gateway.catalog.browse(ME, cursor=cursor, **asked)  # type: ignore[arg-type]
        assert caught.value.kind == "invalid_cursor"


@pytest.mark.slow
async def test_a_very_long_search_costs_neither_time_nor_room(tmp_path: Path, files: dict[str, Path]) -> None:
    tables = [table(f"t{n:04}", files["orders"]) for n in range(2_000)]
    async with Gateway(settings_of(tmp_path, tables)) as gateway:
        page = await gateway.catalog.browse(ME, search="t " * 8_000, limit=50)
        assert page.next_cursor
        assert len(compact(page.model_dump(mode="json"))) <= gateway.settings.api.max_result_chars
        with pytest.raises(AgnesError):
            await gateway.catalog.browse(ME, search="t", cursor=page.next_cursor)


async def test_what_somebody_wrote_reaches_the_agent_without_hidden_characters(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    hostile = "plain\u202e\u200b\x1b[31m\0\ttext\n\nmore"
    async with Gateway(settings_of(tmp_path, [table("t", files["people"], description=hostile)])) as gateway:
        assert (await gateway.catalog.browse(ME)).tables[0].description == "plain[31m text  more"


async def test_metadata_is_read_once_until_it_is_old(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog's own time to live; refresh reads again; 0 keeps nothing."""
    reads: list[str] = []
    real = LocalSource.schema

    def counted(self: LocalSource, asked: Any, call: Any) -> Any:
        reads.append(asked.id)
        return real(self, asked, call)

    monkeypatch.setattr(LocalSource, "schema", counted)
    async with Gateway(settings_of(tmp_path, [table("t", files["orders"])])) as gateway:
        for refresh, expected in ((False, 1), (False, 1), (True, 2), (False, 2)):
            await gateway.catalog.browse(ME, refresh=refresh)
            assert len(reads) == expected
    reads.clear()
    uncached = {"catalog_cache_ttl_seconds": 0}
    async with Gateway(settings_of(tmp_path, [table("t", files["orders"])], api=uncached)) as gateway:
        await gateway.catalog.browse(ME)
        await gateway.catalog.browse(ME)
    assert len(reads) == 2


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_cache_forgets_the_old_and_the_least_used() -> None:
    clock = Clock()
    cache: TtlCache[int] = TtlCache(2, 10, clock)
    cache.put("a", 1)
    cache.put("b", 0)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    clock.now = 9.9
    assert cache.get("a") == 1
    clock.now = 10
    assert (cache.get("a"), len(cache)) == (None, 1)
    cache.put("orders", 1)
    cache.put("orders|5", 2)
    cache.invalidate("orders")
    assert len(cache) == 0
    off: TtlCache[int] = TtlCache(2, 0, clock)
    off.put("a", 1)
    assert off.get("a") is None


@pytest.mark.parametrize("forgotten", ["orders", "orders|5"])
async def test_what_was_being_made_when_it_was_forgotten_is_not_kept(forgotten: str) -> None:
    """A reload forgets a table whose old schema somebody is just asking for."""
    import anyio

    cache: TtlCache[str] = TtlCache(8, 60)
    asked, let_go, answers = anyio.Event(), anyio.Event(), list[str]()

    async def old() -> str:
        asked.set()
        await let_go.wait()
        return "old"

    async def new() -> str:
        return "new"

    async def ask(make: Callable[[], Awaitable[str]]) -> None:
        answers.append(await cache.get_or_make(forgotten, make))

    with anyio.fail_after(60):  # without forgetting, the second would wait for the first
        async with anyio.create_task_group() as group:
            group.start_soon(ask, old)
            await asked.wait()
            cache.invalidate("orders")
            await ask(new)
            let_go.set()
    assert answers == ["new", "old"]
    assert cache.get(forgotten) == "new"


async def test_concurrent_misses_make_the_value_once_and_a_failure_is_not_shared() -> None:
    import anyio

    cache: TtlCache[int] = TtlCache(2, 10)
    made: list[int] = []
    running = most = 0

    async def make() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        made.append(1)
        await anyio.sleep(0.01)
        running -= 1
        if len(made) == 1:
            raise ValueError
        return len(made)

    answers: list[int | None] = []

    async def ask() -> None:
        try:
            answers.append(await cache.get_or_make("k", make))
        except ValueError:
            answers.append(None)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert (len(made), most) == (2, 1)
    assert sorted(answers, key=str) == [2] * 19 + [None]


async def test_a_late_caller_waits_for_the_one_that_tries_again() -> None:
    import anyio

    cache: TtlCache[str] = TtlCache(2, 10)
    release = {"first": anyio.Event(), "second": anyio.Event()}
    trying: list[str] = []

    async def make(name: str) -> str:
        trying.append(name)
        if name in release:
            await release[name].wait()
        if name == "first":
            raise ValueError
        return name

    answers: list[str] = []

    async def ask(name: str) -> None:
        try:
            answers.append(await cache.get_or_make("k", lambda: make(name)))
        except ValueError:
            answers.append("failed")

    async with anyio.create_task_group() as group:
        group.start_soon(ask, "first")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, "second")
        await anyio.wait_all_tasks_blocked()
        release["first"].set()
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, "late")
        await anyio.wait_all_tasks_blocked()
        assert trying == ["first", "second"]
        release["second"].set()
    assert answers == ["failed", "second", "second"]
