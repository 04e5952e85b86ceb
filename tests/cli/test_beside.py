"""Commands beside a server that runs on the same data directory: the same rows, and one day for both."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from cli.conftest import Ran
from serving.served import AGNES_MCP, Served, connect, serve

MIB = 2**20


@pytest.fixture
def served(shop: Path) -> Iterator[Served]:
    with serve(shop, HOME=str(shop.parent)) as server:
        yield server


def command(home: Path, *arguments: str) -> Ran:
    """A process of its own, as a shell starts one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    ran = subprocess.run(
        [AGNES_MCP, *arguments], capture_output=True, text=True, cwd=home, env=environment, timeout=120
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def rows_in(file: Path) -> list[tuple[object, ...]]:
    return duckdb.sql(f"SELECT session_id, amount FROM '{file}' ORDER BY amount").fetchall()


@pytest.mark.parametrize(("form", "count"), [("csv", 61), ("parquet", 62)])  # others, so that each is paid for
async def test_rows_that_go_to_a_file_are_of_the_servers_day(home: Path, served: Served, form: str, count: int) -> None:
    wanted = [(f"s{n}", n) for n in range(count)]
    asked = ("sessions", "--select", "session_id,amount", "--where", f"amount < {count}", "--yes", f"--{form}")
    for words in (("scan",), ("fetch", "--as", "kept", "--force")):
        file = home / f"{words[0]}.{form}"
        ran = command(home, *words, *asked, str(file))
        assert (ran.code, rows_in(file)) == (0, wanted), ran.err
    ran = command(home, "query", "SELECT session_id, amount FROM kept", f"--{form}", str(home / f"query.{form}"))
    assert (ran.code, rows_in(home / f"query.{form}")) == (0, wanted), ran.err

    used = json.loads(command(home, "usage", "--json").out)
    async with connect(served, "http", "auto") as client:
        told = (await client.call_tool("usage", {})).structured_content
        kept = (await client.call_tool("query", {"sql": "SELECT count(*) AS n FROM kept"})).structured_content
    assert told is not None
    assert kept is not None
    assert told["quota"]["daily_bytes_used"] == used["quota"]["daily_bytes_used"] >= 10 * MIB
    assert (used["quota"]["running_scans"], kept["rows"]) == (0, [[count]])


async def test_structured_answers_are_those_of_the_server(home: Path, served: Served) -> None:
    async with connect(served, "http", "auto") as client:
        scanned = await client.call_tool(
            "scan", {"table_id": "sessions", "select": ["amount"], "where": "amount = 3977"}
        )
        assert scanned.structured_content is not None
        paid = scanned.structured_content["bytes_billed"]
        used = json.loads(command(home, "usage", "--json").out)["quota"]["daily_bytes_used"]
        assert used == paid >= 10 * MIB
        ran = command(home, "scan", "sessions", "--select", "amount", "--where", "amount = 3978", "--json")
        answer = json.loads(ran.out)
        assert (ran.code, ran.err, answer["rows"]) == (0, "", [[3978]])
        orders = command(home, "query", "SELECT count(*) AS n FROM orders", "--json")
        free = await client.call_tool("query", {"sql": "SELECT count(*) AS n FROM orders"})
        assert free.structured_content is not None
        assert json.loads(orders.out)["rows"] == free.structured_content["rows"]
        told = (await client.call_tool("usage", {})).structured_content
    assert told is not None
    assert told["quota"]["daily_bytes_used"] == paid + answer["bytes_billed"]
