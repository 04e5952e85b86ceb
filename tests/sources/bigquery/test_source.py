"""The source as a whole: cheap to import, lazy, and closed twice without harm."""

from __future__ import annotations

import subprocess
import sys

from support.bigquery import ORDERS, call
from support.metadata_server import MetadataServer

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.sources.bigquery.source import BigQuerySource

HEAVY = ("google.auth", "google.cloud", "duckdb", "pyarrow", "grpc", "sqlglot", "requests")


def test_importing_the_source_loads_none_of_googles_libraries() -> None:
    code = f"import sys, agnes_mcp.sources.bigquery.source; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_making_a_source_and_asking_its_health_touches_no_network(metadata: MetadataServer) -> None:
    """A BigQuery that is not there holds nobody up."""
    source = BigQuerySource(BigQuerySettings(project="my-project", billing_project="my-billing"))
    assert source.health() == {"project": "my-project", "billing_project": "my-billing"}
    source.close()
    assert metadata.requests == []


def test_a_closed_source_opens_again_when_asked(source: BigQuerySource) -> None:
    assert source.schema(ORDERS, call()).rows == 1000
    source.close()
    source.close()
    assert source.schema(ORDERS, call()).rows == 1000
