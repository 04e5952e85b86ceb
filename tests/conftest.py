"""What every test may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from blockbuster import BlockBuster, BlockBusterFunction
from support.instances import settings_of, table, tables_of, write, write_files

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway

BIG = "SELECT i AS id, i % 1000 AS bucket, 'x' || i AS note FROM range(2000000) AS r(i)"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One local table of each kind, read-only."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Settings of the local tables: small ones of each kind, and `big`."""
    folder = tmp_path_factory.mktemp("tables")
    return [*tables_of(write_files(folder / "files")), table("big", write(folder, "big.parquet", BIG))]


@pytest.fixture
def settings(tmp_path: Path, files: dict[str, Path]) -> Settings:
    return settings_of(tmp_path / "state", tables_of(files))


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def guarded_loop() -> Iterator[None]:
    """Blocking calls of ours on the event loop are errors: files, sleeps, sockets, DuckDB."""
    buster = BlockBuster(scanned_modules=["agnes_mcp", "agnes_mcp.tools"])
    for name in ("execute", "fetchall", "fetchmany", "to_arrow_table", "close"):
        buster.functions[f"duckdb.{name}"] = BlockBusterFunction(
            duckdb.DuckDBPyConnection, name, scanned_modules=["agnes_mcp", "agnes_mcp.tools"]
        )
    buster.activate()
    yield
    buster.deactivate()
