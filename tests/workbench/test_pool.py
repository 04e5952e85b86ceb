"""Processes: shared by many callers, killed in time, gone when the server is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import psutil
import pytest
from support.waiting import soon, wait_until
from support.workbench_cases import Dataset, opened, rows, run

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.calls.processes import child
from agnes_mcp.calls.processes.processes import Processes, Question, _explain_death
from agnes_mcp.calls.processes.watch import Watch
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal
from agnes_mcp.sql.duckdb_errors import query_out_of_memory
from agnes_mcp.sql.views import View
from agnes_mcp.workbench import JOB
from agnes_mcp.workbench.workbench import Workbench, died

ENDLESS = "SELECT max(n) FROM range(1000000000000) t(n)"


def start_running(bench: Workbench, call: Call) -> threading.Thread:
    """An endless query on its way, in a thread of its own; returns when the process is busy with it."""

    thread = threading.Thread(target=ask_endlessly, args=(bench, call))
    thread.start()
    wait_until(lambda: bool(bench.processes.state()["processes"]))
    process = psutil.Process(bench.processes.state()["processes"][0])
    wait_until(lambda: process.cpu_percent(0.05) > 10 and process.num_threads() > 0)
    return thread


def test_48_callers_at_once_each_get_their_own_rows(tmp_path: Path) -> None:
    def files(caller: int) -> list[View]:
        path = tmp_path / f"mine_{caller}.parquet"
        duckdb.connect().execute(f"COPY (SELECT {caller} AS owner, range AS n FROM range(50)) TO '{path}'")
        return [View("mine", "parquet", [str(path)])]

    grants = [files(caller) for caller in range(48)]
    with opened(pool_size=4, memory_bytes=128 * 2**20, threads=1, timeout_s=60) as bench:

        def ask(caller: int) -> list[list[list[int]]]:
            sql = f"SELECT DISTINCT owner, {caller} AS asked, count(*) OVER () AS n FROM mine"
            return [rows(run(bench, sql, grants[caller])) for _ in range(3)]

        with ThreadPoolExecutor(48) as callers:
            answers = list(callers.map(ask, range(48)))
        assert answers == [[[[caller, caller, 50]]] * 3 for caller in range(48)]
        assert len(bench.processes.state()["processes"]) <= 4


def test_a_running_query_is_killed_when_its_call_is_cancelled(small: Workbench) -> None:
    call = Call("query", Principal("ana"))
    thread = start_running(small, call)
    before = small.processes.state()["processes"]
    call.stop(cancelled())
    thread.join(60)
    assert not thread.is_alive()
    assert not psutil.pid_exists(before[0])
    assert rows(run(small, "SELECT 1 AS one", [])) == [[1]]


def test_one_principals_queries_keep_nobody_else_from_a_process() -> None:
    with opened(pool_size=2, memory_bytes=256 * 2**20, threads=1, timeout_s=120) as bench:
        long = [Call("query", Principal("ana")) for _ in range(12)]
        threads = [start_running(bench, call) for call in long[:2]]
        threads += [threading.Thread(target=ask_endlessly, args=(bench, call)) for call in long[2:]]
        for thread in threads[2:]:
            thread.start()
        wait_until(lambda: bench.processes.pool.waiting == 10)
        for number in range(3):
            assert rows(run(bench, f"SELECT {number}", [], call=Call("query", Principal("ben")))) == [[number]]
        assert bench.processes.pool.waiting == 10
        for call in long:
            call.stop(cancelled())
        for thread in threads:
            thread.join(60)
        wait_until(lambda: len(bench.processes.state()["processes"]) == 2)


def ask_endlessly(bench: Workbench, call: Call) -> None:
    with pytest.raises(AgnesError) as ended:
        run(bench, ENDLESS, [], call=call)
    assert ended.value.kind == "cancelled"


def test_a_turn_that_was_waited_for_is_shorter() -> None:
    call = Call("query", Principal("ana"))
    call.waits["process"] = 30.0
    with opened(pool_size=1, memory_bytes=256 * 2**20, threads=1, timeout_s=30) as bench:
        with pytest.raises(AgnesError) as refused:
            run(bench, "SELECT 1", [], call=call)
        assert refused.value.kind == "timeout"


def test_a_cancelled_call_says_so(small: Workbench) -> None:
    call = Call("query", Principal("ana"))
    call.stop(cancelled())
    with pytest.raises(AgnesError) as refused:
        run(small, "SELECT 1", [], call=call)
    assert refused.value.kind == "cancelled"


@pytest.mark.parametrize("bound", ["the call's", "the workbench's"])
def test_a_deadline_ends_the_query(bound: str) -> None:
    own_s, call_s = (20.0, 0.5) if bound == "the call's" else (2.0, None)
    with opened(pool_size=1, memory_bytes=256 * 2**20, threads=1, timeout_s=own_s) as bench:
        assert rows(run(bench, "SELECT 1", [])) == [[1]]
        started = time.monotonic()
        with pytest.raises(AgnesError) as refused, soon():
            run(bench, ENDLESS, [], call=Call("query", Principal("ana"), timeout_s=call_s))
        assert refused.value.kind == "timeout"
        limit_s = call_s or own_s
        assert time.monotonic() - started > limit_s - 0.1
        assert rows(run(bench, "SELECT 2", [])) == [[2]]


def test_a_waiting_call_can_be_cancelled_and_others_keep_their_turn(small: Workbench) -> None:
    running, waiting, after = (Call("query", Principal(name)) for name in ("ana", "bob", "eve"))
    first = start_running(small, running)
    kinds: dict[str, str] = {}

    def ask(call: Call) -> None:
        try:
            kinds[call.principal.name] = str(rows(run(small, "SELECT 7", [], call=call)))
        except AgnesError as error:
            kinds[call.principal.name] = error.kind

    threads = [threading.Thread(target=ask, args=(call,)) for call in (waiting, after)]
    for thread in threads:
        thread.start()
    wait_until(lambda: small.processes.pool.waiting == 2)
    waiting.stop(cancelled())
    threads[0].join(60)
    assert kinds == {"bob": "cancelled"}
    running.stop(cancelled())
    for thread in (first, *threads):
        thread.join(60)
    assert kinds == {"bob": "cancelled", "eve": "[[7]]"}


def test_a_call_that_waits_past_its_deadline_is_told_so(small: Workbench) -> None:
    running = Call("query", Principal("ana"))
    first = start_running(small, running)
    with pytest.raises(AgnesError) as refused:
        run(small, "SELECT 1", [], call=Call("query", Principal("bob"), timeout_s=0.3))
    assert refused.value.kind == "timeout"
    running.stop(cancelled())
    first.join(60)


def test_a_process_is_used_again_after_an_answer_and_after_a_refusal(small: Workbench, dataset: Dataset) -> None:
    run(small, "SELECT 1", [])
    before = small.processes.state()["processes"]
    for sql in ("SELECT count(*) FROM orders", "SELECT nothing FROM orders", "SELECT read_text('x')", "SELECT 1 FORM"):
        try:
            run(small, sql, dataset.views)
        except AgnesError:
            continue
    assert rows(run(small, "SELECT count(*) FROM orders", dataset.views)) == [[60]]
    assert small.processes.state()["processes"] == before


def test_a_process_outlives_the_thread_that_first_used_it(small: Workbench) -> None:
    thread = threading.Thread(target=run, args=(small, "SELECT 1", []))
    thread.start()
    thread.join()
    before = small.processes.state()["processes"]
    assert rows(run(small, "SELECT 2", [])) == [[2]]
    assert small.processes.state()["processes"] == before


def test_a_process_that_dies_by_itself_costs_one_coded_error_at_most(small: Workbench) -> None:
    run(small, "SELECT 1", [])
    os.kill(small.processes.state()["processes"][0], signal.SIGKILL)
    assert rows(run(small, "SELECT 2", [])) == [[2]]
    call = Call("query", Principal("ana"))
    kinds: list[str] = []

    def ask() -> None:
        try:
            run(small, ENDLESS, [], call=call)
        except AgnesError as error:
            kinds.append(error.kind)

    thread = threading.Thread(target=ask)
    thread.start()
    process = psutil.Process(small.processes.state()["processes"][0])
    before_s = process.cpu_times().user
    # More than getting ready for another question takes: one that ends before it has begun is asked again, elsewhere.
    wait_until(lambda: process.cpu_times().user > before_s + 0.5)
    os.kill(process.pid, signal.SIGSEGV)
    thread.join(60)
    assert kinds == ["query_failed"]
    assert rows(run(small, "SELECT 3", [])) == [[3]]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-signal.SIGXCPU, "timeout"),
        (-signal.SIGKILL, "query_out_of_memory"),
        (-signal.SIGABRT, "query_failed"),
        (-signal.SIGSEGV, "query_failed"),
        (1, "query_failed"),
    ],
)
def test_every_way_a_process_ends_has_a_code(code: int, kind: str) -> None:
    assert _explain_death(code, 5.0, Question("query", {}, query_out_of_memory, died)).kind == kind


def test_processes_that_cannot_start_are_an_error_and_not_a_hang() -> None:
    with opened(pool_size=1, timeout_s=10, command=("-c", "raise SystemExit(3)")) as bench:
        with pytest.raises(AgnesError) as refused:
            run(bench, "SELECT 1", [])
        assert refused.value.kind == "internal_error"


def test_close_ends_every_process_and_every_call() -> None:
    bench = Workbench(Processes(JOB, size=1, memory_bytes=256 * 2**20, threads=1), timeout_s=20)
    running = start_running(bench, Call("query", Principal("ana")))
    kinds: list[str] = []

    def ask() -> None:
        try:
            run(bench, "SELECT 1", [])
        except AgnesError as error:
            kinds.append(error.kind)

    waiting = threading.Thread(target=ask)
    waiting.start()
    wait_until(lambda: bench.processes.pool.waiting == 1)
    pids = bench.processes.state()["processes"]
    bench.processes.close()
    for thread in (running, waiting):
        thread.join(60)
        assert not thread.is_alive()
    assert kinds == ["cancelled"]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    with pytest.raises(AgnesError):
        run(bench, "SELECT 1", [])


def test_a_late_kill_does_not_reach_the_next_callers_process(small: Workbench) -> None:
    run(small, "SELECT 1", [])
    worker = small.processes.pool.workers()[0]
    watch = Watch(worker, time.monotonic() + 9, 9.0, 2**20, query_out_of_memory)
    with watch.watching():
        pass
    watch.kill()
    assert worker.alive


def test_a_process_is_replaced_after_its_last_query() -> None:
    with opened(pool_size=1, memory_bytes=128 * 2**20, threads=1) as bench:
        answers = [rows(run(bench, f"SELECT {number}", [])) for number in range(child.MAX_QUESTIONS + 5)]
        assert answers == [[[number]] for number in range(child.MAX_QUESTIONS + 5)]
        assert bench.processes.state()["processes_started"] == 2
        assert bench.processes.pool.replaced == 1
        assert len(bench.processes.state()["processes"]) == 1


def test_a_process_that_ended_while_idle_is_replaced_unasked(small: Workbench) -> None:
    run(small, "SELECT 1", [])
    first = small.processes.state()["processes"]
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: small.processes.state()["processes"] not in ([], first))


def test_importing_the_workbench_loads_no_engine() -> None:
    program = "import sys, agnes_mcp.workbench; print([m for m in ('duckdb', 'pyarrow', 'psutil') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
