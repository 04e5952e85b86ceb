"""The server that an impatient person writes: nobody is asked, nothing is bounded, and what fails, fails.

    python bench/bare_server.py FOLDER

Some of its tools do in the fewest steps what an answer of ours owes its caller; no server can do without them.
FOLDER holds `events.parquet` and the texts to be said. Not a bench itself: `calls.py` and `concurrency.py` start it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import anyio.to_thread
import duckdb
import sqlglot

from mcp.server import MCPServer  # isort: skip
from mcp.types import CallToolResult, TextContent  # isort: skip

server = MCPServer("bare")
folder = Path(sys.argv[1])
events = str(folder / "events.parquet")
connection = duckdb.connect(config={"threads": 2})
connection.execute(f"CREATE VIEW events AS FROM read_parquet('{events}')")
books = sqlite3.connect(folder / "books.sqlite", check_same_thread=False, isolation_level=None)
books.execute("PRAGMA journal_mode = WAL")
books.execute("PRAGMA synchronous = NORMAL")  # what costs nothing need not outlive the machine
books.execute("CREATE TABLE booked (bytes INT, open INT)")
one_at_a_time = threading.Lock()


def text_of(name: str) -> str:
    return (folder / f"{name}.txt").read_text()


def compact(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"), default=str)


def both(text: str) -> CallToolResult:
    """As text and in structure."""
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=json.loads(text))


def record(what: str) -> None:
    with (folder / "recorded.jsonl").open("a") as lines:
        lines.write(json.dumps({"what": what}) + "\n")


def look() -> bytes:
    with open(events, "rb") as file:
        os.fstat(file.fileno())
        return file.read(16)


def count() -> list[Any]:
    with one_at_a_time:
        return books.execute("SELECT sum(bytes), sum(open) FROM booked").fetchall()


def reserve() -> int:
    with one_at_a_time:
        books.execute("BEGIN IMMEDIATE")
        books.execute("SELECT sum(bytes), sum(open) FROM booked").fetchall()
        row = books.execute("INSERT INTO booked VALUES (0, 1)").lastrowid
        books.execute("COMMIT")
    return row or 0


def settle(row: int) -> None:
    with one_at_a_time:
        books.execute("DELETE FROM booked WHERE rowid = ?", [row])


def rows_of(own: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    cursor = own.cursor().execute(sql)
    return {"columns": [column[0] for column in cursor.description], "rows": cursor.fetchall()}


def confirmed(columns: str, where: str, limit: int) -> str:
    """The statement: its condition read, rendered and read again, the whole parsed by DuckDB."""
    if not where:
        return f"SELECT {columns} FROM events LIMIT {limit}"
    condition = sqlglot.parse_one(where, dialect="duckdb").sql("duckdb")
    assert sqlglot.parse_one(condition, dialect="duckdb").sql("duckdb") == condition
    sql = f"SELECT {columns} FROM events WHERE ({condition}) LIMIT {limit}"
    parsed = connection.cursor().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    assert parsed is not None
    assert len(json.loads(parsed[0])["statements"]) == 1
    return sql


def buy(columns: str, where: str, limit: int) -> CallToolResult:
    sql = confirmed(columns, where, limit)
    look()
    row = reserve()
    body = rows_of(connection, sql)
    settle(row)
    text = compact(body)
    assert len(text) < 10**6
    record(where)
    return both(text)


def ask_alone(sql: str) -> CallToolResult:
    with duckdb.connect(config={"threads": 2}) as own:
        own.execute(f"CREATE VIEW events AS FROM read_parquet('{events}')")
        own.execute(f"SET allowed_paths = ['{events}']")
        own.execute("SET enable_external_access = false")
        own.execute("SET lock_configuration = true")
        body = rows_of(own, sql)
    record(sql)
    return both(compact(body))


@server.tool()
async def ping() -> str:
    return "pong"


@server.tool()
async def said(name: str) -> str:
    return text_of(name)


@server.tool()
async def recorded(name: str) -> CallToolResult:
    """The same in structure as well, and a line on the disk before the answer leaves."""
    text = text_of(name)
    await anyio.to_thread.run_sync(record, name)
    return both(text)


@server.tool()
async def looked(name: str) -> CallToolResult:
    """The same once a file was looked at."""
    await anyio.to_thread.run_sync(look)
    text = text_of(name)
    await anyio.to_thread.run_sync(record, name)
    return both(text)


@server.tool()
async def counted(name: str) -> CallToolResult:
    """The same once the books were read."""
    await anyio.to_thread.run_sync(count)
    text = text_of(name)
    await anyio.to_thread.run_sync(record, name)
    return both(text)


@server.tool()
async def rows(sql: str) -> str:
    return await anyio.to_thread.run_sync(lambda: compact(rows_of(connection, sql)))


@server.tool()
async def structured(sql: str) -> CallToolResult:
    """The same rows as structured content beside the text."""
    return await anyio.to_thread.run_sync(lambda: both(compact(rows_of(connection, sql))))


@server.tool()
async def bought(columns: str, where: str, limit: int) -> CallToolResult:
    """All that a scan of ours owes its caller, one after the other in one thread."""
    return await anyio.to_thread.run_sync(buy, columns, where, limit)


@server.tool()
async def alone(sql: str) -> CallToolResult:
    """Rows from an instance of DuckDB that nobody else has, and that may read one file."""
    return await anyio.to_thread.run_sync(ask_alone, sql)


if __name__ == "__main__":
    server.run()
