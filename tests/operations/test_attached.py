"""Whole columns through the attached process, as a caller meets them: a file stands for BigQuery's extension."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
from support.attached_double import COMMAND, FileStatements
from support.instances import ONE_PROCESS, bigquery_at, remote_table
from support.loaded import LoadedTable
from support.metadata_server import MetadataServer
from support.waiting import PATIENCE_S, until

from agnes_mcp.access.grants import os_user
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.settings import BigQuerySettings, Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.sources.bigquery.attached import Attached, ruled_out
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.sources.kinds import Makers
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.stand_in import StandIn

pytestmark = pytest.mark.slow

ROWS = 200_000
_SQL = f"SELECT i AS id, 'word ' || i AS word FROM range({ROWS}) t(i)"
REQUEST = ScanRequest(table_id="big", select=["word", "id"])


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> LoadedTable:
    return LoadedTable(tmp_path_factory.mktemp("big"), "my_dataset", "big", schema="id INT64, word STRING", sql=_SQL)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for BigQuery where rows come through the attached process, which only reads it."""
    file = tmp_path_factory.mktemp("attached") / "bigquery.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"CREATE SCHEMA my_dataset; CREATE TABLE my_dataset.big AS {_SQL}")
    return file


@pytest.fixture
def bq(big: LoadedTable, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with MetadataServer() as metadata, StandIn(project="my-project") as stand_in:
        monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
        monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        big.serve(stand_in)
        yield stand_in


def gateway_over(
    bq: StandIn,
    file: Path,
    folder: Path,
    fault: str = "",
    at: int = 0,
    reads: str = "attached",
    attach: str = "auto",
    within_s: float = 300,
    made: list[Attached] | None = None,
) -> Gateway:
    def double(settings: BigQuerySettings, tokens: TokenSource) -> Attached | str:
        statements = FileStatements(settings, file, fault, at)
        if reason := ruled_out(settings.model_copy(update={"storage_endpoint": None}), tokens):
            return reason
        attached = Attached(statements, tokens, memory_bytes=2**30, threads=2, command=COMMAND)
        (made if made is not None else []).append(attached)
        return attached

    def makers(settings: Settings, warehouse: Warehouse, processes: Processes) -> Makers:
        bigquery = settings.data_source.bigquery
        assert bigquery is not None
        return {"bigquery": lambda: BigQuerySource(bigquery, warehouse, double)}

    place: Mapping[str, Any] = bigquery_at(bq, direct_reads=reads, attach=attach)
    settings = Settings.model_validate(
        {
            "data_dir": str(folder / reads),
            "data_source": {"bigquery": place},
            "snapshots": {"min_free_gb": 0},
            "engine": ONE_PROCESS,
            "api": {"scan": {"max_concurrent_per_user": 1, "queue_seconds": 0, "request_timeout_seconds": within_s}},
            "tables": [remote_table("big")],
        }
    )
    return Gateway(settings, makers)


def audited(gateway: Gateway, tool: str) -> list[dict[str, Any]]:
    (file,) = (gateway.settings.data_dir / "audit").glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["tool"] == tool]


async def test_the_snapshot_the_bill_and_the_audit_are_those_of_the_stream(
    bq: StandIn, file: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int, dict[str, Any]]] = []
    # the bytes of rows in memory are those of the batches, which each way cuts as it can
    varying = ("request_id", "timestamp", "ts", "at", "latency_ms", "time", "started_at", "actual_result_bytes")
    for reads in ("stream", "attached"):
        async with gateway_over(bq, file, tmp_path, reads=reads) as gateway:
            answer = await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it")
            assert answer.snapshot is not None
            found = await gateway.queries.query(os_user(), "SELECT count(*), sum(id), min(word) FROM all_of_it")
            assert (found.rows[0][0], int(found.rows[0][1]), found.rows[0][2]) == (
                ROWS,
                ROWS * (ROWS - 1) // 2,
                "word 0",
            )
            (line,) = audited(gateway, "fetch")
            told.append(
                (
                    answer.snapshot.rows or 0,
                    answer.bytes_billed or 0,
                    {k: v for k, v in line.items() if k not in varying},
                )
            )
    assert told[0] == told[1]
    assert len(bq.requests.named("ReadRows")) == 1


async def nothing_is_held(gateway: Gateway, billed: int) -> None:
    quota = (await gateway.usage.today(os_user())).quota
    assert quota.running_scans == 0
    assert quota.daily_bytes_reserved == 0
    assert quota.daily_bytes_used == billed
    assert sum(line.get("bytes_billed") or 0 for line in audited(gateway, "fetch")) == billed


#: What each reading of the table bills, by BigQuery's rule for sizes: INT64 8, STRING 2 and its bytes.
WHOLE = ROWS * 10 + sum(len(f"word {i}") for i in range(ROWS))
BREAKS = ["truncate", "internal", "unauthenticated", "denied", "exhausted", "abort", "killed", "memory", "port closes"]


@pytest.mark.parametrize("fault", BREAKS)
async def test_what_breaks_in_the_middle_is_a_whole_snapshot_and_an_honest_bill(
    bq: StandIn, file: Path, tmp_path: Path, fault: str
) -> None:
    """There is one slot, and one name: the second fetch has both, and meets the same fault."""
    async with gateway_over(bq, file, tmp_path, fault, ROWS * 9 // 10) as gateway:
        billed = 0
        for _ in range(2):
            answer = await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it", force=True)
            assert answer.snapshot is not None
            assert answer.snapshot.rows == ROWS
            assert answer.snapshot.complete
            assert WHOLE < (answer.bytes_billed or 0) < 2 * WHOLE
            billed += answer.bytes_billed or 0
            await nothing_is_held(gateway, billed)
        assert [line["status"] for line in audited(gateway, "fetch")] == ["ok", "ok"]
        found = await gateway.queries.query(os_user(), "SELECT count(DISTINCT id), count(*) FROM all_of_it")
        assert found.rows[0] == [ROWS, ROWS]


@pytest.mark.parametrize("ended_by", ["its deadline", "its caller"])
@pytest.mark.parametrize("at", [0, ROWS // 2], ids=["before the first row", "in the middle"])
@pytest.mark.parametrize("fault", ["stall", "silent port", "closed port"])
async def test_what_hangs_ends_with_its_call_and_holds_nothing(
    bq: StandIn, file: Path, tmp_path: Path, fault: str, at: int, ended_by: str
) -> None:
    made: list[Attached] = []
    within_s = 4.0 if ended_by == "its deadline" else 300.0
    async with gateway_over(bq, file, tmp_path, fault, at, within_s=within_s, made=made) as gateway:
        with anyio.fail_after(PATIENCE_S):
            if ended_by == "its deadline":
                with pytest.raises(AgnesError) as caught:
                    await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it")
                assert caught.value.kind == "timeout"
            else:
                async with anyio.create_task_group() as group:
                    group.start_soon(partial(gateway.fetches.fetch, os_user(), REQUEST, name="all_of_it"))
                    while not made or not made[0].processes.pool._busy:
                        await anyio.sleep(0.02)
                    group.cancel_scope.cancel()
                await until(lambda: gateway.calls.stuck == 0 and len(audited(gateway, "fetch")) == 1)
        (line,) = audited(gateway, "fetch")
        billed = line.get("bytes_billed") or 0
        assert 0 <= billed <= WHOLE
        await nothing_is_held(gateway, billed)
        assert (await gateway.snapshots.entries(os_user())).snapshots == []
        made[0]._statements = FileStatements(BigQuerySettings(project="my-project"), file)
        gateway.settings.api.scan.request_timeout_seconds = 300
        answer = await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it")
        assert answer.snapshot is not None
        assert answer.snapshot.rows == ROWS
        await nothing_is_held(gateway, billed + WHOLE)
        assert bq.requests.named("ReadRows") == []


@pytest.mark.parametrize("reads", ["stream", "attached"])
@pytest.mark.parametrize("attach", ["auto", "eager", "lazy", "off"])
async def test_when_it_attaches_and_which_way_rows_come(
    bq: StandIn, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attach: str, reads: str
) -> None:
    monkeypatch.setattr("agnes_mcp.operations.upkeep._ATTACH_AFTER_S", 0.0)
    if attach == "off" and reads == "attached":
        with pytest.raises(ValueError, match="direct_reads is `attached`, and attach is `off`"):
            gateway_over(bq, file, tmp_path, reads=reads, attach=attach)
        return
    async with gateway_over(bq, file, tmp_path, reads=reads, attach=attach) as gateway:
        gateway.attaching.start()

        async def told() -> str:
            return str(((await gateway.usage.today(os_user())).bigquery.get("extension") or {}).get("state"))

        ahead = attach in ("auto", "eager")
        with anyio.fail_after(PATIENCE_S):
            while ahead and await told() != "attached":
                await anyio.sleep(0.05)
        answer = await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it")
        assert answer.snapshot is not None
        assert (answer.snapshot.rows, answer.bytes_billed) == (ROWS, WHOLE)
        assert len(bq.requests.named("ReadRows")) == (reads == "stream")
        attached = ahead or reads == "attached"
        not_there = "off: data_source.bigquery.attach" if attach == "off" else "not attached yet"
        assert await told() == ("attached" if attached else not_there)


async def test_sighup_brings_the_next_try_forward(
    bq: StandIn, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reload does; the same thread has been waiting for its time."""
    monkeypatch.setattr("agnes_mcp.operations.upkeep._ATTACH_AFTER_S", 0.0)
    made: list[Attached] = []
    async with gateway_over(bq, file, tmp_path, "load:builtin", made=made) as gateway:
        gateway.attaching.start()

        async def told() -> dict[str, Any]:
            return dict((await gateway.usage.today(os_user())).bigquery.get("extension") or {})

        with anyio.fail_after(PATIENCE_S):
            while "next_try" not in await told():
                await anyio.sleep(0.05)
            assert (await told())["state"].startswith("not to be had: ")
            made[0]._statements = FileStatements(BigQuerySettings(project="my-project"), file)
            await gateway.upkeep.reload(gateway.settings)
            while (await told())["state"] != "attached":
                await anyio.sleep(0.05)


async def test_the_process_may_abort_and_the_server_answers(bq: StandIn, file: Path, tmp_path: Path) -> None:
    async with gateway_over(bq, file, tmp_path, "load:abort") as gateway:
        answer = await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it")
        assert answer.snapshot is not None
        assert answer.snapshot.rows == ROWS
        state = (await gateway.usage.today(os_user())).bigquery["extension"]["state"]
        assert state == "not to be had: it ends the process that loads it"


async def test_who_serves_attaches_ahead_and_usage_says_so(
    bq: StandIn, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.operations.upkeep._ATTACH_AFTER_S", 0.0)
    async with gateway_over(bq, file, tmp_path) as gateway:
        gateway.attaching.start()

        async def told() -> dict[str, Any]:
            return dict((await gateway.usage.today(os_user())).bigquery.get("extension") or {})

        with anyio.fail_after(PATIENCE_S):
            while (await told()).get("state") != "attached":
                await anyio.sleep(0.05)
        assert (await told())["datasets"] == ["my-project.my_dataset"]
        assert (await gateway.usage.today(os_user())).bigquery["token"]["token_age_s"] >= 0
    assert bq.query_jobs() == []


def test_no_tool_reads_through_the_extensions_query_function() -> None:
    """It has no cap, no label and no job id: it is written into extracts, recognised in them, and never run."""
    root = Path(__file__).parents[2]
    found = {
        str(path.relative_to(root))
        for folder in ("agnes_mcp", "tools", "resources")
        for path in (root / folder).rglob("*.py")
        if "bigquery_query" in path.read_text(encoding="utf-8")
    }
    assert found == {f"agnes_mcp/extracts/{name}.py" for name in ("offers", "rebuilding", "statements")}
