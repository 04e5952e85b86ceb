"""What a process is denied, and what one query leaves to the next: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.waiting import wait_until
from support.workbench_cases import Dataset, opened, rows, run

from agnes_mcp.calls.processes import frames
from agnes_mcp.calls.processes.confinement import NICENESS
from agnes_mcp.calls.processes.watch import Watch
from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.duckdb_errors import query_out_of_memory
from agnes_mcp.workbench.workbench import Workbench

ENDLESS = "SELECT max(n) FROM range(1000000000000) t(n)"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="these limits are Linux's")

SERVER = """
import sys, threading
from agnes_mcp.models import Principal
from agnes_mcp.calls.call import Call
from agnes_mcp.calls.processes.processes import Processes
from agnes_mcp.workbench import JOB
from agnes_mcp.workbench.workbench import Workbench
bench = Workbench(Processes(JOB, size=2), timeout_s=60)
run = lambda sql: bench.run(sql, [], limit_rows=1, max_bytes=1000, call=Call("query", Principal("ana")))
run("SELECT 1")
threading.Thread(target=run, args=("SELECT max(n) FROM range(1000000000000) t(n)",)).start()
while len(bench.processes.state()["processes"]) < 2: pass
print(*bench.processes.state()["processes"], flush=True)
threading.Event().wait()
"""


def asking(sql: str) -> dict[str, Any]:
    return {"job": "query", "sql": sql, "tables": [], "limit_rows": 1, "max_bytes": 1000, "cpu_s": 60}


def grant_nothing(needed: dict[str, Any]) -> dict[str, Any]:
    return {"views": []}


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@LINUX
def test_a_process_has_nothing_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "canary-environment")
    with opened(pool_size=1) as bench, open(__file__, encoding="utf-8"):
        run(bench, "SELECT 1", [])
        process = psutil.Process(bench.processes.state()["processes"][0])
        assert set(process.environ()) <= {
            "LC_ALL",
            "TZ",
            "MALLOC_ARENA_MAX",
            "LD_LIBRARY_PATH",
            "ARROW_DEFAULT_MEMORY_POOL",
        }
        assert not process.open_files()
        assert process.cwd() == "/"
        assert os.getsid(process.pid) == process.pid
        assert process.net_connections() == []
        interfaces = Path(f"/proc/{process.pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


@LINUX
def test_the_state_reports_what_confines_a_process(small: Workbench) -> None:
    run(small, "SELECT 1", [])
    state = small.processes.state()
    assert state["confined"] == {
        "dies_with_server": True,
        "no_network": True,
        "no_writing": True,
        "memory_limited": True,
    }
    mine = psutil.Process().nice()
    assert psutil.Process(state["processes"][0]).nice() == min(mine + NICENESS, 19), "the server's loop comes first"
    limits = Path(f"/proc/{state['processes'][0]}/limits").read_text(encoding="ascii")
    for limit in ("core file size", "file size"):
        assert re.search(rf"^Max {limit} +0 +0 ", limits, re.MULTILINE)


@LINUX
def test_cpu_time_is_bounded_behind_the_deadline(small: Workbench) -> None:
    run(small, "SELECT 1", [])
    worker = small.processes.pool.workers()[0]
    question = asking(ENDLESS) | {"cpu_s": 0}
    with pytest.raises(frames.ClosedError):
        worker.ask(question, grant_nothing).finish()
    assert worker.reap() == -signal.SIGXCPU


def test_no_process_outlives_a_server_that_is_killed() -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    pids = [int(word) for word in server.stdout.readline().split()]
    assert len(pids) == 2
    server.kill()
    server.wait(60)
    server.stdout.close()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_memory_is_measured_where_the_system_does_not_bound_it() -> None:
    question = asking("SELECT list(sha256(n::VARCHAR)) FROM range(90000000) t(n)")
    with opened(pool_size=1, memory_bytes=2**30, threads=1) as roomy:
        run(roomy, "SELECT 1", [])
        worker = roomy.processes.pool.workers()[0]
        worker.wait_ready()
        worker.confined["memory_limited"] = False
        watch = Watch(worker, time.monotonic() + 20, 20.0, 8 * 2**20, query_out_of_memory)
        with pytest.raises(frames.ClosedError), watch.watching():
            worker.ask(question, grant_nothing).finish()
    assert watch.reason is not None
    assert watch.reason.kind == "query_out_of_memory"


def test_a_query_that_kept_much_memory_takes_nothing_from_the_next() -> None:
    with opened(pool_size=1, memory_bytes=192 * 2**20, threads=1) as bench:
        for _ in range(3):
            heavy = run(bench, "SELECT len(list(n)) AS n FROM range(3000000) t(n)", [])
            assert rows(heavy) == [[3_000_000]]


def test_nothing_of_one_query_is_there_for_the_next(dataset: Dataset) -> None:
    command = ("-I", "-B", str(Path(__file__).with_name("ungated.py")))
    # A process of little memory may end between two queries, for what its allocator keeps: this one has enough.
    with opened(pool_size=1, memory_bytes=2 * 2**30, threads=1, command=command) as bench:
        run(bench, "SELECT 1", [])
        before = bench.processes.state()["processes"]
        for sql in ("CREATE MACRO lower(x) AS 'poisoned'", "CREATE TABLE kept AS SELECT 1", "SET VARIABLE kept = 1"):
            run(bench, sql, dataset.views)
        assert rows(run(bench, "SELECT lower('A'), getvariable('kept')", [])) == [["a", None]]
        for gone in ("kept", "orders"):
            with pytest.raises(AgnesError):
                run(bench, f"SELECT * FROM {gone}", [])
        assert bench.processes.state()["processes"] == before
