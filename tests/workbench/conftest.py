"""Small tables of every kind of file, and a pool over them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.workbench_cases import Dataset, opened, write_dataset

from agnes_mcp.workbench.workbench import Workbench


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="session")
def bench() -> Iterator[Workbench]:
    with opened(pool_size=2, memory_bytes=256 * 2**20, threads=2, timeout_s=10) as bench:
        yield bench


@pytest.fixture
def small() -> Iterator[Workbench]:
    """One process, so that callers must wait for each other."""
    with opened(pool_size=1, memory_bytes=256 * 2**20, threads=1, timeout_s=20) as bench:
        yield bench
