"""The server that an impatient person writes: nobody is asked, nothing is bounded, and what fails, fails.

    python bench/bare_server.py FOLDER

Some of its tools do in the fewest steps what an answer of ours owes its caller; no server can do without them.
FOLDER holds `events.parquet` and the texts to be said. Not a bench itself: `calls.py` and `concurrency.py` start it.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio.to_thread
import duckdb
import sqlglot

from mcp.server import MCPServer  # isort: skip
from mcp.types import CallToolResult, TextContent  # isort: skip

server = MCPServer("bare")
structure: ContextVar[list[Any]] = ContextVar("structure of this answer")
folder = Path(sys.argv[1])
events = str(folder / "events.parquet")
connection = duckdb.connect(config={"threads": 2})
connection.execute(f"CREATE VIEW events AS FROM read_parquet('{events}')")
books = sqlite3.connect(folder / "books.sqlite", check_same_thread=False, isolation_level=None)
books.execute("PRAGMA journal_mode = WAL")
books.execute("PRAGMA synchronous = NORMAL")  # what costs nothing need not outlive the machine
books.execute("CREATE TABLE booked (bytes INT, open INT)")
one_at_a_time = threading.Lock()


#: What a scan of ours owes its caller beside the rows' text, in the order in which `bought` is asked to keep it.
PROMISES = ("structured", "confirmed", "looked", "reserved", "measured", "recorded", "stopped")


def text_of(name: str) -> str:
    return (folder / f"{name}.txt").read_text()


def compact(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"), default=str)


async def keep_structure(ctx: Any, call_next: Any) -> Any:
    """What is JSON already stands aside while the SDK shapes the envelope, which it walks through twice."""
    kept: list[Any] = []
    mark = structure.set(kept)
    try:
        result = await call_next(ctx)
    finally:
        structure.reset(mark)
    return {**result, "structuredContent": kept[0]} if kept and isinstance(result, dict) else result


def both(text: str, body: Any = None) -> CallToolResult:
    """As text and in structure."""
    structure.get().append(json.loads(text) if body is None else body)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content={})


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
    quoted = sql.replace("'", "''")
    parsed = connection.cursor().execute(f"SELECT json_serialize_sql('{quoted}')").fetchone()
    assert parsed is not None
    assert len(json.loads(parsed[0])["statements"]) == 1
    return sql


class Purchase:
    """One scan that keeps the first so many of the promises, each in the fewest steps there are."""

    def __init__(self, columns: str, where: str, limit: int, promises: int) -> None:
        self.columns, self.where, self.limit = columns, where, limit
        self.keeps = set(PROMISES[:promises])
        self.sql, self.text, self.body, self.row = "", "", dict[str, Any](), 0

    def state(self) -> None:
        filtering = f" WHERE {self.where}" if self.where else ""
        self.sql = f"SELECT {self.columns} FROM events{filtering} LIMIT {self.limit}"
        if "confirmed" in self.keeps:
            self.sql = confirmed(self.columns, self.where, self.limit)
        if "looked" in self.keeps:
            look()

    def reserve(self) -> None:
        if "reserved" in self.keeps:
            self.row = reserve()

    def read(self) -> None:
        self.body = rows_of(connection, self.sql)
        self.text = compact(self.body)
        if "measured" in self.keeps:
            check(self.body["rows"], self.text)
        if self.row:
            settle(self.row)

    def note(self) -> None:
        if "recorded" in self.keeps:
            record(self.where)

    def whole(self) -> None:
        for step in (self.state, self.reserve, self.read, self.note):
            step()


def check(rows: list[Any], text: str) -> None:
    """What a scan looks for in every cell: one that is too long, one that no JSON holds exactly, a hidden character."""
    assert len(text) < 10**6
    assert text.isascii()
    for cells in zip(*rows, strict=True):
        kind = type(cells[0])
        if kind is str:
            assert max(map(len, cells)) < 4000
        elif kind is int:
            assert max(map(abs, cells)) < 2**53
        elif kind is float:
            assert math.isfinite(sum(cells))


def ask_alone(sql: str) -> CallToolResult:
    with duckdb.connect(config={"threads": 2}) as own:
        own.execute(f"CREATE VIEW events AS FROM read_parquet('{events}')")
        own.execute(f"SET allowed_paths = ['{events}']")
        own.execute("SET enable_external_access = false")
        own.execute("SET lock_configuration = true")
        body = rows_of(own, sql)
    record(sql)
    return both(compact(body), body)


server._lowlevel_server.middleware.append(keep_structure)


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
async def bought(columns: str, where: str, limit: int, promises: int) -> CallToolResult:
    """A scan that keeps the first so many promises: in one thread, and with the last of them in a thread for each step,
    so that it can be stopped in between."""
    purchase = Purchase(columns, where, limit, promises)
    if "stopped" in purchase.keeps:
        for step in (purchase.state, purchase.reserve, purchase.read, purchase.note):
            await anyio.to_thread.run_sync(step)
    else:
        await anyio.to_thread.run_sync(purchase.whole)
    return both(purchase.text, purchase.body)


@server.tool()
async def alone(sql: str) -> CallToolResult:
    """Rows from an instance of DuckDB that nobody else has, and that may read one file."""
    return await anyio.to_thread.run_sync(ask_alone, sql)


if __name__ == "__main__":
    server.run()
