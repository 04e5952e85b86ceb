"""The parts of an engine, opened as the settings say. Whatever loads slowly is imported when it is first wanted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agnes_mcp.config.settings import GIB, EngineSettings, Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.sources.warehouse import Warehouse

if TYPE_CHECKING:
    from agnes_mcp.engine import Engine
    from agnes_mcp.sources import Source
    from agnes_mcp.workbench import Workbench


def open_bigquery(engine: Engine) -> Source:
    """BigQuery as it is configured. Raises `not_configured`."""
    from agnes_mcp.sources.bigquery.source import BigQuerySource

    settings = engine.settings.data_source.bigquery
    if settings is None:
        raise AgnesError("not_configured", "BigQuery is not configured.", "Set data_source.bigquery.project.")
    return BigQuerySource(settings, engine.warehouse)


def open_snapshots(settings: Settings) -> SnapshotStore:
    """The store of this instance; nothing is on the disk before the first snapshot."""
    kept = settings.snapshots
    return SnapshotStore(
        settings.data_dir / "snapshots",
        quota_bytes=int(kept.quota_gb * GIB),
        stale_warn_days=kept.stale_warn_days,
        min_free_bytes=int(kept.min_free_gb * GIB),
    )


def open_warehouse(engine: EngineSettings) -> Warehouse:
    """The shared DuckDB connection; opened with the first cursor. A local extension file is not signed."""
    return Warehouse(
        memory_limit_bytes=engine.memory_limit_bytes,
        threads=engine.threads,
        unsigned_extensions="AGNES_BIGQUERY_EXTENSION" in os.environ,
    )


def open_workbench(engine: EngineSettings) -> Workbench:
    """Where agent-written SQL runs; its processes start with the first query, or when it is warmed."""
    from agnes_mcp.calls.processes.processes import Processes
    from agnes_mcp.workbench import JOB, Workbench

    processes = Processes(
        JOB, size=engine.query_workers, memory_bytes=engine.query_memory_bytes, threads=engine.threads
    )
    return Workbench(processes, timeout_s=engine.query_timeout_seconds)
