"""The demo's remote tables: the stand-in for BigQuery as a process of its own, from first use until the server ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.warehouse import Warehouse

PROJECT, DATASET = "my-project", "my_dataset"
STOP_WITHIN_S = 2.0
_REMOTE: dict[str, dict[str, Any]] = {
    "web_sessions": {
        "parquet": "web_sessions.parquet",
        "description": "Web and app sessions of the demo shop, one row each; partitioned by day, clustered by country.",
        "partition": {"field": "event_date", "type": "DAY"},
        "clustering": ["country_code", "platform"],
        "primary_key": ["session_id"],
        "descriptions": {
            "event_date": "The session's day, UTC; the partition column",
            "customer_id": "Null when not signed in",
            "device": "Browser, kind of device, and viewport in pixels",
            "channel": "What brought the visitor; null for direct visits",
        },
        "labels": {"team": "web"},
    },
    "orders": {
        "parquet": "orders.parquet",
        "description": "Orders of the demo shop, one row each; partitioned by the day they were placed.",
        "partition": {"field": "ordered_at", "type": "DAY"},
        "primary_key": ["order_id"],
        "descriptions": {"ordered_at": "When it was placed, UTC; the partition column"},
    },
    "web_sessions_v": {
        "view": "SELECT session_id, event_date, country_code, platform, converted, duration_s "
        "FROM `my-project.my_dataset.web_sessions` WHERE customer_id IS NOT NULL",
        "description": "Sessions of signed-in customers: a view over web_sessions.",
    },
}
TABLES = [
    {
        "id": f"bq_{name}",
        "source_type": "bigquery",
        "bucket": DATASET,
        "source_table": name,
        "description": entry["description"],
        "primary_key": entry.get("primary_key", []),
    }
    for name, entry in _REMOTE.items()
]


def write_spec(path: Path) -> None:
    """What the stand-in serves, beside the Parquet files it serves it from."""
    import yaml

    described = {"project": PROJECT, "location": "US", "datasets": {DATASET: {"tables": _REMOTE}}}
    path.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")


class DemoBigQuery(BigQuerySource):
    """BigQuery over a stand-in of its own. Made in a worker thread: starting it takes a second or two."""

    def __init__(self, warehouse: Warehouse, spec: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and paths of ours
            [sys.executable, "-m", "agnes_mcp.stand_in", "--load", str(spec), "--exit-with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        serving = self._await_serving()
        settings = BigQuerySettings(
            project=serving["project"],
            api_endpoint=serving["api_endpoint"],
            storage_endpoint=f"grpc://{serving['grpc_target']}",
        )
        super().__init__(settings, warehouse)

    def health(self) -> dict[str, Any]:
        return {"stand_in": "local, part of the demo: nothing is billed for real", **super().health()}

    def close(self) -> None:
        super().close()
        with _ending(self._process):
            self._process.terminate()

    def _await_serving(self) -> dict[str, str]:
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            raise AgnesError("internal_error", "The demo's BigQuery stand-in did not start.", "See the server's log.")
        serving: dict[str, str] = json.loads(line)
        return serving


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    yield
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
