"""A data directory that version 0.1.0 wrote, served by this one.

`fixtures/data_of_0_1` was made by 0.1.0 itself: four fetches of two callers, a scan, refusals, queries. `czech` and
`totals` are of a table that `tables:` names, `found` is of one that only a dataset lists, `newest` of a local file.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.instances import ME, ONE_PROCESS, bigquery_at, remote_table, write

from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.stand_in import Partition, StandIn

OLD = Path(__file__).parents[1] / "fixtures" / "data_of_0_1"
ANA = Principal("ana@example.com")
#: What 0.1.0 answered over them, and what it had billed.
ANSWERS = {
    "SELECT count(*), sum(amount) FROM czech": [[24, "1305.000000000"]],
    "SELECT * FROM newest ORDER BY id": [[id_, "DE"] for id_ in (46, 49, 52, 55, 58)],
    "SELECT count(*), sum(id) FROM found": [[12, 66]],
}
TOTALS = [["CZ", "1631.250000000"], ["DE", "1668.750000000"], ["SK", "1706.250000000"]]
BILLED = {ANA: 20_971_714, ME: 10_485_760}


@pytest.fixture
def bq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The warehouse as it was."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    sessions = [
        {"session_id": f"s{i:03d}", "event_date": f"2026-01-{i % 28 + 1:02d}", "country": ("CZ", "DE", "SK")[i % 3],
         "amount": str(i * 1.25), "tags": ["a", "b"][: i % 3]}
        for i in range(90)
    ]  # fmt: skip
    schema = "session_id STRING, event_date DATE, country STRING, amount NUMERIC, tags ARRAY<STRING>"
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table("my_dataset", "sessions", schema, rows=sessions, partition=Partition("event_date"))
        notes = [{"id": i, "note": f"note {i}"} for i in range(12)]
        stand_in.create_table("my_dataset", "my_table", "id INT64, note STRING", rows=notes)
        yield stand_in


@pytest.fixture
def settings(bq: StandIn, tmp_path: Path) -> Settings:
    """The instance as it was, over a copy of its folder; its lines of the audit are of today."""
    folder = tmp_path / "data"
    shutil.copytree(OLD, folder)
    audit = folder / "audit" / "audit.jsonl"
    audit.write_text(
        re.sub(r'"time":"[\d-]+T[\d:]+', f'"time":"{datetime.now(UTC):%Y-%m-%d}T00:00:00', audit.read_text())
    )
    local = "SELECT i AS id, CASE i % 3 WHEN 0 THEN 'CZ' WHEN 1 THEN 'DE' ELSE 'SK' END AS country FROM range(60) r(i)"
    bigquery = bigquery_at(bq, datasets=["my_dataset"])
    described: dict[str, Any] = {
        "data_dir": str(folder),
        "engine": ONE_PROCESS,
        "data_source": {"bigquery": bigquery},
        "tables": [
            remote_table("sessions"),
            {"id": "local", "path": str(write(tmp_path, "local.parquet", local))},
        ],
        "access": {
            "users": [{"name": ANA.name, "token_sha256": "0" * 64, "tables": ["sessions", "my_table", "local"]}]
        },
    }
    return Settings.model_validate(described)


async def test_snapshots_are_whole_and_answer_as_before(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        kept = (await gateway.snapshots.entries(ANA)).snapshots
        assert [(one.name, one.rows, one.damaged) for one in kept] == [
            ("czech", 24, None),
            ("found", 12, None),
            ("newest", 5, None),
        ]
        for sql, rows in ANSWERS.items():
            assert (await gateway.queries.query(ANA, sql)).rows == rows
        assert (await gateway.queries.query(ME, "SELECT * FROM totals ORDER BY country")).rows == TOTALS
        with pytest.raises(AgnesError):
            await gateway.queries.query(ANA, "SELECT * FROM totals")


async def test_todays_bills_count_once_and_are_kept_in_books(settings: Settings) -> None:
    for _ in range(2):
        async with Gateway(settings) as gateway:
            used = {who: (await gateway.usage.today(who)).quota.daily_bytes_used for who in BILLED}
            assert used == BILLED
    assert (settings.data_dir / "books" / "books.sqlite3").exists()


async def test_the_budget_of_the_day_is_the_rest(settings: Settings) -> None:
    settings.api.scan.max_daily_bytes_per_user = BILLED[ANA] + 1
    async with Gateway(settings) as gateway:
        with pytest.raises(AgnesError) as refused:
            await gateway.scans.scan(ANA, ScanRequest(table_id="sessions", where="amount > 10"))
        assert refused.value.kind == "quota_exceeded"


async def test_snapshots_are_refreshed_and_know_their_place_from_then_on(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        call = gateway.calls.background("test")
        await gateway.calls.run(call, lambda: gateway.tables.list_datasets(call))
        assert {table.id: table.place for table in gateway.tables.visible(ANA)} == {
            "local": "",
            "my_table": "my-project.my_dataset.my_table",
            "sessions": "my-project.my_dataset.sessions",
        }
        for name in ("czech", "found", "newest"):
            assert gateway.store.get(ANA.name, name).place is None
            refreshed = await gateway.fetches.refresh(ANA, name)
            assert refreshed.identical, name
            assert refreshed.rows_old == refreshed.rows_new
        assert gateway.store.get(ANA.name, "found").place == "my-project.my_dataset.my_table"
        for sql, rows in ANSWERS.items():
            assert (await gateway.queries.query(ANA, sql)).rows == rows


async def test_old_lines_of_the_audit_are_read_beside_new_ones(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        await gateway.queries.query(ANA, "SELECT 1")
        recent = (await gateway.overviews.seen_by(ME)).recent
    assert recent[0]["tool"] == "query"
    assert {line["tool"] for line in recent} >= {"catalog", "fetch", "scan", "query", "usage"}
    assert sum(line["bytes_billed"] or 0 for line in recent) == sum(BILLED.values())


async def test_they_are_counted_and_dropped(settings: Settings) -> None:
    async with Gateway(settings) as gateway:
        disk = await gateway.snapshots.disk_space(ANA)
        assert disk.snapshot_count == 3
        for name in ("czech", "found", "newest"):
            await gateway.snapshots.remove(ANA, name)
        assert (await gateway.snapshots.disk_space(ANA)).snapshot_count == 0
    left = [path.name.split(".")[0] for path in (settings.data_dir / "snapshots").rglob("*.parquet")]
    assert left == ["totals"]
