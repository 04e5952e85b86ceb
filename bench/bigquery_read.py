"""A million rows from BigQuery into a snapshot, against Google's own client read in a bare loop into Parquet.

    python bench/bigquery_read.py [--small] [--json]

The stand-in runs in a process of its own. The bare loop is `BigQueryReadClient.read_rows`, decoded with
`pyarrow.ipc.read_record_batch` and written with a `ParquetWriter`. Ours are `fetch` by Storage Read and by a query job;
and through DuckDB's extension where AGNES_BIGQUERY_EXTENSION names its file and it reaches what it reads: Google's own
address, or whom this machine takes for it. Memory is the highest resident size during a read above that of the process
before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import TURNS, Figure, Peak, main, speed

from support.instances import connected, settings_of  # isort: skip
from support.metadata_server import MetadataServer  # isort: skip

from agnes_mcp.gateway import Gateway
from agnes_mcp.sources.bigquery.extension_sql import FILE_VARIABLE

AGAINST = "a bare Storage Read loop + ParquetWriter"
COLUMNS = ["id", "at", "country", "note", "amount", "price"]
TABLES = [{"id": "events", "source_type": "bigquery", "bucket": "my_dataset", "source_table": "events"}]
GROUP_ROWS = 122_880


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
        print(json.dumps({"rest": bq.api_endpoint, "grpc": bq.grpc_target}), flush=True)
        sys.stdin.read()


@contextmanager
def stand_in(rows: int) -> Iterator[dict[str, str]]:
    command = [sys.executable, __file__, "--serve", str(rows)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


Through = Callable[[pa.RecordBatchReader], pa.RecordBatchReader]


def bare_loop(grpc_target: str, target: Path, through: Through = lambda rows: rows) -> None:
    """What Google's documentation shows, decoded without its deprecated helpers, into row groups of our size."""
    import grpc
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    channel = grpc.insecure_channel(grpc_target, options=[("grpc.max_receive_message_length", -1)])
    client = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
    session = client.create_read_session(
        parent="projects/my-project",
        read_session=types.ReadSession(
            table="projects/my-project/datasets/my_dataset/tables/events",
            data_format=types.DataFormat.ARROW,
            read_options=types.ReadSession.TableReadOptions(selected_fields=COLUMNS),
        ),
        max_stream_count=1,
    )
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
    batches = (
        pa.ipc.read_record_batch(pa.py_buffer(message.arrow_record_batch.serialized_record_batch), schema)
        for stream in session.streams
        for message in client.read_rows(stream.name)
    )
    group: list[pa.RecordBatch] = []
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in through(pa.RecordBatchReader.from_batches(schema, batches)):
            group.append(batch)
            if sum(batch.num_rows for batch in group) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
    channel.close()


def guarded_loop(grpc_target: str, target: Path, *, registered: bool) -> None:
    """The bare loop, and what a snapshot promises beside: on the disk, its bytes and its rows hashed; and `registered`
    on a DuckDB connection, as the rows of whole columns are."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")

        def through(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
            connection.register("stream", rows.__arrow_c_stream__())
            return connection.sql("FROM stream").to_arrow_reader(GROUP_ROWS)

        bare_loop(grpc_target, target, *([through] if registered else []))
        with target.open("rb+") as file:
            os.fsync(file.fileno())
            hashlib.file_digest(file, "sha256")
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        connection.execute(f"SELECT sum(h), sum(hash(h)) FROM (SELECT hash({columns}) AS h FROM '{target}')").fetchall()


async def gather(small: bool) -> list[Figure]:
    rows = 20_000 if small else 1_000_000
    found: list[Figure] = []
    with stand_in(rows) as endpoints, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bigquery = {
            "project": "my-project",
            "api_endpoint": endpoints["rest"],
            "storage_endpoint": f"grpc://{endpoints['grpc']}",
        }
        settings = settings_of(
            folder / "data", TABLES, data_source={"bigquery": bigquery}, snapshots={"min_free_gb": 0}
        )
        async with Gateway(settings) as gateway, connected(gateway, "legacy") as client:

            async def fetch(where: str | None) -> None:
                arguments: dict[str, Any] = {"table_id": "events", "select": COLUMNS, "name": "kept", "force": True}
                answer = await client.call_tool("fetch", arguments | ({"where": where} if where else {}))
                assert not answer.is_error, answer.content
                assert answer.structured_content is not None
                assert answer.structured_content["snapshot"]["rows"] == rows

            ways: dict[str, Any] = {
                "bare": lambda: asyncio.to_thread(bare_loop, endpoints["grpc"], folder / "bare.parquet"),
                **{
                    name: lambda kind=kind: asyncio.to_thread(
                        guarded_loop, endpoints["grpc"], folder / "guarded.parquet", registered=kind
                    )
                    for name, kind in (("guarded", False), ("registered", True))
                },
                "Storage Read": lambda: fetch(None),
                "a query job": lambda: fetch(f"id >= {-time.time_ns()}"),
            }
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(2 if small else TURNS + 1):
                for way, run in ways.items():
                    started = time.perf_counter()
                    await run()
                    if turn:
                        taken[way].append(time.perf_counter() - started)
            found += [
                speed(
                    f"`fetch` of {rows:,} remote rows by {way}", AGAINST,
                    statistics.median(taken[way]), statistics.median(taken["bare"]), 0.9, rows, "rows",
                )
                for way in ("Storage Read", "a query job")
            ]  # fmt: skip
            found += [
                speed(
                    name, AGAINST, statistics.median(taken[way]),
                    statistics.median(taken["bare"]), None, rows, "rows",
                )
                for way, name in (
                    ("guarded", "that bare loop with a snapshot's promises: synced, its bytes and its rows hashed"),
                    ("registered", "the same, its rows registered on a DuckDB connection"),
                )
            ]  # fmt: skip
            for way in ("Storage Read", "a query job"):
                with Peak() as peak:
                    await ways[way]()
                found.append(
                    Figure(f"memory while {rows:,} remote rows are fetched by {way}", "the same process before",
                           peak.above_idle_mb, 200, unit="MB")
                )  # fmt: skip
    return found


async def through_extension(rows: int, turns: int) -> Figure:
    """The same through DuckDB's extension. Not measured: there is no file of it, or it could not be read by."""
    name = f"`fetch` of {rows:,} remote rows through DuckDB's extension"
    if not os.environ.get(FILE_VARIABLE):
        return Figure(name, AGAINST, None, 0.9, "at least", floor=f"{FILE_VARIABLE} names no file")
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    with stand_in(rows) as endpoints, MetadataServer() as metadata, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["GCE_METADATA_HOST"] = metadata.host
        bigquery = {"project": "my-project", "api_endpoint": endpoints["rest"], "direct_reads": "attached"}
        settings = settings_of(
            folder / "data", TABLES, data_source={"bigquery": bigquery}, snapshots={"min_free_gb": 0}
        )
        async with Gateway(settings) as gateway, connected(gateway, "legacy") as client:
            for _ in range(turns + 1):
                started = time.perf_counter()
                answer = await client.call_tool(
                    "fetch", {"table_id": "events", "select": COLUMNS, "name": "kept", "force": True}
                )
                taken["ours"].append(time.perf_counter() - started)
                bigquery = (await client.call_tool("usage", {})).structured_content["bigquery"]
                if answer.is_error or bigquery["extension"]["state"] != "attached" or "storage_read" in bigquery:
                    return Figure(name, AGAINST, None, 0.9, "at least", floor=bigquery["extension"]["state"])
                started = time.perf_counter()
                await asyncio.to_thread(bare_loop, endpoints["grpc"], folder / "bare.parquet")
                taken["bare"].append(time.perf_counter() - started)
    ours_s, bare_s = (statistics.median(times[1:]) for times in taken.values())
    return speed(name, AGAINST, ours_s, bare_s, 0.9, rows, "rows")


def measure(small: bool) -> Iterator[Figure]:
    yield from asyncio.run(gather(small))
    yield asyncio.run(through_extension(20_000 if small else 1_000_000, 1 if small else TURNS))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]))
    else:
        main(measure, __doc__)
