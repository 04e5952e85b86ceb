"""Instances over real files, and ways to reach them: the gateway, the SDK's client in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
import duckdb
from mcp import Client

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal
from agnes_mcp.serving.server import build_server

if TYPE_CHECKING:
    from agnes_mcp.stand_in import StandIn

ME = Principal("me", local=True)
ERAS: tuple[Literal["auto", "legacy"], ...] = ("auto", "legacy")

ORDERS = """
    SELECT i AS order_id, CASE i % 3 WHEN 0 THEN 'CZ' WHEN 1 THEN 'DE' END AS country,
           CAST(i * 1.5 AS DECIMAL(12, 2)) AS amount, DATE '2026-01-01' + CAST(i % 30 AS INT) AS day,
           {'channel': 'web', 'clicks': [i, i + 1]} AS visit
    FROM range(1000) AS r(i)"""
EVENTS = "SELECT i AS id, DATE '2026-01-01' + CAST(i % 4 AS INT) AS day, 'x' || i AS note FROM range(400) AS r(i)"
PEOPLE = "SELECT i AS person_id, 'person ' || i AS name FROM range(50) AS r(i)"


def write(folder: Path, name: str, select: str, options: str = "FORMAT parquet") -> Path:
    """The rows of `select` as a file (or hive folder) called `name`."""
    target = folder / name
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY ({select}) TO '{target}' ({options})")
    return target


def write_files(folder: Path) -> dict[str, Path]:
    """One table of each kind that a local source knows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts").mkdir()
    for part in range(3):
        write(folder / "parts", f"part{part}.parquet", f"SELECT i + {part * 10} AS id FROM range(10) AS r(i)")
    database = folder / "shop.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"CREATE TABLE people AS {PEOPLE}; CREATE TABLE Cities AS SELECT 'Brno' AS city")
    return {
        "orders": write(folder, "orders.parquet", ORDERS),
        "events": write(folder, "events", EVENTS, "FORMAT parquet, PARTITION_BY (day)"),
        "parts": folder / "parts" / "*.parquet",
        "prices": write(folder, "prices.csv", "SELECT i AS id, i * 2.5 AS price FROM range(7) AS r(i)", "HEADER"),
        "people": database,
        "cities": database,
    }


def table(table_id: str, path: Path | str, **more: Any) -> dict[str, Any]:
    return {"id": table_id, "source_type": "local", "path": str(path), **more}


def tables_of(files: dict[str, Path]) -> list[dict[str, Any]]:
    more: dict[str, dict[str, Any]] = {
        "orders": {"description": "Orders of the shop", "primary_key": ["order_id"]},
        "people": {"source_table": "people"},
        "cities": {"source_table": "Cities"},
    }
    return [table(name, path, **more.get(name, {})) for name, path in files.items()]


def remote_table(table_id: str, **more: Any) -> dict[str, Any]:
    """The table of `my_dataset` that is called as its id."""
    return {"id": table_id, "source_type": "bigquery", "bucket": "my_dataset", "source_table": table_id, **more}


def bigquery_at(bq: StandIn, **more: Any) -> dict[str, Any]:
    """The settings of BigQuery that lead to a stand-in."""
    storage = f"grpc://{bq.grpc_target}"
    return {"project": "my-project", "api_endpoint": bq.api_endpoint, "storage_endpoint": storage, **more}


#: One process for queries, where a test is not about them: each costs a third of a second of a processor.
ONE_PROCESS = {"query_workers": 1}


def settings_of(data_dir: Path, tables: list[dict[str, Any]], **more: Any) -> Settings:
    engine = {**ONE_PROCESS, **more.pop("engine", {})}
    return Settings.model_validate({"data_dir": str(data_dir), "tables": tables, "engine": engine, **more})


@asynccontextmanager
async def connected(gateway: Gateway, mode: Literal["auto", "legacy"], **options: Any) -> AsyncIterator[Client]:
    """The SDK's client, in memory, to a server over that gateway."""
    server = await anyio.to_thread.run_sync(lambda: build_server(gateway, lambda: ME))  # imports the tools
    async with Client(server, mode=mode, **options) as client:
        yield client


def body_of(result: Any) -> dict[str, Any]:
    """The structured content of a tool's result."""
    assert result.structured_content is not None
    return dict(result.structured_content)
