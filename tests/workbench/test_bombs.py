"""Resource bombs: an answer or a coded error in time, memory within bounds, everybody else served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.waiting import PATIENCE_S
from support.workbench_cases import Dataset, cases, opened, rows, run

from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes import worker
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal
from agnes_mcp.workbench import admission
from agnes_mcp.workbench.parser import DuckDBParser
from agnes_mcp.workbench.workbench import Workbench

MEMORY_BYTES = 192 * 2**20
TIMEOUT_S = 0.8
#: What a bomb may end in. Anything else, a wrong answer or a crash of the server, is a failure.
CODED = {"query_refused", "query_failed", "query_out_of_memory", "result_too_large", "timeout"}

GENERATED = {
    "deep parentheses": "SELECT " + "(" * 8000 + "1" + ")" * 8000,
    "deep lists": "SELECT " + "[" * 8000 + "1" + "]" * 8000,
    "deep subqueries": "SELECT * FROM " + "(SELECT * FROM " * 700 + "orders" + ")" * 700,
    "deep CASE": "SELECT " + "CASE WHEN 1=1 THEN " * 500 + "1" + " END" * 500,
    "long sums": "SELECT " + "+".join(["1"] * 8000),
    "many ANDs": "SELECT 1 FROM orders WHERE " + " AND ".join(["id=1"] * 1500),
    "100,000 ANDs": "SELECT 1 WHERE " + " AND ".join(["1=1"] * 100_000),
    "many UNIONs": " UNION ALL ".join(["SELECT 1"] * 800),
    "many joins": "SELECT count(*) FROM " + " NATURAL JOIN ".join(f"orders o{n}" for n in range(300)),
    "huge literal": "SELECT '" + "x" * 10_000_000 + "'",
    "long IN list": "SELECT 1 WHERE 1 IN (" + ",".join(map(str, range(3000))) + ")",
    "doubling CTEs": "WITH c0 AS (SELECT 1 AS x), "
    + ", ".join(f"c{n} AS (SELECT a.x FROM c{n - 1} a, c{n - 1} b)" for n in range(1, 200))
    + " SELECT count(*) FROM c199",
    "doubling text": "WITH c0 AS (SELECT 'x' AS s FROM orders), "
    + ", ".join(f"c{n} AS (SELECT s || s AS s FROM c{n - 1})" for n in range(1, 60))
    + " SELECT max(length(s)) FROM c59",
    "many columns": "SELECT " + ", ".join(["*"] * 4000) + " FROM orders",
}
BOMBS = {f"line {case.line}: {case.sql[:60]}": case.sql for case in cases("bombs.sql")} | GENERATED


@contextmanager
def peak_of(bench: Workbench) -> Iterator[list[int]]:
    """The largest resident size of any worker, sampled while inside."""
    peaks, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.01):
            for pid in bench.processes.state()["processes"]:
                try:
                    peaks[0] = max(peaks[0], psutil.Process(pid).memory_info().rss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


class Neighbour(threading.Thread):
    """Another caller, who asks small questions all the while."""

    def __init__(self, bench: Workbench, dataset: Dataset) -> None:
        super().__init__()
        self.bench, self.views = bench, dataset.views
        self.answers: list[float] = []
        self.wrong: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            try:
                result = run(self.bench, "SELECT count(*) FROM orders", self.views)
            except AgnesError as error:
                self.wrong.append(str(error))
            else:
                self.answers.append(result.elapsed_s)
                self.wrong += [] if rows(result) == [[60]] else [repr(rows(result))]


def refused_by_gate(dataset: Dataset) -> dict[str, str]:
    """The bombs that only reach the engine when the gate is taken away."""
    parser, tables, refused = DuckDBParser(MEMORY_BYTES), [view.name for view in dataset.views], {}
    for name, sql in BOMBS.items():
        try:
            admission.admit(sql, tables, parser)
        except AgnesError:
            refused[name] = sql
    return refused


def explode(bombs: dict[str, str], bench: Workbench, dataset: Dataset) -> dict[str, str]:
    """Every bomb in turn; what went wrong with which."""
    wrong = {}
    for name, sql in bombs.items():
        started = time.monotonic()
        try:
            call = Call("query", Principal("bomber"), timeout_s=TIMEOUT_S)
            result = run(bench, sql, dataset.views, limit_rows=1000, max_bytes=2**20, call=call)
            kind = "" if result.row_count <= 1000 else "too many rows"
        except AgnesError as error:
            kind = error.kind
        elapsed_s = time.monotonic() - started
        if (kind and kind not in CODED) or elapsed_s > TIMEOUT_S + PATIENCE_S:
            wrong[name] = f"{kind} after {elapsed_s:.1f} s"
    return wrong


UNGATED = ("-I", "-B", str(Path(__file__).with_name("ungated.py")))


@pytest.mark.parametrize("gated", [True, False], ids=["with the gate", "without the gate"])
def test_a_bomb_ends_in_time_within_memory_and_others_are_served(gated: bool, dataset: Dataset) -> None:
    bombs = BOMBS if gated else refused_by_gate(dataset)
    command = worker.CHILD if gated else UNGATED
    own_bytes = psutil.Process().memory_info().rss
    with opened(pool_size=2, memory_bytes=MEMORY_BYTES, threads=1, timeout_s=20, command=command) as bench:
        neighbour = Neighbour(bench, dataset)
        neighbour.start()
        with peak_of(bench) as peaks:
            wrong = explode(bombs, bench, dataset)
        neighbour.done.set()
        neighbour.join()
    assert len(bombs) >= 12
    assert not wrong
    # a bomb would take gigabytes: what else a process takes, and the allocator keeps, differs from run to run
    assert peaks[0] <= MEMORY_BYTES + 200 * 2**20
    assert psutil.Process().memory_info().rss - own_bytes <= 150 * 2**20
    assert not neighbour.wrong
    assert len(neighbour.answers) >= 10


def test_the_table_of_bombs_is_large() -> None:
    assert len(BOMBS) >= 25
