"""The stand-in as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
from support.bigquery_backend import open_session, read_table, rest_client, storage_client

SPEC = """
project: demo-project
location: EU
datasets:
  sales:
    description: What was sold
    tables:
      orders:
        parquet: orders/*.parquet
        partition: {field: day, require_filter: true}
        descriptions: {day: The day of the order}
        primary_key: [id]
        clustering: [id]
        description: One row per order
        labels: {team: sales}
      by_load: {parquet: [orders/one.parquet], partition: {type: DAY}, ingested: day}
      small: {schema: "a INT64 NOT NULL OPTIONS(description='A'), b ARRAY<STRING>", rows: [{a: 1, b: [x]}]}
      over: {view: "SELECT a FROM sales.first_v"}
      first_v: {view: "SELECT a FROM sales.small", description: The first}
      counted: {materialized_view: "SELECT COUNT(*) AS n FROM sales.small"}
      files: {external: orders/one.parquet}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders").mkdir()
    sql = "SELECT i AS id, DATE '2024-01-01' + (i % 2)::INT AS day FROM range(10) t(i)"
    duckdb.execute(f"COPY ({sql}) TO '{tmp_path}/orders/one.parquet' (FORMAT parquet)").fetchall()
    # a view must come after those it names
    first, over = SPEC.index("      first_v"), SPEC.index("      over")
    swapped = (
        SPEC[:over] + SPEC[first : SPEC.index("      counted")] + SPEC[over:first] + SPEC[SPEC.index("      counted") :]
    )
    (tmp_path / "bigquery.yaml").write_text(swapped)
    return tmp_path


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process and the line it wrote when it was ready."""
    command = [sys.executable, "-m", "agnes_mcp.stand_in", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def test_it_serves_what_it_was_told(folder: Path) -> None:
    with started("--demo", str(folder)) as (process, ready):
        assert (ready["project"], ready["pid"]) == ("demo-project", process.pid)
        with rest_client(ready["api_endpoint"], project="demo-project") as client:
            kinds = {item.table_id: item.table_type for item in client.list_tables("sales")}
            orders = client.get_table("sales.orders")
            loaded = client.query_and_wait(
                "SELECT COUNT(*) AS n FROM sales.by_load WHERE _PARTITIONDATE = '2024-01-02'"
            )
            assert [row.n for row in loaded] == [5]
            assert [row.a for row in client.query_and_wait("SELECT a FROM sales.over")] == [1]
            assert client.get_table("sales.small").schema[0].description == "A"
            assert client.get_table("sales.first_v").description == "The first"
            assert client.get_dataset("sales").description == "What was sold"
        with storage_client(ready["grpc_target"]) as storage:
            session = open_session(storage, "demo-project.sales.orders")
            assert read_table(storage, session).num_rows == 10
    assert kinds == {
        "orders": "TABLE",
        "by_load": "TABLE",
        "small": "TABLE",
        "over": "VIEW",
        "first_v": "VIEW",
        "counted": "MATERIALIZED_VIEW",
        "files": "EXTERNAL",
    }
    assert (orders.require_partition_filter, orders.time_partitioning.field, orders.location) == (True, "day", "EU")
    assert (orders.description, orders.labels, orders.clustering_fields) == (
        "One row per order",
        {"team": "sales"},
        ["id"],
    )
    assert orders.schema[1].description == "The day of the order"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal(folder: Path, number: signal.Signals) -> None:
    with started("--load", str(folder / "bigquery.yaml")) as (process, _):
        process.send_signal(number)
        assert process.wait(60) == 0


def test_it_ends_with_its_parent(folder: Path) -> None:
    with started("--demo", str(folder), "--exit-with-parent") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
        process.stdin = None


def test_tokens_and_latency_from_the_command_line(folder: Path) -> None:
    arguments = ["--require-token", "--accept-token", "good", "--job-latency", "0.1"]
    with started("--demo", str(folder), *arguments) as (_, ready):
        url = f"{ready['api_endpoint']}/bigquery/v2/projects/demo-project/datasets"
        assert requests.get(url, timeout=60).status_code == 401
        assert requests.get(url, headers={"Authorization": "Bearer good"}, timeout=60).status_code == 200


@pytest.mark.parametrize("text", ["datasets: []", "tables: {}", "- 1"])
def test_a_description_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bigquery.yaml").write_text(text)
    command = [sys.executable, "-m", "agnes_mcp.stand_in", "--demo", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "bigquery.yaml must be a mapping with a key 'datasets'" in done.stderr
