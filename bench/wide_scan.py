"""A remote scan of very many columns, against the same statement through Google's own client.

    python bench/wide_scan.py [--small] [--json]

The stand-in runs in a process of its own. Each round asks in turn: Google's client (dry run, then `query` and all rows
as Arrow), and our `scan` of every column with a condition (price, job, rows, the answer that fits, and the rest kept as
a snapshot).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from measuring import TURNS, Figure, main, ratio

from agnes_mcp.access.grants import os_user
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest

if TYPE_CHECKING:
    from google.cloud import bigquery

ROWS = 50


def serve(counts: list[int]) -> None:
    """The other process: a stand-in with a table of each width, until its standard input ends."""
    from agnes_mcp.stand_in import StandIn

    with StandIn() as bq:
        for count in counts:
            columns = ", ".join(f"i + {n} AS c{n}" for n in range(count))
            bq.create_table("my_dataset", f"wide_{count}", sql=f"SELECT {columns} FROM range({ROWS}) t(i)")
        print(json.dumps({"rest": bq.api_endpoint, "grpc": bq.grpc_target}), flush=True)
        sys.stdin.read()


@contextmanager
def stand_in(counts: list[int]) -> Iterator[dict[str, str]]:
    command = [sys.executable, __file__, "--serve", *map(str, counts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def google(client: bigquery.Client, count: int, floor: int) -> float:
    """Seconds of a dry run and the rows, as Google's documentation does both."""
    from google.cloud import bigquery

    names = ", ".join(f"`c{n}`" for n in range(count))
    sql = f"SELECT {names} FROM `my-project.my_dataset.wide_{count}` WHERE `c0` > {floor} LIMIT {ROWS + 1}"
    started = time.perf_counter()
    client.query(sql, bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))
    rows = client.query(sql).result().to_arrow(create_bqstorage_client=False)
    assert rows.num_columns == count
    return time.perf_counter() - started


async def ours(gateway: Gateway, count: int, floor: int) -> float:
    started = time.perf_counter()
    request = ScanRequest(table_id=f"wide_{count}", where=f"c0 > {floor}", limit=ROWS)
    answer = await gateway.scans.scan(os_user(), request)
    assert answer.columns
    return time.perf_counter() - started


async def gather(endpoints: dict[str, str], counts: list[int], rounds: int) -> dict[int, tuple[float, float]]:
    """By width: the medians of Google's client and of ours, in seconds."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    options = ClientOptions(api_endpoint=endpoints["rest"])
    client = bigquery.Client("my-project", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]
    source = {"project": "my-project", "api_endpoint": endpoints["rest"]}
    source["storage_endpoint"] = f"grpc://{endpoints['grpc']}"
    tables = [{"id": f"wide_{n}", "source_type": "bigquery", "bucket": "my_dataset"} for n in counts]
    found: dict[int, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"data_dir": folder, "data_source": {"bigquery": source}, "tables": tables}
        async with Gateway(Settings.model_validate(settings)) as gateway:
            for count in counts:
                times: list[tuple[float, float]] = []
                for turn in range(rounds + 1):  # the first is not counted: libraries load, the schema is read
                    theirs = google(client, count, -1 - 2 * turn)
                    times.append((theirs, await ours(gateway, count, -2 - 2 * turn)))
                them, us = zip(*times[1:], strict=True)
                found[count] = (statistics.median(them), statistics.median(us))
    return found


def measure(small: bool) -> Iterator[Figure]:
    counts = [30, 100] if small else [1500, 5000]
    with stand_in(counts) as endpoints:
        found = anyio.run(gather, endpoints, counts, 1 if small else TURNS)
    for count, (theirs, ours_s) in found.items():
        yield ratio(f"remote `scan` of {count:,} columns", "Google's client: dry run, query, rows", ours_s, theirs, 3)
    (first, (_, narrow)), (last, (_, wide)) = min(found.items()), max(found.items())
    yield Figure(
        f"seconds per column, {last:,} columns", f"of {first:,}: no growth with the square",
        (wide / last) / (narrow / first), None if small else 2,
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve([int(count) for count in sys.argv[2:]])
    else:
        main(measure, __doc__)
