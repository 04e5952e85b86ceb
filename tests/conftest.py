"""What every test may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import duckdb
import pytest
from blockbuster import BlockBuster, BlockBusterFunction
from support.instances import settings_of, tables_of, write_files

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One local table of each kind, read-only."""
    return write_files(tmp_path_factory.mktemp("files"))


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
