"""SIGHUP takes over tables, users, grants and limits, and loses no session; a file with a mistake changes nothing."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from serving.served import Served, body_of, connect, serve, token_of, user, write_instance
from support.instances import write

PATIENCE_S = 60


def rewrite(config: Path, **sections: Any) -> None:
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, **sections}))


def hang_up(served: Served, word: str) -> str:
    """Send SIGHUP and await the log line that says what came of it."""
    before = len(served.log)
    served.process.send_signal(signal.SIGHUP)
    waited = threading.Event()
    for _ in range(PATIENCE_S * 20):
        found = [line for line in served.log[before:] if word in line]
        if found:
            return found[0]
        waited.wait(0.05)
    raise AssertionError(f"no word of {word!r}: {served.log[before:]}")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    first = write(tmp_path, "first.parquet", "SELECT 1 AS id")
    write(tmp_path, "second.parquet", "SELECT 2 AS id")
    return write_instance(
        tmp_path / "i" / "instance.yaml",
        tables=[{"id": "first", "path": str(first)}],
        access={"users": [user("ana", ["first", "second"])]},
    )


async def test_a_new_table_and_a_new_limit_are_there_in_the_same_session(config: Path, tmp_path: Path) -> None:
    with serve(config) as served:
        async with connect(served, "http", "legacy", token_of("ana")) as client:
            listed = body_of(await client.call_tool("catalog", {}))["tables"]
            assert [entry["id"] for entry in listed] == ["first"]
            rewrite(
                config,
                tables=[{"id": "second", "path": str(tmp_path / "second.parquet")}],
                api={"scan": {"max_limit": 7}},
                access={"users": [user("ana", ["second"]), user("ben", "*")]},
            )
            assert "1 tables, 2 users" in hang_up(served, "reloaded")
            listed = body_of(await client.call_tool("catalog", {}))["tables"]
            assert [entry["id"] for entry in listed] == ["second"]
            assert body_of(await client.call_tool("scan", {"table_id": "second", "limit": 5}))["rows"] == [[2]]
            refused = body_of(await client.call_tool("scan", {"table_id": "second", "limit": 8}))
            assert refused["error"] == "limit_too_large"
        async with connect(served, "http", "legacy", token_of("ben")) as client:
            assert body_of(await client.call_tool("usage", {}))["principal"] == "ben"


async def test_users_of_the_file_are_not_granted_what_its_ids_meant_before(config: Path, tmp_path: Path) -> None:
    """Who may call is read at every request, the tables at SIGHUP: in between no new grant reaches an old table."""
    with serve(config) as served:
        async with connect(served, "http", "legacy", token_of("ana")) as client:
            assert body_of(await client.call_tool("scan", {"table_id": "first"}))["rows"] == [[1]]
            second = [{"id": "first", "path": str(tmp_path / "second.parquet"), "description": "another one"}]
            users = [user("ana", ["first"]), user("ben", ["first"]), user("eve", "*")]
            rewrite(config, tables=second, access={"users": users})
            assert body_of(await client.call_tool("scan", {"table_id": "first"}))["rows"] == [[1]]
            for name in ("ben", "eve"):
                async with connect(served, "http", "legacy", token_of(name)) as newcomer:
                    assert (
                        body_of(await newcomer.call_tool("scan", {"table_id": "first"}))["error"] == "table_not_found"
                    )
                    assert body_of(await newcomer.call_tool("catalog", {}))["tables"] == []
            hang_up(served, "reloaded")
            for name in ("ana", "ben", "eve"):
                async with connect(served, "http", "legacy", token_of(name)) as caller:
                    assert body_of(await caller.call_tool("scan", {"table_id": "first"}))["rows"] == [[2]]
            described = [{**second[0], "description": "in other words"}]
            rewrite(config, tables=described, access={"users": [*users, user("kim", ["first"])]})
            async with connect(served, "http", "legacy", token_of("kim")) as newcomer:
                assert body_of(await newcomer.call_tool("scan", {"table_id": "first"}))["rows"] == [[2]]
            rewrite(config, tables="none", access={"users": [*users, user("lea", ["first"])]})
            async with connect(served, "http", "legacy", token_of("lea")) as newcomer:
                assert body_of(await newcomer.call_tool("scan", {"table_id": "first"}))["error"] == "table_not_found"


async def test_a_mistake_in_the_file_changes_nothing(config: Path) -> None:
    with serve(config) as served:
        rewrite(config, tabels=[])
        assert "tabels" in hang_up(served, "not reloaded")
        async with connect(served, "http", "legacy", token_of("ana")) as client:
            assert body_of(await client.call_tool("scan", {"table_id": "first"}))["rows"] == [[1]]


async def test_data_dir_is_its_owners_alone(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "i" / "data"
    folder.mkdir(mode=0o755)
    with serve(config) as served:
        async with connect(served, "http", "legacy", token_of("ana")) as client:
            await client.call_tool("usage", {})
        assert folder.stat().st_mode & 0o777 == 0o700
