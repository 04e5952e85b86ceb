"""Scans whose condition runs in a process that can be killed."""

from __future__ import annotations

from pathlib import Path

from support.instances import ME, settings_of, table, write

from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest


async def test_a_scan_whose_limit_was_reached_leaves_its_process_alive(tmp_path: Path) -> None:
    """The condition runs apart; a process that is left before its last word would be killed, and another started."""
    path = write(tmp_path, "events.parquet", "SELECT i AS id, 'note ' || i AS note FROM range(5000) AS r(i)")
    async with Gateway(settings_of(tmp_path / "data", [table("events", path)], engine={"query_workers": 1})) as gateway:
        request = ScanRequest(table_id="events", where="regexp_matches(note, '7')", limit=3)
        for _ in range(3):
            answer = await gateway.scans.scan(ME, request)
            assert (answer.row_count, answer.more_rows) == (3, True)
        state = gateway.processes.state()
    assert (state["processes_started"], gateway.processes.pool.replaced) == (1, 0)
