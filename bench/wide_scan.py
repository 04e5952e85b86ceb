"""A remote scan of very many columns, against the same statement through Google's own client.

    python bench/wide_scan.py [--columns 1500 5000] [--rounds 5]

The stand-in runs in a process of its own. Each round asks in turn: Google's client (dry run, then `query` and all rows
as Arrow), and our `scan` of every column with a condition (price, job, rows, the answer that fits, and the rest kept as
a snapshot). The ratio is of the medians.

Wanted: ≤ 3 of Google's client at 1,500 columns, and a time that grows with the columns and not with their square: per
column, 5,000 cost at most twice what 1,500 cost. The exit code says whether that held.
"""

from __future__ import annotations

import argparse
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

from agnes_mcp.access.grants import os_user
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest

if TYPE_CHECKING:
    from google.cloud import bigquery

WANTED_RATIO = 3.0
WANTED_GROWTH = 2.0
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
    command = [sys.executable, __file__, "--serve", "--columns", *map(str, counts)]
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


async def measure(endpoints: dict[str, str], counts: list[int], rounds: int) -> dict[int, tuple[float, float]]:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="+", default=[1500, 5000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.columns)
        return 0
    with stand_in(given.columns) as endpoints:
        found = anyio.run(measure, endpoints, given.columns, given.rounds)
    for count, (theirs, ours_s) in found.items():
        print(
            f"{count:>6,} columns: Google's client {theirs:6.2f} s, scan {ours_s:6.2f} s, ratio {ours_s / theirs:5.2f}"
        )
    (first, (theirs, narrow)), (last, (_, wide)) = min(found.items()), max(found.items())
    growth = (wide / last) / (narrow / first)
    near, linear = narrow / theirs <= WANTED_RATIO, growth <= WANTED_GROWTH
    print(f"ratio <= {WANTED_RATIO:g}: {near}; per column {growth:.2f} times as much, <= {WANTED_GROWTH:g}: {linear}")
    return 0 if near and linear else 1


if __name__ == "__main__":
    sys.exit(main())
