"""Loopback services for the BigQuery source: a metadata server, and no credentials of the machine the tests run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.metadata_server import MetadataServer

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.stand_in import Partition, StandIn


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key file, no gcloud login, and a metadata address at which nothing listens."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the pauses between two tries."""
    monkeypatch.setattr("agnes_mcp.sources.bigquery.requests.FIRST_PAUSE_S", 0.025)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        monkeypatch.setenv("GCE_METADATA_HOST", server.host)
        monkeypatch.setenv("GCE_METADATA_IP", server.host)
        yield server


@pytest.fixture
def bq(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """BigQuery on the loopback interface, asked without credentials, with `my_dataset.orders` of 1,000 rows."""
    monkeypatch.delenv("GCE_METADATA_IP")
    with StandIn(project="my-project", location="US") as stand_in:
        stand_in.create_table(
            "my_dataset",
            "orders",
            schema="id INT64 NOT NULL, day DATE, country STRING, amount FLOAT64",
            sql=(
                "SELECT i AS id, DATE '2026-01-01' + CAST(i % 10 AS INTEGER) AS day, "
                "CASE WHEN i % 2 = 0 THEN 'CZ' ELSE 'DE' END AS country, i / 4 AS amount FROM range(1000) t(i)"
            ),
            partition=Partition("day"),
            clustering=["country"],
            primary_key=["id"],
            description="One row per order",
        )
        yield stand_in


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    """The shared DuckDB connection; opened by the first read of whole columns."""
    warehouse = Warehouse(memory_limit_bytes=256 * 2**20, threads=2, spill_root=tmp_path)
    yield warehouse
    warehouse.close()


@pytest.fixture
def open_source(bq: StandIn, warehouse: Warehouse) -> Iterator[Callable[..., BigQuerySource]]:
    """Makes a source for the stand-in, over the shared connection; what is given overrides its settings."""
    opened: list[BigQuerySource] = []

    def make(warehouse: Warehouse | None = warehouse, **given: Any) -> BigQuerySource:
        settings = {
            "project": "my-project",
            "api_endpoint": bq.api_endpoint,
            "storage_endpoint": f"grpc://{bq.grpc_target}",
            **given,
        }
        opened.append(BigQuerySource(BigQuerySettings.model_validate(settings), warehouse))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


@pytest.fixture
def source(open_source: Callable[..., BigQuerySource]) -> BigQuerySource:
    return open_source()
