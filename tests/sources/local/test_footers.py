"""Parquet files that say more of themselves than is read, or hold what is misread, told before DuckDB opens them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.instances import connected, settings_of, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.sources.local import footers
from agnes_mcp.sources.local.footers import misread_columns, refuse_vast
from agnes_mcp.sql.duckdb_lines import misreads_wide_decimals


def wide(path: Path, columns: int) -> str:
    pq.write_table(pa.schema([(f"c{n}", pa.int8()) for n in range(columns)]).empty_table(), path, store_schema=False)
    return str(path)


@pytest.mark.parametrize("columns", [1, 13, 14, 15, 16, 127, 128, 20_000])
def test_columns_are_counted_as_the_file_does(tmp_path: Path, columns: int) -> None:
    """Where their number stands in one byte, in two, and in three."""
    path = wide(tmp_path / "t.parquet", columns)
    found = pq.read_metadata(path)
    assert footers._measured(path) == (found.serialized_size, columns)
    refuse_vast("t", [path])


def test_fields_are_columns_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [{"b": 1, "c": [2]}]}), tmp_path / "t.parquet")
    assert footers._measured(str(tmp_path / "t.parquet"))[1] == 5  # a, b, c, and two for the list


async def test_more_columns_than_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "MOST_COLUMNS", 1_000)
    path = wide(tmp_path / "t.parquet", 1_001)
    settings = settings_of(tmp_path / "s", [table("t", path)])
    async with Gateway(settings) as gateway, connected(gateway, "auto") as client:
        for tool, arguments in (("schema", {"table_id": "t"}), ("query", {"sql": "SELECT c1 FROM t"})):
            told = (await client.call_tool(tool, arguments)).structured_content or {}
            assert (told["error"], "has 1,001 columns" in told["message"]) == ("unsupported_format", True)


def test_a_longer_footer_than_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wide(tmp_path / "t.parquet", 2_000)
    monkeypatch.setattr(footers, "MOST_BYTES", pq.read_metadata(path).serialized_size - 1)
    with pytest.raises(AgnesError, match=r"its footer\), and no more than") as told:
        refuse_vast("t", [path])
    assert told.value.kind == "unsupported_format"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff\xff\xff\xffPAR1", b"\x15\x15\0\0\0\x02\0\0\0PAR1", b"x" * 99])
def test_what_is_damaged_is_left_to_duckdb(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    refuse_vast("t", [str(path)])


def decimals(path: Path, digits: int) -> str:
    """A plain column of such decimals, and columns that hold them in fields, beside one that has none."""
    kind = pa.decimal256(digits, 2)
    one = Decimal("12.50")
    columns: dict[str, Any] = {
        "id": [1],
        "d": pa.array([one], kind),
        "within": pa.array([{"a": 1, "b": [one]}], pa.struct([("a", pa.int8()), ("b", pa.list_(kind))])),
        "beside": [{"a": {"b": 1}, "d": 2.5}],
    }
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("digits", [38, 39, 50, 56, 57, 58, 74, 75, 76])
def test_columns_of_which_duckdb_gives_other_numbers_are_named(tmp_path: Path, digits: int) -> None:
    """Wherever what it reads is not what was written, and nowhere else. Once no line has such columns,
    `misread_columns` can go."""
    path = decimals(tmp_path / "t.parquet", digits)
    with duckdb.connect() as connection:
        read = connection.execute(f"SELECT d::DOUBLE, within.b[1]::DOUBLE FROM '{path}'").fetchall()
        misread = misread_columns(connection, [path, decimals(tmp_path / "u.parquet", 20)])
    assert set(misread) == (set() if read == [(12.5, 12.5)] else {"d", "within"})
    assert misreads_wide_decimals() or not misread
    assert all(reason.startswith(f"it has decimals of {digits} digits, ") for reason in misread.values())


@pytest.mark.skipif(not misreads_wide_decimals(), reason="this line reads them")
async def test_columns_that_duckdb_misreads_are_left_out(tmp_path: Path) -> None:
    """In the server's own view and in those of other processes; the columns beside them are served."""
    settings = settings_of(tmp_path / "s", [table("t", decimals(tmp_path / "t.parquet", 50))])
    async with Gateway(settings) as gateway, connected(gateway, "auto") as client:

        async def said(tool: str, **arguments: Any) -> dict[str, Any]:
            return (await client.call_tool(tool, arguments)).structured_content or {}

        schema = await said("schema", table_id="t")
        assert [column["name"] for column in schema["columns"]] == ["id", "beside"]
        assert schema["note"].startswith("Not served: 'd': it has decimals of 50 digits")
        assert (await said("scan", table_id="t", select=["id"]))["rows"] == [[1]]
        assert (await said("scan", table_id="t", select=["d"]))["error"] == "unknown_column"
        assert (await said("query", sql="SELECT id FROM t"))["rows"] == [[1]]
        told = await said("query", sql="SELECT d FROM t")
        assert (told["error"], "The column 'd' is left out" in told["message"]) == ("query_failed", True)
