"""What is kept no longer goes where it is due, and is told in the log, the audit and by disk_info."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from support.instances import ME
from support.waiting import until

from agnes_mcp.charts.encodings import ChartRequest
from agnes_mcp.config.loading import load_settings
from agnes_mcp.config.settings import Settings
from agnes_mcp.doctor import examine
from agnes_mcp.errors import AgnesError, ConfigError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.operations.chart import ChartSource
from agnes_mcp.snapshots import charts
from agnes_mcp.snapshots.sidecar import Sidecar, parse, render

ANA = Principal("ana", local=True)
OLD_FILE = "audit-20200101T000000000000.jsonl"


def aged(settings: Settings, name: str, days: float) -> None:
    """As if that snapshot had been fetched so many days ago."""
    _rewritten(settings, name, fetched_at=datetime.now(UTC) - timedelta(days=days))


def expired(settings: Settings, name: str) -> None:
    """As if its time had been over for an hour."""
    _rewritten(settings, name, expires_at=datetime.now(UTC) - timedelta(hours=1))


def _rewritten(settings: Settings, name: str, **facts: datetime) -> None:
    (file,) = settings.data_dir.glob(f"snapshots/*/{name}.meta.json")
    sidecar = parse(file.read_bytes(), name)
    file.write_bytes(render(Sidecar(sidecar.snapshot.model_copy(update=facts), sidecar.token)))


async def drawn(gateway: Gateway, source: ChartSource, who: Principal = ME) -> str:
    """The id of a chart of orders by country."""
    uri = (await gateway.charts.draw(who, source, ChartRequest("bar", "country", "sum(amount)"))).answer.spec
    assert uri is not None
    return uri.rpartition("/")[2]


def of_days_ago(settings: Settings, chart_id: str, days: float) -> int:
    """As if that chart had been drawn so many days ago; its bytes."""
    (file,) = settings.data_dir.glob(f"snapshots/*/.charts/{chart_id}.json")
    moment = time.time() - days * 86_400
    os.utime(file, (moment, moment))
    return file.stat().st_size


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


async def test_nobodys_go_for_what_another_keeps(filled: Settings) -> None:
    """Whoever keeps most makes room, although the oldest is another's."""
    aged(filled, "old", 60)
    async with Gateway(filled) as gateway:
        sizes = [kept.bytes_local for who in (ME, ANA) for kept in gateway.store.list(who.name)]
    filled.snapshots.keep_gb = (sum(sizes) - 1) / 2**30
    assert await left(filled) == {"fresh", "old"}
    assert [(line["principal"], line["removed"]) for line in retired(filled)] == [("me", ["ancient"])]


async def test_old_files_of_the_audit_go_and_a_line_says_which(filled: Settings) -> None:
    filled.audit.keep_days = 365
    await left(filled)
    assert not (filled.data_dir / "audit" / OLD_FILE).exists()
    (line,) = retired(filled)
    assert (line["principal"], line["removed"], line["actual_result_bytes"]) == ("", [OLD_FILE], 32)
    (found,) = [finding for finding in await examine(Gateway(filled)) if finding.subject == "retention"]
    assert found.found.startswith("Files of the audit are removed after 365 days.")


async def test_what_has_expired_goes_with_a_line_although_nothing_is_set(
    filled: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    expired(filled, "old")
    assert await left(filled) == {"ancient", "fresh"}
    (line,) = retired(filled)
    assert (line["principal"], line["removed"]) == ("ana", ["old"])
    assert line["actual_result_bytes"] > 0
    assert "1 snapshots of ana" in caplog.text
    assert await left(filled) == {"ancient", "fresh"}
    assert len(retired(filled)) == 1  # told once


async def test_charts_go_by_days_too_and_with_their_snapshots(filled: Settings) -> None:
    async with Gateway(filled) as gateway:
        table = ChartSource(sql="SELECT country, amount FROM orders")
        old, of_ana, young = [
            await drawn(gateway, table), await drawn(gateway, table, ANA), await drawn(gateway, table)
        ]  # fmt: skip
        with_it = await drawn(gateway, ChartSource(snapshot="ancient"))
    sizes = [of_days_ago(filled, chart_id, 31) for chart_id in (old, of_ana)]
    filled.snapshots.keep_days = 30
    assert await left(filled) == {"old", "fresh"}
    async with Gateway(filled) as gateway:
        assert await gateway.charts.spec(ME, young)
        for who, chart_id in ((ME, old), (ANA, of_ana), (ME, with_it)):
            with pytest.raises(AgnesError):
                await gateway.charts.spec(who, chart_id)
    told = {(line["principal"], *line["removed"]): line["actual_result_bytes"] for line in retired(filled)}
    assert told.keys() >= {("me", "ancient"), ("ana", of_ana)}
    assert told["ana", of_ana] == sizes[1]
    assert {name for key in told for name in key[1:]} == {"ancient", old, of_ana, with_it}


async def test_charts_count_where_all_together_are_too_much(filled: Settings) -> None:
    async with Gateway(filled) as gateway:
        chart_id = await drawn(gateway, ChartSource(sql="SELECT country, amount FROM orders"))
        sizes = [kept.bytes_local for who in (ME, ANA) for kept in gateway.store.list(who.name)]
    chart_bytes = of_days_ago(filled, chart_id, 100)
    filled.snapshots.keep_gb = (sum(sizes) + chart_bytes - 1) / 2**30
    assert await left(filled) == {"ancient", "fresh", "old"}
    (line,) = retired(filled)
    assert (line["removed"], line["actual_result_bytes"]) == ([chart_id], chart_bytes)


async def test_a_chart_for_which_others_go_names_them_in_its_line(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "KEPT_CHARTS", 2)
    async with Gateway(filled) as gateway:
        ids = [await drawn(gateway, ChartSource(sql="SELECT country, amount FROM orders")) for _ in range(3)]
    lines = map(json.loads, (filled.data_dir / "audit" / "audit.jsonl").read_text().splitlines())
    assert [line["removed"] for line in lines if line["tool"] == "chart"] == [None, None, [ids[0]]]


async def test_a_prune_names_what_it_dropped(filled: Settings) -> None:
    async with Gateway(filled) as gateway:
        await gateway.snapshots.clear_out(ME, older_than="30d", dry_run=True)
        await gateway.snapshots.clear_out(ME, older_than="30d")
    lines = map(json.loads, (filled.data_dir / "audit" / "audit.jsonl").read_text().splitlines())
    assert [line["removed"] for line in lines if line["tool"] == "snapshot_prune"] == [None, ["ancient"]]


async def test_it_looks_again_while_it_serves_and_no_more_once_it_has_ended(filled: Settings) -> None:
    filled.snapshots.keep_days = 30
    gateway = Gateway(filled)
    gateway.retention._every_s = 0.01
    await gateway.catalog.browse(ME)
    assert [line["removed"] for line in retired(filled)] == [["ancient"]]
    aged(filled, "old", 31)
    expired(filled, "fresh")
    # one look may find one of them, or both
    await until(
        lambda: sorted(name for line in retired(filled) for name in line["removed"]) == ["ancient", "fresh", "old"]
    )
    assert gateway.retention._thread is not None
    await gateway.aclose()
    await anyio.to_thread.run_sync(gateway.retention._thread.join, 60)
    assert not gateway.retention._thread.is_alive()


def test_two_servers_on_one_folder_tell_of_each_thing_once(filled: Settings) -> None:
    """Both look at the same moment, while calls of both are written and the files of the audit rotate."""
    filled.snapshots.keep_days, filled.audit.keep_days = 15, 365
    code = (
        "import sys; from pathlib import Path; from agnes_mcp.calls.audit import Audit, AuditLine\n"
        "from agnes_mcp.config.settings import Settings; from agnes_mcp.operations.retention import Retention\n"
        "from agnes_mcp.snapshots import SnapshotStore\n"
        "settings = Settings.model_validate_json(sys.argv[1])\n"
        "audit = Audit(settings.data_dir / 'audit', rotate_at_bytes=4_000)\n"
        "retention = Retention(audit, SnapshotStore.from_settings(settings), settings.audit, settings.snapshots)\n"
        "print(flush=True); sys.stdin.readline()\n"
        "for n in range(60):\n"
        "    audit.write(AuditLine(request_id=f'{sys.argv[2]}{n}', tool='scan', principal='ana'))\n"
        "    retention.apply()\n"
    )
    command = [sys.executable, "-c", code, filled.model_dump_json()]
    with ExitStack() as servers:
        both = [
            servers.enter_context(
                subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for name in "ab"
        ]
        for server in both:
            assert server.stdout is not None
            assert server.stdout.readline() == "\n"
        for server in both:
            assert server.stdin is not None
            server.stdin.write("\n")
            server.stdin.flush()
    assert [server.returncode for server in both] == [0, 0]
    files = sorted((filled.data_dir / "audit").glob("audit*.jsonl"))
    assert len(files) > 5
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    scans = [line["request_id"] for line in lines if line["tool"] == "scan"]
    assert sorted(scans) == sorted(f"{name}{n}" for name in "ab" for n in range(60))
    told = [name for line in lines if line["tool"] == "retention" for name in line["removed"]]
    assert sorted(told) == ["ancient", OLD_FILE, "old"]
    assert not (filled.data_dir / "audit" / OLD_FILE).exists()


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
