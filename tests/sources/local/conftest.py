"""What tests of local files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.sources.local.source import LocalSource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.workbench import JOB


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSource]:
    """Over a warehouse of its own, with one process for what runs apart."""
    warehouse = Warehouse(memory_limit_bytes=2**28, threads=1, spill_root=tmp_path_factory.mktemp("spill"))
    source = LocalSource(warehouse, Processes(JOB, size=1))
    yield source
    source.close()
    warehouse.close()
