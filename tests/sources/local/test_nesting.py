"""JSON that is nested deeper than any stack holds."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.instances import connected, settings_of, table

from agnes_mcp.gateway import Gateway
from agnes_mcp.sources.local import nesting
from agnes_mcp.sources.local.nesting import is_too_deep
from agnes_mcp.sql.duckdb_lines import line

LEVELS = 50


def deep(levels: int, of_lists: bool) -> bytes:
    return b"[" * levels + b"]" * levels if of_lists else b'{"a":' * levels + b"1" + b"}" * levels


def made_up(source: random.Random, levels: int) -> Any:
    """A value of at most so many levels, with brackets, quotes and backslashes in its texts."""
    if levels == 0 or source.random() < 0.2:
        return "".join(source.choices('[]{}"\\ab', k=source.randrange(9)))
    inner = [made_up(source, source.randrange(levels)) for _ in range(source.randrange(3))]
    return inner if source.random() < 0.5 else {str(each)[:5]: each for each in inner}


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 2**20])
def test_depth_is_that_of_the_brackets_outside_of_texts(monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    monkeypatch.setattr(nesting, "MOST_LEVELS", LEVELS)
    monkeypatch.setattr(nesting, "_PIECE_BYTES", piece_bytes)
    source = random.Random(7)
    for _ in range(200):
        inner = json.dumps(made_up(source, 6)).encode()
        for levels, expected in ((LEVELS // 3, False), (LEVELS + 1, True)):
            text = b'["' + b"[" * 99 + b'\\"\\\\",' + b"[" * levels + inner + b"]" * levels + b', "]]]]"]'
            assert is_too_deep(io.BytesIO(text), bool) is expected, text
            many = b"\n".join([inner] * 20)
            assert not is_too_deep(io.BytesIO(many), bool), many


@pytest.mark.parametrize("of_lists", [True, False])
async def test_what_would_end_the_server_is_refused(tmp_path: Path, of_lists: bool) -> None:
    """Packed as well; what is less deep is served beside it."""
    texts = {"plain.json": deep(100_000, of_lists), "packed.json.gz": gzip.compress(deep(100_000, of_lists))}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    levels = 300 if line() == "1.5" else 60  # to DuckDB 2.0 the former is too deep, and no more than that
    (tmp_path / "fine.json").write_bytes(b'{"a":' + deep(levels, of_lists) + b"}")
    tables = [table(name.partition(".")[0], tmp_path / name) for name in (*texts, "fine.json")]
    async with Gateway(settings_of(tmp_path / "s", tables)) as gateway, connected(gateway, "auto") as client:
        for name in ("plain", "packed"):
            for tool, arguments in (("schema", {"table_id": name}), ("query", {"sql": f"SELECT * FROM {name}"})):
                told = (await client.call_tool(tool, arguments)).structured_content or {}
                assert (told["error"], "nested deeper than" in told["message"]) == ("table_unavailable", True)
        fine = (await client.call_tool("schema", {"table_id": "fine"})).structured_content or {}
        assert [column["name"] for column in fine["columns"]] == ["a"]
