"""Fetch once, ask many: through the gateway, against the stand-in for BigQuery."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from support.instances import ME

from agnes_mcp.config.settings import UserSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, Progress, ScanRequest
from agnes_mcp.operations.query import Queries
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.stand_in import Fault, Partition, StandIn

MIB = 2**20
OpenGateway = Callable[..., Gateway]
DAY = ScanRequest(table_id="sessions", select=["session_id", "country", "amount"], where="event_date = '2026-01-05'")


async def refusal(call: object) -> AgnesError:
    with pytest.raises(AgnesError) as refused:
        await call  # type: ignore[misc]
    return refused.value


async def test_fetch_once_then_ask_free(bq: StandIn, open_gateway: OpenGateway) -> None:
    """The snapshot says what was asked, what it cost and when; querying it makes no job."""
    async with open_gateway() as gateway:
        fetched = await gateway.fetches.fetch(ME, DAY, name="day5")
        jobs = len(bq.query_jobs())
        sql = "SELECT s.country, count(*) AS n FROM day5 s JOIN local l USING (country) GROUP BY ALL"
        answer = await gateway.queries.query(ME, sql)
    snapshot = fetched.snapshot
    assert snapshot is not None
    assert (snapshot.name, snapshot.table_id, snapshot.rows) == ("day5", "sessions", 10_000)
    assert snapshot.where == "event_date = '2026-01-05'"
    assert snapshot.bytes_billed == fetched.bytes_billed == 10 * MIB
    assert snapshot.job_id == bq.requests.named("jobs.insert")[-1].body["jobReference"]["jobId"]
    assert snapshot.estimated_scan_bytes_at_fetch == 10_000 * (8 + 9 + 4 + 8)
    assert answer.rows == [["CZ", 50_000]] or answer.rows[0][0] == "CZ"
    assert sorted(answer.tables) == ["day5", "local"]
    assert len(bq.query_jobs()) == jobs


async def test_estimate_only_reads_nothing(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        answer = await gateway.fetches.fetch(ME, DAY, estimate_only=True)
        listed = await gateway.snapshots.entries(ME)
    assert answer.snapshot is None
    assert answer.estimate is not None
    assert answer.estimate.verdict == "ok"
    assert listed.total == 0
    assert bq.query_jobs() == []


async def test_the_same_rows_are_not_paid_for_twice(bq: StandIn, open_gateway: OpenGateway) -> None:
    """An existing name, and existing rows under another name, are refused before the scan; force pays."""
    async with open_gateway() as gateway:
        await gateway.fetches.fetch(ME, DAY, name="day5")
        jobs = len(bq.query_jobs())
        same_name = await refusal(
            gateway.fetches.fetch(ME, DAY.model_copy(update={"where": "amount > 1"}), name="day5")
        )
        same_rows = await refusal(gateway.fetches.fetch(ME, DAY, name="other"))
        assert len(bq.query_jobs()) == jobs
        await gateway.fetches.fetch(ME, DAY, name="other", force=True)
    assert same_name.kind == same_rows.kind == "snapshot_exists"
    assert same_rows.details["snapshot"] == "day5"


async def test_a_name_may_not_be_a_tables(open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        error = await refusal(gateway.fetches.fetch(ME, DAY, name="orders"))
        default = await gateway.fetches.fetch(ME, DAY)
    assert error.kind == "invalid_argument"
    assert default.snapshot is not None
    assert default.snapshot.name == "snap_sessions"


async def test_too_little_disk_is_refused_before_paying(bq: StandIn, open_gateway: OpenGateway) -> None:
    async with open_gateway(snapshots={"min_free_gb": 10_000_000}) as gateway:
        error = await refusal(gateway.fetches.fetch(ME, DAY, name="day5"))
    assert error.kind == "disk_full"
    assert bq.query_jobs() == []


async def test_a_result_over_the_cap_is_an_error_and_what_was_read_is_kept(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    """Nothing is cut silently; what was billed is charged and said, and BigQuery is not to blame."""
    async with open_gateway(scan={"max_result_bytes": 50_000}) as gateway:
        error = await refusal(gateway.fetches.fetch(ME, DAY, name="day5"))
        usage = await gateway.usage.today(ME)
        listed = await gateway.snapshots.entries(ME)
        (kept,) = listed.snapshots
        queried = await gateway.queries.query(ME, "SELECT COUNT(*) AS n FROM day5")
    assert error.kind == "result_too_large"
    assert error.details["bytes_billed"] == 10 * MIB
    assert error.details["job_id"].startswith("agnes_mcp_")
    assert (kept.name, kept.complete, kept.rows) == ("day5", False, error.details["rows"])
    assert queried.rows == [[kept.rows]]
    assert "not all that matched" in queried.warnings[0]
    assert "last_error" not in usage.bigquery
    assert usage.quota.daily_bytes_used == 10 * MIB
    assert usage.quota.running_scans == 0
    assert listed.total == 1


async def test_a_connection_cut_in_the_middle_leaves_no_snapshot(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Never a short result that looks whole."""
    async with open_gateway(scan={"request_timeout_seconds": 5}) as gateway:
        whole = ScanRequest(table_id="sessions", select=["session_id", "padding"], where="amount >= 0")
        await gateway.scans.estimate(ME, whole)
        bq.faults.add(Fault("ReadRows", grpc_code="DATA_LOSS", at_batch=1, times=100))
        error = await refusal(gateway.fetches.fetch(ME, whole, name="cut"))
        bq.faults.clear()
        usage, listed = await gateway.usage.today(ME), await gateway.snapshots.entries(ME)
    assert error.kind in ("bq_upstream_error", "timeout")
    assert listed.total == 0
    assert usage.quota.running_scans == usage.quota.daily_bytes_reserved == 0
    assert usage.quota.daily_bytes_used > 0


async def test_progress_names_rows_and_never_goes_back(open_gateway: OpenGateway) -> None:
    seen: list[Progress] = []
    async with open_gateway() as gateway:
        whole = ScanRequest(table_id="sessions", select=["session_id"], where="amount >= 0")
        await gateway.fetches.fetch(ME, whole, name="all", on_progress=seen.append)
    rows = [p for p in seen if "rows" in p.message]
    assert len(rows) >= 2
    assert [p.done for p in rows] == sorted(p.done for p in rows)


async def test_what_did_not_fit_an_answer_is_kept_and_not_paid_for_again(
    bq: StandIn, open_gateway: OpenGateway
) -> None:
    async with open_gateway() as gateway:
        answer = await gateway.scans.scan(ME, DAY.model_copy(update={"limit": 9_000}))
        jobs = len(bq.query_jobs())
        assert answer.truncated_by == "answer_size"
        assert answer.snapshot is not None
        assert answer.snapshot.startswith("scan_sessions_")
        counted = await gateway.queries.query(ME, f"SELECT count(*), count(DISTINCT session_id) FROM {answer.snapshot}")
        kept = await gateway.snapshots.entry(ME, answer.snapshot)
    assert counted.rows == [[9_000, 9_000]]
    assert kept.expires_at is not None
    assert kept.fetched_at is not None
    assert 23 < (kept.expires_at - kept.fetched_at).total_seconds() / 3600 <= 24
    assert len(bq.query_jobs()) == jobs


async def test_refresh_keeps_identical_rows_and_replaces_changed_ones(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Identical by all rows, not by the first bytes of a file."""
    async with open_gateway() as gateway:
        request = ScanRequest(table_id="orders", select=["id"], where="id >= 0")
        first = await gateway.fetches.fetch(ME, request, name="ids")
        same = await gateway.fetches.refresh(ME, "ids")
        bq.create_table(
            "my_dataset",
            "orders",
            schema="id INT64, day DATE",
            rows=[{"id": i, "day": "2026-01-01"} for i in range(12)],
        )
        changed = await gateway.fetches.refresh(ME, "ids")
        narrowed = await gateway.fetches.refresh(ME, "ids", where="id < 5")
    assert first.snapshot is not None
    assert same.identical is True
    assert same.effective_as_of_old == first.snapshot.effective_as_of
    assert same.effective_as_of_new > (same.effective_as_of_old or same.effective_as_of_new)
    assert (changed.identical, changed.rows_old, changed.rows_new) == (False, 9, 12)
    assert (narrowed.rows_new, narrowed.snapshot.where) == (5, "id < 5")


async def test_a_column_that_is_gone_is_drift_and_leaves_the_file(bq: StandIn, open_gateway: OpenGateway) -> None:
    """Named in the error, before anything is paid; a changed type only warns."""
    async with open_gateway() as gateway:
        await gateway.fetches.fetch(
            ME, ScanRequest(table_id="orders", select=["id", "day"], where="id >= 0"), name="days"
        )
        before = await gateway.snapshots.entry(ME, "days")
        bq.create_table("my_dataset", "orders", schema="id INT64", rows=[{"id": 1}])
        jobs = len(bq.query_jobs())
        error = await refusal(gateway.fetches.refresh(ME, "days"))
        assert len(bq.query_jobs()) == jobs
        after = await gateway.snapshots.entry(ME, "days")
        still = await gateway.queries.query(ME, "SELECT count(*) FROM days")
        bq.create_table("my_dataset", "orders", schema="id STRING, day DATE", rows=[{"id": "1", "day": "2026-01-01"}])
        retyped = await refusal(gateway.fetches.refresh(ME, "days"))
        warned = await gateway.fetches.refresh(ME, "days", where="id >= '0'")
    assert error.kind == "schema_drift"
    assert error.details["columns"] == ["day"]
    assert before == after
    assert still.rows == [[9]]
    assert retyped.kind.startswith("bq_") or retyped.kind in ("schema_drift", "not_boolean", "parse_error")
    assert any("id" in warning for warning in warned.warnings)


async def test_nobody_sees_anothers_snapshots(open_gateway: OpenGateway) -> None:
    """Every way to name one answers as for a name that does not exist."""
    users = {"users": [{"name": name, "tables": "*"} for name in ("ana", "bob")]}
    ana, bob = Principal("ana"), Principal("bob")
    async with open_gateway(access=users) as gateway:
        await gateway.fetches.fetch(ana, DAY, name="hers")
        assert (await gateway.snapshots.entries(bob)).total == 0
        for call in (
            lambda n: gateway.snapshots.entry(bob, n),
            lambda n: gateway.snapshots.remove(bob, n),
            lambda n: gateway.fetches.refresh(bob, n),
            lambda n: gateway.queries.query(bob, f"SELECT * FROM {n}"),
        ):
            hers, nobodys = await refusal(call("hers")), await refusal(call("nope"))
            assert hers.kind == nobodys.kind
            assert hers.message.replace("hers", "nope") == nobodys.message
        assert (await gateway.scans.estimate(bob, DAY)).covered_by is None
        assert (await gateway.queries.query(ana, "SELECT count(*) FROM hers")).rows == [[10_000]]


async def test_a_grant_that_is_taken_back_takes_the_rows_along(open_gateway: OpenGateway) -> None:
    """On the next call, although the snapshot is the caller's own."""
    ana = Principal("ana")
    async with open_gateway(access={"users": [{"name": "ana", "tables": ["sessions", "local"]}]}) as gateway:
        await gateway.fetches.fetch(ana, DAY, name="hers")
        gateway.access.replace([UserSettings(name="ana", tables=["local"])])
        error = await refusal(gateway.queries.query(ana, "SELECT * FROM hers"))
        refresh = await refusal(gateway.fetches.refresh(ana, "hers"))
        assert (await gateway.snapshots.remove(ana, "hers")).dropped == "hers"
    assert error.kind == "table_not_found"
    assert refresh.kind == "table_not_found"


async def test_damaged_rows_are_never_served(open_gateway: OpenGateway) -> None:
    """A flipped byte in the file is an error for that snapshot; others go on."""
    async with open_gateway() as gateway:
        await gateway.fetches.fetch(ME, DAY, name="day5")
        await gateway.fetches.fetch(ME, DAY.model_copy(update={"where": "event_date = '2026-01-06'"}), name="day6")
        path = await gateway.snapshots.file_of(ME, "day5")
        assert path is not None
        content = bytearray(Path(path).read_bytes())
        content[len(content) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)
        error = await refusal(gateway.queries.query(ME, "SELECT count(*) FROM day5"))
        fine = await gateway.queries.query(ME, "SELECT count(*) FROM day6")
        listed = {entry.name: entry.damaged for entry in (await gateway.snapshots.entries(ME)).snapshots}
    assert error.kind == "snapshot_damaged"
    assert fine.rows == [[10_000]]
    assert listed["day5"]
    assert listed["day6"] is None


async def test_stale_rows_carry_a_warning(open_gateway: OpenGateway) -> None:
    async with open_gateway(snapshots={"stale_warn_days": 0}) as gateway:
        await gateway.fetches.fetch(ME, DAY, name="day5")
        answer = await gateway.queries.query(ME, "SELECT count(*) FROM day5")
    assert answer.warnings
    assert "day5" in answer.warnings[0]


async def test_an_expired_snapshot_is_not_read(open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        answer = await gateway.scans.scan(ME, DAY.model_copy(update={"limit": 9_000}))
        assert answer.snapshot is not None
        tomorrow = datetime.now(UTC) + timedelta(hours=25)
        store = SnapshotStore(gateway.store.root, quota_bytes=MIB, clock=lambda: tomorrow)
        shared = gateway.calls, gateway.tables, gateway.access, gateway.sources
        queries = Queries(*shared, store, gateway.workbench, gateway.settings.api)
        error = await refusal(queries.query(ME, f"SELECT * FROM {answer.snapshot}"))
    assert error.kind == "table_not_found"


async def test_a_remote_table_in_sql_points_at_fetch(open_gateway: OpenGateway) -> None:
    """An engine that cannot answer says so."""
    async with open_gateway() as gateway:
        error = await refusal(gateway.queries.query(ME, "SELECT * FROM sessions"))
    assert error.kind == "table_not_found"
    assert "fetch" in error.hint


async def test_partitions_that_need_a_filter_say_so(bq: StandIn, open_gateway: OpenGateway) -> None:
    bq.create_table(
        "my_dataset", "orders", schema="id INT64, day DATE", rows=[{"id": 1, "day": "2026-01-01"}],
        partition=Partition("day", require_filter=True),
    )  # fmt: skip
    async with open_gateway() as gateway:
        schema = await gateway.catalog.columns(ME, "orders")
        error = await refusal(gateway.scans.estimate(ME, ScanRequest(table_id="orders", where="id = 1")))
        fine = await gateway.scans.scan(ME, ScanRequest(table_id="orders", where="day = '2026-01-01'"))
    assert schema.partition is not None
    assert schema.partition.filter_required is True
    assert error.kind == "bq_bad_request"
    assert "day" in error.message
    assert fine.row_count == 1


async def test_two_fetches_of_one_name_do_not_pay_twice(bq: StandIn, open_gateway: OpenGateway) -> None:
    """The second creator is told before it pays."""
    bq.job_latency_s = 1.0
    outcomes: list[str] = []
    async with open_gateway() as gateway:
        await gateway.catalog.columns(ME, "sessions")

        async def one() -> None:
            try:
                await gateway.fetches.fetch(ME, DAY, name="day5")
                outcomes.append("ok")
            except AgnesError as error:
                outcomes.append(error.kind)

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
    assert sorted(outcomes)[0] == "ok"
    assert set(outcomes) <= {"ok", "snapshot_exists", "snapshot_busy"}
    assert outcomes.count("ok") == 1
    assert len(bq.query_jobs()) == 1


async def test_leftovers_of_a_crash_are_swept_at_start(bq: StandIn, open_gateway: OpenGateway) -> None:
    """What a writer left that died is gone after the next start's first call; what was whole stays."""
    async with open_gateway() as gateway:
        await gateway.fetches.fetch(ME, DAY, name="day5")
        root = Path(gateway.settings.data_dir) / "snapshots"
    staging = next(root.glob("*/.staging"), None)
    assert staging is not None
    leftover = staging / "day6.0123456789abcdef.parquet"
    leftover.write_bytes(b"PAR1 half a file")
    async with open_gateway() as gateway:
        listed = await gateway.snapshots.entries(ME)
    assert [entry.name for entry in listed.snapshots] == ["day5"]
    assert not leftover.exists()
