"""Run the stand-in as a process of its own:

    python -m agnes_mcp.stand_in --load SPEC.yaml [--port 0] [--grpc-port 0] [--exit-with-parent]

Once it serves it writes one line of JSON to stdout:

    {"api_endpoint": "http://127.0.0.1:43211", "grpc_target": "127.0.0.1:43212", "project": "my-project", "pid": 4711}

It ends on SIGTERM or SIGINT, and with `--exit-with-parent` when its stdin is closed. SPEC is YAML or JSON:

    project: my-project                 # default: my-project
    location: US                        # default: US
    datasets:
      my_dataset:
        description: Sales
        location: EU                    # default: the location above
        tables:
          orders:
            parquet: orders/*.parquet   # a path, a glob or a list, relative to SPEC; or `sql:` (DuckDB), or `rows:`
            schema: id INT64 NOT NULL OPTIONS(description='The key'), day DATE   # or REST fields; default: inferred
            descriptions: {day: The day of the order}       # of columns, added to what `schema` says
            partition: {field: day, type: DAY, require_filter: true}   # or just `day`; no field is ingestion time
            ingested: day               # with ingestion time: a DuckDB expression over the source
            clustering: [id]
            primary_key: [id]
            description: One row per order
            labels: {team: sales}
            snapshot: false             # true: a table of type SNAPSHOT
            created_ms: 1700000000000   # since when FOR SYSTEM_TIME AS OF may read it; default: a month ago
            row_filter: id < 3          # and the other switches of a table, as in the package's text
          orders_v: {view: "SELECT id FROM `my-project.my_dataset.orders`", description: …}
          orders_mv: {materialized_view: "SELECT day, COUNT(*) AS n FROM my_dataset.orders GROUP BY day"}
          orders_files: {external: "orders/*.parquet"}

`--demo DIR` is `--load DIR/bigquery.yaml`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from agnes_mcp.stand_in.spec import load, read_spec
from agnes_mcp.stand_in.stand_in import StandIn


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m agnes_mcp.stand_in", description="A stand-in for BigQuery.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--load", type=Path, metavar="SPEC", help="what to serve, as YAML or JSON")
    source.add_argument("--demo", type=Path, metavar="DIR", help="serve DIR/bigquery.yaml")
    parser.add_argument("--port", type=int, default=0, help="of REST; 0 picks a free one")
    parser.add_argument("--grpc-port", type=int, default=0, help="of Storage Read; 0 picks a free one")
    parser.add_argument("--grpc-tls", nargs=2, type=Path, metavar=("CERT", "KEY"), help="serve gRPC over TLS (PEM)")
    parser.add_argument("--require-token", action="store_true", help="refuse calls without an accepted bearer token")
    parser.add_argument("--accept-token", action="append", default=[], help="a token to accept from the start")
    parser.add_argument("--job-latency", type=float, default=0.0, metavar="SECONDS", help="every job runs so long")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin is closed")
    return parser.parse_args()


def main() -> int:
    asked = _arguments()
    path: Path = asked.load or asked.demo / "bigquery.yaml"
    described = read_spec(path)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stand_in = StandIn(
        described.get("project", "my-project"),
        described.get("location", "US"),
        require_token=asked.require_token,
        job_latency_s=asked.job_latency,
        port=asked.port,
        grpc_port=asked.grpc_port,
        grpc_certificate=(asked.grpc_tls[1].read_bytes(), asked.grpc_tls[0].read_bytes()) if asked.grpc_tls else None,
    )
    for token in asked.accept_token:
        stand_in.tokens.accept(token)
    load(stand_in, described, path.parent)
    with stand_in:
        ready = {"api_endpoint": stand_in.api_endpoint, "grpc_target": stand_in.grpc_target}
        sys.stdout.write(json.dumps(ready | {"project": stand_in.project, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        if asked.exit_with_parent:
            threading.Thread(target=_await_parent, args=(stop,), daemon=True).start()
        stop.wait()
    return 0


def _await_parent(stop: threading.Event) -> None:
    """Stdin ends when the process that holds its other end does."""
    while os.read(sys.stdin.fileno(), 4096):  # unbuffered: a lock on the buffer would outlive this thread
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
