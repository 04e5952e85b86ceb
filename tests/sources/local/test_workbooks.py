"""Sheets of workbooks: names, types, one reading for each state of the file; and one that is too much harms nobody."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.instances import connected, settings_of, table
from support.workbooks import DATE, HEADER, HOURS, cell, row, text, workbook

from agnes_mcp.access.grants import os_user
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.sources.local.conversion import Conversions

#: Above what an interpreter and Arrow need, and far below what is asked of it here.
MEMORY_BYTES = 256 * 2**20


def a_thousandfold(path: Path) -> Path:
    """Some 400 kB that unpack to 400 MB of one cell."""
    workbook(path, {"S": HEADER + row(2, text("A2", "x"))})
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    before, after = parts.pop(sheet).split(b"<t>x</t>")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, part in parts.items():
            packed.writestr(name, part)
        with packed.open(sheet, "w") as written:
            written.write(before + b"<t>")
            for _ in range(400):
                written.write(b"x" * 2**20)
            written.write(b"</t>" + after)
    return path


async def test_names_and_types_are_those_that_the_sheet_shows(tmp_path: Path) -> None:
    first = row(1, cell("A1", 2024), text("B1", "Day"), text("C1", "day"), cell("E1", 1, kind="b"))
    second = row(
        2, cell("A2", 1), cell("B2", 45000, DATE), cell("C2", 1.5, HOURS), cell("D2", 0.5), cell("E2", "v", kind="str")
    )
    path = workbook(tmp_path / "t.xlsx", {"S": first + second})
    settings = settings_of(tmp_path / "s", [table("t", path)])
    async with Gateway(settings) as gateway, connected(gateway, "auto") as client:
        schema = (await client.call_tool("schema", {"table_id": "t"})).structured_content or {}
    assert [(column["name"], column["type"]) for column in schema["columns"]] == [
        ("2024", "BIGINT"),
        ("Day", "DATE"),
        ("day_2", "VARCHAR"),
        ("column_4", "DOUBLE"),
        ("true", "VARCHAR"),
    ]


async def test_one_that_is_too_much_is_told_and_harms_nobody(tmp_path: Path) -> None:
    """What reads it ends its process; the server answers, the other table and the mended one too."""
    bomb = a_thousandfold(tmp_path / "bomb.xlsx")
    fine = workbook(tmp_path / "fine.xlsx", {"S": HEADER + row(2, cell("A2", 1))})
    tables = [table("bomb", bomb), table("fine", fine)]
    settings = settings_of(tmp_path / "s", tables, engine={"query_memory_bytes": MEMORY_BYTES})
    async with Gateway(settings) as gateway, connected(gateway, "auto") as client:
        told: list[dict[str, Any]] = []

        async def ask(name: str) -> None:
            told.append((await client.call_tool("sample", {"table_id": name})).structured_content or {})

        async with anyio.create_task_group() as group:
            for name in ("bomb", "fine") * 4:
                group.start_soon(ask, name)
        refused = [answer for answer in told if "error" in answer]
        assert {
            (answer["error"], "more cells than fit into the memory" in answer["message"]) for answer in refused
        } == {("table_unavailable", True)}
        assert (len(refused), len(told)) == (4, 8)
        fine.replace(bomb)
        assert (await client.call_tool("sample", {"table_id": "bomb"})).structured_content["rows"] == [[1, None]]


async def test_a_state_of_a_workbook_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is refused: what takes a process to find out is not found out by every call."""
    read: list[str] = []
    known = Conversions._write

    def counting(self: Conversions, table: Any, *more: Any) -> None:
        read.append(table.id)
        known(self, table, *more)

    monkeypatch.setattr(Conversions, "_write", counting)
    good = workbook(tmp_path / "good.xlsx", {"S": HEADER + row(2, cell("A2", 1))})
    bad = workbook(tmp_path / "bad.xlsx", {"S": ""})
    async with Gateway(settings_of(tmp_path / "s", [table("good", good), table("bad", bad)])) as gateway:

        async def sample(name: str) -> None:
            if name == "good":
                assert (await gateway.descriptions.sample(os_user(), name)).rows == [[1, None]]
                return
            with pytest.raises(AgnesError, match="its sheet is empty"):
                await gateway.descriptions.sample(os_user(), name)

        async with anyio.create_task_group() as group:
            for name in ("good", "bad") * 3:
                group.start_soon(sample, name)
    assert sorted(read) == ["bad", "good"]
