"""Files as people have them: the rows that bare DuckDB reads, or one clear kind, in every tool alike."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.awkward import Awkward, awkward_files, nested
from support.instances import connected, settings_of, table
from support.waiting import PATIENCE_S
from support.workbooks import workbooks

from agnes_mcp.access.grants import os_user
from agnes_mcp.doctor import examine
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.sql import duckdb_lines

TOOLS = ("schema", "sample", "describe", "scan", "fetch", "query")


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Awkward]:
    return awkward_files(tmp_path_factory.mktemp("awkward")) | workbooks(tmp_path_factory.mktemp("workbooks"))


@pytest.fixture
async def gateway(tmp_path: Path, awkward: dict[str, Awkward]) -> AsyncIterator[Gateway]:
    tables = [table(name, each.path, **each.table) for name, each in awkward.items()]
    async with Gateway(settings_of(tmp_path / "s", tables)) as gateway:
        yield gateway


def leaves(value: Any) -> Any:
    """The same structure with every leaf as text: a DECIMAL is a number to DuckDB and text to us."""
    if isinstance(value, dict):
        return {key: leaves(item) for key, item in value.items()}
    if isinstance(value, list):
        return [leaves(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if value is None else str(value)


@pytest.fixture
def bare() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB as it comes: a connection takes longer to make than these files to read."""
    with duckdb.connect(":memory:") as connection:
        yield connection


def rows_of_duckdb(bare: duckdb.DuckDBPyConnection, each: Awkward) -> list[Any]:
    sql = each.rows.replace("{path}", str(each.path).replace("'", "''"))
    rows = bare.execute(f"SELECT to_json(COLUMNS(*)) FROM ({sql})").fetchall()
    return [[None if cell is None else leaves(json.loads(cell)) for cell in row] for row in rows]


def call_of(tool: str, name: str) -> dict[str, Any]:
    match tool:
        case "query":
            return {"sql": f'SELECT * FROM "{name}"'}
        case "fetch":
            return {"table_id": name, "name": "kept"}
        case "describe":
            return {"table_id": name, "profile": True}
        case _:
            return {"table_id": name}


async def test_each_is_served_with_duckdbs_rows_or_named(
    gateway: Gateway, awkward: dict[str, Awkward], bare: duckdb.DuckDBPyConnection
) -> None:
    wrong: list[str] = []
    async with connected(gateway, "auto") as client:
        for name, each in awkward.items():
            for tool in TOOLS:
                arguments = call_of(tool, name)
                if tool == "fetch":
                    arguments["name"] = f"kept_{name}"
                if tool == "query" and each.query_kind:  # of every row, however early the answer would be full
                    arguments["sql"] = f'SELECT max(COLUMNS(*)) FROM "{name}"'
                answer = (await client.call_tool(tool, arguments)).structured_content or {}
                wrong += [f"{name} {tool}: {problem}" for problem in problems(bare, each, tool, answer)]
    assert wrong == [], "\n".join(wrong)


def problems(bare: duckdb.DuckDBPyConnection, each: Awkward, tool: str, answer: dict[str, Any]) -> list[str]:
    wanted = each.query_kind if tool == "query" and each.query_kind else each.kind
    if wanted and not (each.whole and tool in ("schema", "sample", "scan")):
        if answer.get("error") != wanted:
            return [f"{answer.get('error') or 'served'} instead of {wanted}"]
        told = answer["message"] + answer["hint"]
        said = each.says in told or tool == "query"  # which knows of the files only that they cannot be read
        leaked = [text for text in ("/etc", "root:", str(each.path.parent)) if text in told]
        return [f"does not say {each.says!r}: {told}"] * (not said) + [f"leaks {text}" for text in leaked]
    if "error" in answer:
        return [f"{answer['error']}: {answer['message']}"]
    if tool in ("scan", "query") and not each.whole and answer["row_count"] < 1000:
        rows, expected = leaves(answer["rows"]), rows_of_duckdb(bare, each)
        return [] if sorted(map(str, rows)) == sorted(map(str, expected)) else [f"{rows} instead of {expected}"]
    return []


@pytest.mark.parametrize(
    ("compression", "written", "patched", "words"),
    [
        ("none", b"caf__", b"caf\xe9_", "holds text that is not UTF-8"),
        pytest.param(  # the column's codec: Hadoop's LZ4
            *("lz4", b"\x01t\x15\x0e", b"\x01t\x15\x0a", "is compressed in a way"),
            marks=pytest.mark.skipif(duckdb_lines.line() != "1.5", reason="this line reads it"),
        ),
    ],
)
async def test_a_column_of_parquet_that_cannot_be_read_is_called_what_it_is(
    tmp_path: Path, compression: str, written: bytes, patched: bytes, words: str
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1], "t": ["caf__"]}), path, compression=compression, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(written, patched))
    async with (
        Gateway(settings_of(tmp_path / "s", [table("t", path)])) as gateway,
        connected(gateway, "auto") as client,
    ):
        for tool in TOOLS[1:]:
            told = (await client.call_tool(tool, call_of(tool, "t"))).structured_content or {}
            assert (tool, told.get("error")) == (tool, "table_unavailable")
            assert words in told["message"]
            assert "caf" not in told["message"]
        answer = (await client.call_tool("scan", {"table_id": "t", "select": ["a"]})).structured_content or {}
        assert answer["rows"] == [[1]]


@pytest.mark.parametrize(("name", "value"), [("old_bounds", "v"), ("old_bounds_within", "v.d")])
async def test_a_condition_is_not_judged_by_bounds_in_the_wrong_order(
    gateway: Gateway, awkward: dict[str, Awkward], name: str, value: str
) -> None:
    condition = f"{value} = 1 OR {value} < 1.5 AND {value} <= 1"
    with duckdb.connect(":memory:") as connection:
        at_first = connection.execute(f"SELECT count(*) FROM '{awkward[name].path}' WHERE {value} = 1").fetchall()
    if duckdb_lines.line() == "1.5":  # once every line is right, the copies of decimals in `sql.views` can go
        assert at_first == [(0,)]
    async with connected(gateway, "auto") as client:
        for tool, arguments in (
            ("scan", {"table_id": name, "where": condition}),
            ("query", {"sql": f"SELECT * FROM {name} WHERE {condition}"}),
        ):
            answer = (await client.call_tool(tool, arguments)).structured_content or {}
            found = [row[0]["d"] if value == "v.d" else row[0] for row in answer["rows"]]
            assert (tool, [float(each) for each in found]) == (tool, [1.0])


#: What Zstandard's own program makes of `PACKED_TEXT`: a frame with a checksum, which pyarrow's have not.
PACKED_TEXT = b"a,b\n1,10\n2,20\n3,30\n4,40\n"
FRAME = "KLUv/QRYwQAAYSxiCjEsMTAKMiwyMAozLDMwCjQsNDAKnlBybA=="


@pytest.mark.parametrize("ending", ["gz", "zst"])
async def test_a_flipped_bit_of_a_packed_text_never_gives_other_rows(tmp_path: Path, ending: str) -> None:
    """Each byte has one of its bits flipped; a frame of Zstandard without a checksum proves nothing of itself."""
    whole = gzip.compress(PACKED_TEXT, mtime=0) if ending == "gz" else base64.b64decode(FRAME)
    path, other = tmp_path / f"t.csv.{ending}", tmp_path / "other"
    path.write_bytes(whole)
    rows = [[1, 10], [2, 20], [3, 30], [4, 40]]
    async with Gateway(settings_of(tmp_path / "s", [table("t", path)])) as gateway:
        assert (await gateway.descriptions.sample(os_user(), "t")).rows == rows
        found = 0
        for place in range(len(whole)):
            other.write_bytes(bytes(byte ^ (1 << place % 8 if at == place else 0) for at, byte in enumerate(whole)))
            other.replace(path)
            try:
                told: Any = (await gateway.descriptions.sample(os_user(), "t")).rows
            except AgnesError as error:
                told, found = error.kind, found + 1
            assert told in (rows, "table_unavailable")
    assert found > len(whole) // 2  # some bytes of a header mean nothing


async def test_types_of_a_csv_are_inferred_over_the_whole_file_and_kept(
    gateway: Gateway, awkward: dict[str, Awkward]
) -> None:
    """A value after the first 20,480 rows decides too; every tool has the same type."""
    async with connected(gateway, "auto") as client:
        schema = (await client.call_tool("schema", {"table_id": "late_text"})).structured_content or {}
        assert [column["type"] for column in schema["columns"]] == ["BIGINT", "VARCHAR"]
        query = {"sql": "SELECT typeof(y), count(*) FROM late_text GROUP BY 1"}
        assert (await client.call_tool("query", query)).structured_content["rows"] == [["VARCHAR", 25_001]]


@pytest.mark.parametrize(
    ("files", "csv", "rows"),
    [
        (["a,b\n1,2\n"], {"skip": 100}, None),
        (["a,b\n1,2\n"], {"skip": 3, "header": True}, None),
        (["a,b\n1,2\n"], {"skip": 2, "header": False}, None),
        (["a,b\n1,2"], {"skip": 1, "header": False}, [[1, 2]]),
        (["title\na,b\n1,2\n"], {"skip": 1}, [[1, 2]]),
        (["a,b\n1,2\n", "a,b\n"], {"skip": 1, "header": False}, [[1, 2]]),
        (["a,b\n1,2\n", ""], {"skip": 2, "header": False}, None),
    ],
)
async def test_what_skip_leaves_nothing_of_says_so(
    tmp_path: Path, files: list[str], csv: dict[str, Any], rows: list[Any] | None
) -> None:
    for number, text in enumerate(files):
        (tmp_path / f"t{number}.csv").write_text(text)
    async with Gateway(settings_of(tmp_path / "s", [table("t", tmp_path / "t*.csv", csv=csv)])) as gateway:
        if rows is not None:
            assert (await gateway.descriptions.sample(os_user(), "t")).rows == rows
            return
        with pytest.raises(AgnesError, match=r"csv\.skip is \d+, and its file has no more than \d lines?\.") as told:
            await gateway.descriptions.sample(os_user(), "t")
    assert (told.value.kind, "fewer lines" in told.value.hint) == ("table_unavailable", True)


async def test_a_duckdb_file_does_not_keep_its_writer_out(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as writer:
        writer.execute("CREATE TABLE t AS SELECT 1 AS a")
    async with (
        Gateway(settings_of(tmp_path / "s", [table("t", path)])) as gateway,
        connected(gateway, "auto") as client,
    ):
        assert (await client.call_tool("scan", {"table_id": "t"})).structured_content["rows"] == [[1]]
        await client.call_tool("query", {"sql": "SELECT * FROM t"})
        code = f"import duckdb; duckdb.connect({str(path)!r}).execute('INSERT INTO t VALUES (2)')"
        # The process that was asked lets go of the file as it makes itself ready again, which may be after its answer.
        with anyio.fail_after(PATIENCE_S):
            while (await anyio.run_process([sys.executable, "-c", code], check=False)).returncode != 0:
                pass
        assert (await client.call_tool("scan", {"table_id": "t"})).structured_content["rows"] == [[1], [2]]


async def test_a_file_that_is_being_written_is_locked_and_says_so(tmp_path: Path) -> None:
    """Another process holds the file; then it lets go, and the same call is answered."""
    path = tmp_path / "shop.duckdb"
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(path)!r}); c.execute('CREATE TABLE t AS SELECT 1 AS a');"
        "print('holding', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(  # noqa: ASYNC220 - a holder of the file, not work of the test
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    try:
        async with (
            Gateway(settings_of(tmp_path / "s", [table("t", path)])) as gateway,
            connected(gateway, "auto") as client,
        ):
            body = (await client.call_tool("scan", {"table_id": "t"})).structured_content or {}
            assert body["error"] == "table_locked"
            holder.communicate()
            assert (await client.call_tool("scan", {"table_id": "t"})).structured_content["rows"] == [[1]]
    finally:
        holder.kill()
        holder.wait()


async def test_a_replaced_file_is_noticed_at_once(tmp_path: Path) -> None:
    """Same size, same second, another file: the inode tells."""
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    async with (
        Gateway(settings_of(tmp_path / "s", [table("t", path)])) as gateway,
        connected(gateway, "auto") as client,
    ):
        await client.call_tool("schema", {"table_id": "t"})
        assert (await client.call_tool("scan", {"table_id": "t"})).structured_content["rows"] == [[1]]
        times = path.stat()
        (tmp_path / "new.csv").write_text("a\nx\n")
        (tmp_path / "new.csv").replace(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        schema = (await client.call_tool("schema", {"table_id": "t"})).structured_content or {}
        assert [column["type"] for column in schema["columns"]] == ["VARCHAR"]
        assert (await client.call_tool("scan", {"table_id": "t"})).structured_content["rows"] == [["x"]]


async def test_a_column_that_is_too_deep_is_told_wherever_it_is_named(tmp_path: Path) -> None:
    """The columns beside it are served."""
    (tmp_path / "nested").mkdir()
    deep = nested(tmp_path / "nested")["lists_30"].path
    async with (
        Gateway(settings_of(tmp_path / "s", [table("t", deep)])) as gateway,
        connected(gateway, "auto") as client,
    ):

        async def said(tool: str, **arguments: Any) -> dict[str, Any]:
            return (await client.call_tool(tool, arguments)).structured_content or {}

        reason = "it has 30 lists in one another, and no more than 16 are read"
        schema = await said("schema", table_id="t")
        assert ([column["name"] for column in schema["columns"]], schema["columns_total"]) == (["id"], 1)
        assert schema["note"] == f"Not served: 'x': {reason}."
        told = [
            await said("scan", table_id="t", select=["X"]),
            await said("scan", table_id="t", where="x IS NULL"),
            await said("scan", table_id="t", order_by=["x"]),
            await said("sample", table_id="t", select=["x"]),
        ]
        assert {(each["error"], each["message"]) for each in told} == {
            ("unknown_column", f"The column '{name}' of 't' is left out: {reason}.") for name in "Xx"
        }
        query = await said("query", sql="SELECT id, x FROM t")
        assert (query["error"], query["message"]) == ("query_failed", f"The column 'x' is left out: {reason}.")
        assert (await said("query", sql="SELECT * FROM t"))["rows"] == [[1]]
        assert [f.found for f in await examine(gateway) if f.subject == "table t"] == [
            f"1 column, 1 row. Not served: 'x': {reason}."
        ]
