"""What is kept no longer goes where it is due, and is told in the log, the audit and by disk_info."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.instances import ME

from agnes_mcp.config.loading import load_settings
from agnes_mcp.config.settings import Settings
from agnes_mcp.doctor import examine
from agnes_mcp.errors import ConfigError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.snapshots.sidecar import Sidecar, parse, render

ANA = Principal("ana", local=True)
OLD_FILE = "audit-20200101T000000000000.jsonl"


def aged(settings: Settings, name: str, days: float) -> None:
    """As if that snapshot had been fetched so many days ago."""
    (file,) = settings.data_dir.glob(f"snapshots/*/{name}.meta.json")
    sidecar = parse(file.read_bytes(), name)
    fetched = datetime.now(UTC) - timedelta(days=days)
    file.write_bytes(render(Sidecar(sidecar.snapshot.model_copy(update={"fetched_at": fetched}), sidecar.token)))


@pytest.fixture
async def filled(settings: Settings) -> Settings:
    """Snapshots of two callers, of 40, 20 and no days; a file of the audit of long ago."""
    async with Gateway(settings) as gateway:
        for who, name in ((ME, "ancient"), (ME, "fresh"), (ANA, "old")):
            await gateway.fetches.fetch(who, ScanRequest(table_id="orders"), name=name)
    aged(settings, "ancient", 40)
    aged(settings, "old", 20)
    (settings.data_dir / "audit" / OLD_FILE).write_text('{"time":"2019-12-31T00:00:00Z"}\n')
    return settings


async def left(settings: Settings) -> set[str]:
    """What is there once a process has begun to serve."""
    async with Gateway(settings) as gateway:
        await gateway.catalog.browse(ME)
        return {kept.name for who in (ME, ANA) for kept in gateway.store.list(who.name)}


def retired(settings: Settings) -> list[dict[str, Any]]:
    lines = (settings.data_dir / "audit" / "audit.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["tool"] == "retention"]


async def test_nothing_goes_unless_it_is_asked_for(filled: Settings) -> None:
    assert await left(filled) == {"ancient", "fresh", "old"}
    assert (filled.data_dir / "audit" / OLD_FILE).exists()
    assert retired(filled) == []
    async with Gateway(filled) as gateway:
        assert (await gateway.snapshots.disk_space(ME)).retention is None
    (found,) = [finding for finding in await examine(Gateway(filled)) if finding.subject == "retention"]
    assert found.found.startswith("off: nothing is removed")


@pytest.mark.parametrize(
    ("days", "gone"), [(41, set()), (39, {"ancient"}), (15.5, {"ancient", "old"}), (0.5, {"ancient", "old"})]
)
async def test_old_snapshots_go_and_it_is_said(
    filled: Settings, days: float, gone: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    filled.snapshots.keep_days = days
    assert await left(filled) == {"ancient", "fresh", "old"} - gone
    lines = retired(filled)
    assert {(line["principal"], *line["removed"]) for line in lines} == {
        ("me" if name == "ancient" else "ana", name) for name in gone
    }
    assert all(line["actual_result_bytes"] > 0 for line in lines)
    for name in gone:
        assert name in caplog.text
    async with Gateway(filled) as gateway:
        assert f"{days:g} days after" in str((await gateway.snapshots.disk_space(ME)).retention)


async def test_the_oldest_go_where_all_together_are_too_much(filled: Settings) -> None:
    async with Gateway(filled) as gateway:
        sizes = {kept.name: kept.bytes_local for who in (ME, ANA) for kept in gateway.store.list(who.name)}
    filled.snapshots.keep_gb = (sum(sizes.values()) - 1) / 2**30
    assert await left(filled) == {"fresh", "old"}
    filled.snapshots.keep_gb = 0
    assert await left(filled) == set()
    assert [line["removed"] for line in retired(filled)] == [["ancient"], ["old"], ["fresh"]]


async def test_old_files_of_the_audit_go_and_a_line_says_which(filled: Settings) -> None:
    filled.audit.keep_days = 365
    await left(filled)
    assert not (filled.data_dir / "audit" / OLD_FILE).exists()
    (line,) = retired(filled)
    assert (line["principal"], line["removed"], line["actual_result_bytes"]) == ("", [OLD_FILE], 32)
    (found,) = [finding for finding in await examine(Gateway(filled)) if finding.subject == "retention"]
    assert found.found.startswith("Files of the audit are removed after 365 days.")


async def test_a_snapshot_that_is_being_written_stays_for_the_next_look(filled: Settings) -> None:
    filled.snapshots.keep_days = 30
    gateway = Gateway(filled)
    call = gateway.calls.background("test")
    with gateway.store.claim(ME.name, "ancient", call, force=True):
        gateway.retention.apply()
        assert "ancient" in {kept.name for kept in gateway.store.list(ME.name)}
    gateway.retention.apply()
    assert "ancient" not in {kept.name for kept in gateway.store.list(ME.name)}
    await gateway.aclose()


@pytest.mark.parametrize("text", ["audit: {keep_days: 0}", "snapshots: {keep_days: 0}", "audit: {keep_bytes: -1}"])
def test_what_would_remove_all_at_once_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "instance.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_settings(tmp_path / "instance.yaml")
