"""A project with tables of each type, and a DuckDB file that stands in for it under the same three-part names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.agnes import AttachedFile

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.models import Principal
from agnes_mcp.stand_in import StandIn


@pytest.fixture(scope="session")
def bq() -> Iterator[StandIn]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GOOGLE_CLOUD_PROJECT"):
            patch.delenv(name, raising=False)
        with StandIn(project="my-project") as stand_in:
            for name in ("orders", "Odd-Name_1"):
                stand_in.create_table("my_dataset", name, schema="id INT64", rows=[{"id": i} for i in range(3)])
            stand_in.create_view("my_dataset", "orders_v", "SELECT id FROM my_dataset.orders")
            yield stand_in


@pytest.fixture
def bigquery(bq: StandIn) -> BigQuerySettings:
    return BigQuerySettings.model_validate({"project": "my-project", "api_endpoint": bq.api_endpoint})


@pytest.fixture
def attached(tmp_path: Path) -> AttachedFile:
    """Holds the same tables as the project, one of them with other rows than none."""
    file = tmp_path / "bq.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA my_dataset")
        connection.execute("CREATE TABLE my_dataset.orders AS SELECT i AS id FROM range(3) AS r(i)")
        connection.execute('CREATE TABLE my_dataset."Odd-Name_1" AS SELECT 7 AS id')
    return AttachedFile(file)


@pytest.fixture
def call() -> Call:
    return Call("extract", Principal("me"), timeout_s=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "agnes"


def read(file: Path, sql: str, attachment: AttachedFile | None = None) -> list[tuple[Any, ...]]:
    """Rows of a DuckDB file as any plain DuckDB reads it, with BigQuery attached where one is given."""
    with duckdb.connect(str(file), read_only=True) as connection:
        if attachment is not None:
            attachment.attach(connection, "bq", "project=my-project")
        return connection.execute(sql).fetchall()
