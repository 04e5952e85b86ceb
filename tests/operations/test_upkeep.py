"""A reload: what the configuration says of a table now is what its next call sees, though its files are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from anyio import from_thread, lowlevel

from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest, Table

ME = Principal("me", local=True)


def instance(folder: Path, entry: dict[str, Any]) -> Settings:
    table = {"id": "numbers", "source_type": "local", "query_mode": "local", **entry}
    return Settings.model_validate({"data_dir": str(folder / "state"), "tables": [table]})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    with duckdb.connect(str(tmp_path / "some.duckdb")) as connection:
        connection.execute("CREATE TABLE first AS SELECT 1 AS n; CREATE TABLE second AS SELECT 'two' AS word")
        connection.execute("CREATE SCHEMA other; CREATE TABLE other.first AS SELECT DATE '2026-01-02' AS day")
    (tmp_path / "some.csv").write_text("code;n\n007;1\n")
    (tmp_path / "country=CZ").mkdir()
    (tmp_path / "country=CZ" / "some.csv").write_text("n\n1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after", "columns", "row"),
    [
        (
            {"path": "some.duckdb", "source_table": "first"},
            {"path": "some.duckdb", "source_table": "second"},
            [("word", "VARCHAR")],
            ["two"],
        ),
        (
            {"path": "some.duckdb", "source_table": "first"},
            {"path": "some.duckdb", "source_table": "first", "source_schema": "other"},
            [("day", "DATE")],
            ["2026-01-02"],
        ),
        (
            {"path": "some.csv"},
            {"path": "some.csv", "csv": {"types": {"n": "VARCHAR"}}},
            [("code", "VARCHAR"), ("n", "VARCHAR")],
            ["007", "1"],
        ),
        (
            {"path": "some.csv"},
            {"path": "some.csv", "csv": {"delimiter": ",", "header": True}},
            [("code;n", "VARCHAR")],
            ["007;1"],
        ),
        (
            {"path": "country=*/*.csv"},
            {"path": "country=*/*.csv", "hive": False},
            [("n", "BIGINT")],
            [1],
        ),
    ],
    ids=["another table of its file", "another schema of its file", "types", "another layout", "folders that are none"],
)
async def test_a_table_that_is_read_otherwise_now(
    files: Path, before: dict[str, Any], after: dict[str, Any], columns: list[tuple[str, str]], row: list[Any]
) -> None:
    def at(entry: dict[str, Any]) -> Settings:
        return instance(files, entry | {"path": str(files / entry["path"])})

    async with Gateway(at(before)) as gateway:
        seen = await gateway.scans.scan(ME, ScanRequest(table_id="numbers", limit=5))
        await gateway.catalog.columns(ME, "numbers")
        assert seen.rows != [row]
        await gateway.upkeep.reload(at(after))
        schema = await gateway.catalog.columns(ME, "numbers")
        assert [(column.name, column.type) for column in schema.columns] == columns
        assert (await gateway.scans.scan(ME, ScanRequest(table_id="numbers", limit=5))).rows == [row]


GRANTED = {"to her": ["numbers"], "to all tables": "*", "not to her": []}


@pytest.mark.parametrize("before", GRANTED)
@pytest.mark.parametrize("after", GRANTED)
async def test_no_call_reads_one_table_under_the_grant_of_another(
    files: Path, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id changes table and grant at once: calls that come exactly before and after the tables are exchanged."""

    def at(path: str, tables: Any) -> Settings:
        described = instance(
            files, {"path": str(files / path), "source_table": "first" if path.endswith(".duckdb") else ""}
        ).model_dump(include={"data_dir", "tables"})
        return Settings.model_validate({**described, "access": {"users": [{"name": "ana", "tables": tables}]}})

    async def reads() -> list[Any] | str:
        try:
            scanned = await gateway.scans.scan(Principal("ana"), ScanRequest(table_id="numbers", limit=5))
        except AgnesError as error:
            return error.kind
        assert [table.id for table in gateway.tables.visible(Principal("ana"))] == ["numbers"]
        return scanned.rows

    old, new, none = [["007", 1]], [[1]], "table_not_found"
    loop = lowlevel.current_token()
    async with Gateway(at("some.csv", GRANTED[before])) as gateway:
        exchange = gateway.registry.replace_configured

        def gate(settings: Settings) -> set[str]:
            seen.append(from_thread.run(reads, token=loop))
            changed = exchange(settings)
            seen.append(from_thread.run(reads, token=loop))
            return changed

        monkeypatch.setattr(gateway.registry, "replace_configured", gate)
        seen = [await reads()]
        await gateway.upkeep.reload(at("some.duckdb", GRANTED[after]))
        seen.append(await reads())
    had, has = before != "not to her", after != "not to her"
    both = had and has
    assert seen == [old if had else none, old if both else none, new if both else none, new if has else none]


@pytest.mark.parametrize("described", [False, True], ids=["columns", "rows"])
async def test_calls_over_a_reload_keep_nothing_of_each_other(
    files: Path, described: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file is read otherwise: a reload comes exactly between a call's look at the table and its schema, and a
    call exactly between the exchange of the tables and the end of the reload."""

    def at(**csv: Any) -> Settings:
        return instance(files, {"path": str(files / "some.csv"), "csv": csv})

    async def seen() -> list[str]:
        if described:
            return [str(value) for value in (await gateway.descriptions.sample(ME, "numbers", 1)).rows[0]]
        return [column.type for column in (await gateway.catalog.columns(ME, "numbers")).columns]

    old, new, newest = (["007", "1"], ["7", "1"], ["7.0", "1"]) if described else (
        ["VARCHAR", "BIGINT"], ["BIGINT", "BIGINT"], ["DOUBLE", "BIGINT"]
    )  # fmt: skip
    loop = lowlevel.current_token()
    async with Gateway(at()) as gateway:
        source = gateway.sources.of(gateway.tables.registered["numbers"])
        look, exchange = source.state, gateway.registry.replace_configured
        reloads = [at(types={"code": "BIGINT"})]
        meanwhile: list[list[str]] = []

        def look_and_reload(table: Table) -> object:
            found = look(table)
            while reloads:
                from_thread.run(gateway.upkeep.reload, reloads.pop(), token=loop)
            return found

        def exchange_and_call(settings: Settings) -> set[str]:
            changed = exchange(settings)
            meanwhile.append(from_thread.run(seen, token=loop))
            return changed

        monkeypatch.setattr(source, "state", look_and_reload)
        assert await seen() == old  # it began before
        assert await seen() == new
        monkeypatch.setattr(gateway.registry, "replace_configured", exchange_and_call)
        await gateway.upkeep.reload(at(types={"code": "DOUBLE"}))
        assert [*meanwhile, await seen()] == [newest, newest]
