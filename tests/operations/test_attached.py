"""Whole columns through the attached process, as a caller meets them: a file stands for BigQuery's extension."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
from support.attached_double import COMMAND, FileStatements
from support.metadata_server import MetadataServer
from support.waiting import PATIENCE_S

from agnes_mcp.access.grants import os_user
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.config.settings import BigQuerySettings, Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.sources.bigquery.attached import Attached
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.sources.kinds import Makers
from agnes_mcp.sources.warehouse import Warehouse
from agnes_mcp.stand_in import StandIn

pytestmark = pytest.mark.slow

ROWS = 200_000
_SQL = f"SELECT i AS id, 'word ' || i AS word FROM range({ROWS}) t(i)"
REQUEST = ScanRequest(table_id="big", select=["word", "id"])


@pytest.fixture
def bq(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with MetadataServer() as metadata, StandIn(project="my-project") as stand_in:
        monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
        monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        stand_in.create_table("my_dataset", "big", schema="id INT64, word STRING", sql=_SQL)
        yield stand_in


def gateway_over(bq: StandIn, folder: Path, fault: str = "", at: int = 0, reads: str = "attached") -> Gateway:
    file = folder / "bigquery.duckdb"
    if not file.exists():
        with duckdb.connect(str(file)) as connection:
            connection.execute(f"CREATE SCHEMA my_dataset; CREATE TABLE my_dataset.big AS {_SQL}")

    def double(settings: BigQuerySettings, tokens: TokenSource) -> Attached | str:
        statements = FileStatements(settings, file, fault, at)
        return Attached(statements, tokens, memory_bytes=2**30, threads=2, command=COMMAND)

    def makers(settings: Settings, warehouse: Warehouse, processes: Processes) -> Makers:
        bigquery = settings.data_source.bigquery
        assert bigquery is not None
        return {"bigquery": lambda: BigQuerySource(bigquery, warehouse, double)}

    place: Mapping[str, Any] = {
        "project": "my-project",
        "api_endpoint": bq.api_endpoint,
        "storage_endpoint": f"grpc://{bq.grpc_target}",
        "direct_reads": reads,
    }
    settings = Settings.model_validate(
        {
            "data_dir": str(folder / reads),
            "data_source": {"bigquery": place},
            "snapshots": {"min_free_gb": 0},
            "api": {"scan": {"max_concurrent_per_user": 1}},
            "tables": [{"id": "big", "source_type": "bigquery", "bucket": "my_dataset", "source_table": "big"}],
        }
    )
    return Gateway(settings, makers)


def audited(gateway: Gateway, tool: str) -> list[dict[str, Any]]:
    (file,) = (gateway.settings.data_dir / "audit").glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["tool"] == tool]


async def test_the_snapshot_the_bill_and_the_audit_are_those_of_the_stream(bq: StandIn, tmp_path: Path) -> None:
    told: list[tuple[int, int, dict[str, Any]]] = []
    # the bytes of rows in memory are those of the batches, which each way cuts as it can
    varying = ("request_id", "timestamp", "ts", "at", "latency_ms", "time", "started_at", "actual_result_bytes")
    for reads in ("stream", "attached"):
        async with gateway_over(bq, tmp_path, reads=reads) as gateway:
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


async def test_a_stream_that_ends_early_keeps_nothing_and_frees_the_slot(bq: StandIn, tmp_path: Path) -> None:
    async with gateway_over(bq, tmp_path, "truncate", ROWS // 2) as gateway:
        for _ in range(2):  # there is one slot, and one name
            with pytest.raises(AgnesError) as caught:
                await gateway.fetches.fetch(os_user(), REQUEST, name="half")
            assert caught.value.kind == "bq_upstream_error"
        assert (await gateway.snapshots.entries(os_user())).snapshots == []
        assert (await gateway.usage.today(os_user())).quota.running_scans == 0
        assert [line["error_kind"] for line in audited(gateway, "fetch")] == ["bq_upstream_error"] * 2


async def test_the_process_may_abort_and_the_server_answers(bq: StandIn, tmp_path: Path) -> None:
    async with gateway_over(bq, tmp_path, "load:abort") as gateway:
        answer = await gateway.fetches.fetch(os_user(), REQUEST, name="all_of_it")
        assert answer.snapshot is not None
        assert answer.snapshot.rows == ROWS
        state = (await gateway.usage.today(os_user())).bigquery["extension"]["state"]
        assert state == "not to be had: it ends the process that loads it"


async def test_who_serves_attaches_ahead_and_usage_says_so(
    bq: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.operations.upkeep._ATTACH_AFTER_S", 0.0)
    async with gateway_over(bq, tmp_path) as gateway:
        gateway.upkeep.attach_ahead()

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
