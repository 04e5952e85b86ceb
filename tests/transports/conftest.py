"""Servers that several tests share, started once per module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.instances import table, tables_of, write, write_files
from transports.served import Served, serve, user, write_instance

BIG = "SELECT i AS id, i % 1000 AS bucket, 'x' || i AS note FROM range(2000000) AS r(i)"


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Settings of the local tables: small ones of each kind, and `big`."""
    folder = tmp_path_factory.mktemp("tables")
    return [*tables_of(write_files(folder / "files")), table("big", write(folder, "big.parquet", BIG))]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, tables: list[dict[str, Any]]) -> Path:
    """An instance file with three users: ana reads orders and big, bob people, eve nothing."""
    users = [user("ana", ["orders", "big", "events"]), user("bob", ["people"]), user("eve", [])]
    server = {"max_body_bytes": 50_000, "body_timeout_seconds": 1.0, "max_calls_per_minute_per_user": None}
    path = tmp_path_factory.mktemp("instance") / "instance.yaml"
    return write_instance(path, tables=tables, access={"users": users}, server=server)


@pytest.fixture(scope="module")
def served(instance: Path) -> Iterator[Served]:
    with serve(instance) as running:
        yield running
