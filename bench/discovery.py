"""Discovery of very many remote tables, and a catalog over them.

    python bench/discovery.py [--small] [--json]

The stand-in runs in a process of its own. Each round asks in turn: Google's client for every table of the dataset
(`list_tables`, a thousand a page, as ours), and a new instance for its first listing, registered and given ids, in a
data directory of its own. Neither pays for collecting what earlier turns left. Then the first catalog page and a search
by column, as a client of the SDK waits for them, over an instance of all of them and over one of ten, both learned from
an index that a restart would find.
"""

from __future__ import annotations

import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
from mcp import Client
from measuring import TURNS, Figure, main, ratio

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Column, TableSchema
from agnes_mcp.serving.server import build_server

if TYPE_CHECKING:
    from google.cloud import bigquery

FEW = 10
CALLS = 40
SEARCHED = {"first page": {}, "search by column": {"search": "column_00007_3"}}


def serve(count: int) -> None:
    """The other process: a stand-in with `many`, of so many tables, and `few`; until its standard input ends."""
    from agnes_mcp.stand_in import StandIn
    from agnes_mcp.stand_in.fields import read_schema
    from agnes_mcp.stand_in.tables import Table

    with StandIn() as bq:
        fields = read_schema("id INT64, day DATE, amount NUMERIC")
        for dataset, size in (("many", count), ("few", FEW)):
            bq.create_dataset(dataset)
            for n in range(size):
                bq.catalog.add_table(Table("my-project", dataset, f"table_{n:05}", fields=fields))
        print(json.dumps({"rest": bq.api_endpoint}), flush=True)
        sys.stdin.read()


@contextmanager
def stand_in(count: int) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["rest"]
        process.stdin.close()


def instance(endpoint: str, folder: str, dataset: str) -> Gateway:
    source = {"project": "my-project", "api_endpoint": endpoint, "datasets": [dataset]}
    source["discovery_requests_per_second"] = 1  # type: ignore[assignment]  # what is measured is not the reading behind
    return Gateway(Settings.model_validate({"data_dir": folder, "data_source": {"bigquery": source}}))


async def list_once(endpoint: str, count: int) -> float:
    """Seconds until every table is registered, from an empty data directory."""
    with tempfile.TemporaryDirectory() as folder:
        async with instance(endpoint, folder, "many") as gateway:
            call = gateway.calls.background("bench")
            gc.collect()
            started = time.perf_counter()
            await gateway.calls.run(call, lambda: gateway.tables.list_datasets(call))
            seconds = time.perf_counter() - started
            assert len(gateway.registry.by_id) == count
    return seconds


def google(client: bigquery.Client, count: int) -> float:
    gc.collect()
    started = time.perf_counter()
    assert sum(1 for _ in client.list_tables("many", page_size=1000)) == count
    return time.perf_counter() - started


async def learned(stack: AsyncExitStack, endpoint: str, dataset: str) -> Gateway:
    """An instance that knows every table, as after a restart over an index that is complete."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    async with instance(endpoint, folder, dataset) as first:
        call = first.calls.background("bench")
        await first.calls.run(call, lambda: first.tables.list_datasets(call))
        for number, table in enumerate(first.registry.by_id.values()):
            names = [f"column_{number:05}_{n}" for n in range(30)]
            columns = [Column(name=name, type="INT64") for name in names]
            first.tables.index.put(table, TableSchema(table_id=table.id, columns=columns, description="Rows of a kind"))
        first.tables.index.save(first.tables.places_to_keep())
    gateway = await stack.enter_async_context(instance(endpoint, folder, dataset))
    await gateway.catalog.settle(60)
    return gateway


async def ask(client: Client, **asked: Any) -> float:
    started = time.perf_counter()
    answer = await client.call_tool("catalog", {"limit": FEW, **asked})
    seconds = time.perf_counter() - started
    told = answer.structured_content or {}
    assert told["tables"]
    assert told.get("metadata_known") is None
    return seconds


async def browse(endpoint: str, calls: int) -> dict[str, tuple[float, float]]:
    """By what is asked: the medians over all tables and over ten, in seconds, asked in turn."""
    found = {}
    async with AsyncExitStack() as stack:
        many, few = [
            await stack.enter_async_context(Client(build_server(await learned(stack, endpoint, dataset))))
            for dataset in ("many", "few")
        ]
        for what, asked in SEARCHED.items():
            pairs = [(await ask(many, **asked), await ask(few, **asked)) for _ in range(calls)][2:]
            over_many, over_few = zip(*pairs, strict=True)
            found[what] = (statistics.median(over_many), statistics.median(over_few))
    return found


async def gather(endpoint: str, count: int, rounds: int, calls: int) -> dict[str, tuple[float, float]]:
    """By what is asked: seconds, and those of what it is compared with."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    options = ClientOptions(api_endpoint=endpoint)
    client = bigquery.Client("my-project", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]
    pairs = [(await list_once(endpoint, count), google(client, count)) for _ in range(rounds + 1)][1:]
    ours, theirs = zip(*pairs, strict=True)
    return {"listing": (statistics.median(ours), statistics.median(theirs)), **await browse(endpoint, calls)}


def measure(small: bool) -> Iterator[Figure]:
    logging.disable(logging.INFO)  # a line for each call
    count, rounds, calls = (200, 1, 4) if small else (10_000, TURNS, CALLS)
    with stand_in(count) as endpoint:
        found = anyio.run(gather, endpoint, count, rounds, calls)
    for what, (ours, theirs) in found.items():
        if what == "listing":
            yield ratio(f"{count:,} tables listed and given ids", "Google's `list_tables`", ours, theirs, 3)
        else:
            yield ratio(f"`catalog` over {count:,} tables, {what}", f"the same over {FEW} tables", ours, theirs, 3)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]))
    else:
        main(measure, __doc__)
