"""Gateways over a stand-in for BigQuery, with their own data directory and no credentials of this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.held import hold_jobs
from support.instances import ONE_PROCESS, table, write
from support.loaded import LoadedTable

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.stand_in import Partition, StandIn

MIB = 2**20
SESSIONS = """
    SELECT 's' || printf('%06d', i) AS session_id, DATE '2026-01-01' + CAST(i % 30 AS INT) AS event_date,
           CASE i % 4 WHEN 0 THEN 'CZ' WHEN 1 THEN 'DE' ELSE 'SK' END AS country, i AS amount,
           repeat('x', 200) AS padding
    FROM range(300000) AS r(i)"""


@pytest.fixture(scope="session")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> LoadedTable:
    made = {"sql": SESSIONS, "partition": Partition("event_date"), "clustering": ["country"]}
    return LoadedTable(tmp_path_factory.mktemp("sessions"), "my_dataset", "sessions", **made)


@pytest.fixture(scope="session")
def local_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = "SELECT i AS id, 'CZ' AS country FROM range(10) AS r(i)"
    return write(tmp_path_factory.mktemp("local"), "local.parquet", rows)


@pytest.fixture
def bq(sessions: LoadedTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """`my_dataset.sessions` (300,000 rows, by day), a view over it, and a small `my_dataset.orders`."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    with StandIn(project="my-project") as stand_in:
        sessions.serve(stand_in)
        stand_in.create_view("my_dataset", "sessions_v", "SELECT session_id, country FROM my_dataset.sessions")
        stand_in.create_table(
            "my_dataset", "orders", schema="id INT64, day DATE", rows=[{"id": i, "day": "2026-01-01"} for i in range(9)]
        )
        yield stand_in


@pytest.fixture
def open_gateway(bq: StandIn, local_file: Path, tmp_path: Path) -> Callable[..., Gateway]:
    """Makes a gateway; `scan`, `bigquery`, `snapshots`, `access` override settings of those sections."""

    def make(**given: Any) -> Gateway:
        remote = [
            name
            if isinstance(name, dict)
            else {"id": name, "source_type": "bigquery", "bucket": "my_dataset", "source_table": name}
            for name in given.pop("tables", ("sessions", "sessions_v", "orders"))
        ]
        bigquery = {
            "project": "my-project",
            "api_endpoint": bq.api_endpoint,
            "storage_endpoint": f"grpc://{bq.grpc_target}",
            **given.pop("bigquery", {}),
        }
        described = {
            "data_dir": str(tmp_path / "data"),
            "data_source": {"bigquery": bigquery},
            "api": {"scan": given.pop("scan", {}), **given.pop("api", {})},
            "tables": [*remote, table("local", local_file)],
            "engine": {**ONE_PROCESS, **given.pop("engine", {})},
            **given,
        }
        return Gateway(Settings.model_validate(described))

    return make


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Jobs of the stand-in are RUNNING until this is set."""
    return hold_jobs(monkeypatch)
