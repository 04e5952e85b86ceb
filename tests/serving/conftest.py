"""Servers that several tests share, started once per module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.served import Served, serve, user, write_instance


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
