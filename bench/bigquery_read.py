"""A million rows from BigQuery: our reads against a bare loop of Google's own client, and the memory they hold.

    python bench/bigquery_read.py [--rows 1000000] [--rounds 5] [--batch-pause-ms 0]

The stand-in runs in a process of its own. Each round reads the same table in turn: with the bare loop
(`BigQueryReadClient.read_rows`, decoded with `pyarrow.ipc.read_record_batch`), our direct read, the same registered on
the shared DuckDB connection (as it is served), our query job, and a direct read whose reader is slower than the wire.
Throughput is of the best round. Memory is the highest resident size during any read above that of the process when it
had only read a table of ten rows.

Wanted: direct read ≥ 0.8 of the bare loop, memory < 250 MB. The exit code says whether that held.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pyarrow as pa

from agnes_mcp.calls.call import Call
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.models import Principal, Statement, Table
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.warehouse import Warehouse

WANTED_RATIO = 0.8
WANTED_MEMORY_MB = 250
COLUMNS = ["id", "at", "country", "note", "amount", "price"]


def serve(rows: int) -> None:
    """The other process: a stand-in with one table, until its standard input ends."""
    from agnes_mcp.stand_in import StandIn

    sql = (
        "SELECT i AS id, TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i) AS at, ['CZ','DE','PL','FR'][1 + i % 4] "
        "AS country, 'a note of some length, number ' || i AS note, i / 7 AS amount, CAST(i % 1000 AS DECIMAL(38,9)) "
        f"AS price FROM range({rows}) t(i)"
    )
    schema = "id INT64, at TIMESTAMP, country STRING, note STRING, amount FLOAT64, price NUMERIC"
    with StandIn() as bq:
        bq.create_table("my_dataset", "events", schema=schema, sql=sql)
        bq.create_table("my_dataset", "few", schema=schema, sql=f"{sql} LIMIT 10")
        print(json.dumps({"rest": bq.api_endpoint, "grpc": bq.grpc_target}), flush=True)
        sys.stdin.read()


@contextmanager
def stand_in(rows: int) -> Iterator[dict[str, str]]:
    command = [sys.executable, __file__, "--serve", "--rows", str(rows)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def bare_loop(grpc_target: str, table: str = "events") -> int:
    """What Google's documentation shows, decoded without its deprecated helpers."""
    import grpc
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    channel = grpc.insecure_channel(grpc_target, options=[("grpc.max_receive_message_length", -1)])
    client = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
    session = client.create_read_session(
        parent="projects/my-project",
        read_session=types.ReadSession(
            table=f"projects/my-project/datasets/my_dataset/tables/{table}",
            data_format=types.DataFormat.ARROW,
            read_options=types.ReadSession.TableReadOptions(selected_fields=COLUMNS),
        ),
        max_stream_count=1,
    )
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
    rows = 0
    for stream in session.streams:
        for message in client.read_rows(stream.name):
            content = pa.py_buffer(message.arrow_record_batch.serialized_record_batch)
            rows += pa.ipc.read_record_batch(content, schema).num_rows
    channel.close()
    return rows


def our_read(source: BigQuerySource, tail: str, pause_s: float = 0.0, name: str = "events") -> int:
    sql = f"SELECT {', '.join(COLUMNS)} FROM `my-project.my_dataset.{name}`{tail}"
    asked = Statement(sql=sql, dialect="bigquery", columns=COLUMNS, source_columns=COLUMNS, plain=not tail)
    table = Table(id=name, source_type="bigquery", query_mode="remote", bucket="my_dataset", source_table=name)
    call = Call("bench", Principal("bench"))
    schema = source.schema(table, call)
    price = source.price(table, schema, asked, call)
    rows = 0
    with source.read(table, schema, asked, price, call) as reading:
        for batch in reading:
            rows += batch.num_rows
            if pause_s:
                time.sleep(pause_s)
    return rows


def measure(read: Callable[[], int], idle: int) -> tuple[int, float, float]:
    """Rows, seconds, and the highest resident size above `idle`, in MB."""
    process, over, peak = psutil.Process(), threading.Event(), idle

    def sample() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    started = time.perf_counter()
    rows = read()
    seconds = time.perf_counter() - started
    over.set()
    sampler.join()
    return rows, seconds, (peak - idle) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-pause-ms", type=float, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.rows)
        return 0
    with stand_in(given.rows) as endpoints:
        settings = {"project": "my-project", "api_endpoint": endpoints["rest"]}
        settings["storage_endpoint"] = f"grpc://{endpoints['grpc']}"
        source = BigQuerySource(BigQuerySettings.model_validate(settings))
        warehouse = Warehouse(memory_limit_bytes=2**30, threads=2)
        registered = BigQuerySource(BigQuerySettings.model_validate(settings), warehouse)
        ways: dict[str, Callable[[], int]] = {
            "bare loop": lambda: bare_loop(endpoints["grpc"]),
            "direct read": lambda: our_read(source, ""),
            "registered": lambda: our_read(registered, ""),
            "query job": lambda: our_read(source, f" WHERE id >= {-time.time_ns()}"),
            "slow reader": lambda: our_read(registered, "", given.batch_pause_ms / 1000),
        }
        bare_loop(endpoints["grpc"], "few")
        for tail in ("", " WHERE id >= 0"):
            our_read(source, tail, name="few")
            our_read(registered, tail, name="few")
        idle = psutil.Process().memory_info().rss
        found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                found[name].append(measure(way, idle))
        source.close()
        registered.close()
        warehouse.close()
    return report(found, given.rows)


def report(found: dict[str, list[tuple[int, float, float]]], rows: int) -> int:
    best = {name: min(seconds for _, seconds, _ in runs) for name, runs in found.items()}
    peaks = {name: max(peak for _, _, peak in runs) for name, runs in found.items()}
    print(f"{'way':<12} {'rows/s':>12} {'of bare loop':>13} {'peak MB above idle':>19}")
    for name, seconds in best.items():
        ratio = best["bare loop"] / seconds
        print(f"{name:<12} {rows / seconds:>12,.0f} {ratio:>13.2f} {peaks[name]:>19.1f}")
    whole = all(count == rows for runs in found.values() for count, _, _ in runs)
    fast = best["bare loop"] / best["direct read"] >= WANTED_RATIO
    flat = max(peaks.values()) < WANTED_MEMORY_MB
    print(f"every row: {whole}; ratio >= {WANTED_RATIO}: {fast}; memory < {WANTED_MEMORY_MB} MB: {flat}")
    return 0 if whole and fast and flat else 1


if __name__ == "__main__":
    sys.exit(main())
