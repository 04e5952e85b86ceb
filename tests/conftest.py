"""What every test may use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.instances import settings_of, tables_of, write_files

from agnes_mcp.config import Settings
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
