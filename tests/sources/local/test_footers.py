"""Parquet files that say more of themselves than is read, told before DuckDB opens them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.instances import connected, settings_of, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.sources.local import footers
from agnes_mcp.sources.local.footers import refuse_vast


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
