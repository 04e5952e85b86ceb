"""Child processes for the tests that kill, race or limit them."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.context import ForkServerContext

import pytest


@pytest.fixture(scope="session")
def children() -> ForkServerContext:
    """Children forked from a process that has the imports done, and no thread."""
    if sys.platform == "win32":
        pytest.skip("there is no fork on Windows")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["duckdb", "pyarrow.parquet", "pyarrow.compute", "filelock", "agnes_mcp.snapshots"])
    return context
