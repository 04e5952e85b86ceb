"""How long a host waits for a server over stdio: beside a bare server of the SDK, and at the first start of all.

    python bench/startup.py [--small] [--json]

"Bare" is one trivial tool on the SDK's server with DuckDB imported, as whoever serves a warehouse imports it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import Figure, main, ratio

BARE = """
import duckdb
from mcp.server import MCPServer
server = MCPServer("bare")

@server.tool()
def double(number: int) -> int:
    "Twice the number."
    return 2 * number

server.run()
"""
OURS = [str(Path(sysconfig.get_path("scripts")) / "agnes-mcp"), "serve", "--demo"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


def start(command: list[str], home: Path, *, until: str, **env: str) -> float:
    """Seconds until the answer to `until` ("initialize" or "tools/list") is there."""
    # Byte-code is written, as it is where a server is installed, also where this environment says otherwise.
    left_out = ("AGNES_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=home,
        env={**kept, "HOME": str(home), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask(process, INITIALIZE)
        if until == "tools/list":
            process.stdin.write(json.dumps(INITIALIZED).encode() + b"\n")
            assert ask(process, LIST)["tools"]
        elapsed_s = time.perf_counter() - started
        process.stdin.close()
        process.wait(60)
    return elapsed_s


def ask(process: subprocess.Popen[bytes], message: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    while True:
        answer = json.loads(process.stdout.readline())
        if answer.get("id") == message["id"]:
            return dict(answer["result"])


def measure(small: bool) -> Iterator[Figure]:
    turns = 1 if small else 7
    bare = [sys.executable, "-c", BARE]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for command in (bare, OURS):  # once unmeasured: files come into the cache, byte-code is written
            start(command, home, until="tools/list")
        wait_for_demo(home)
        yield compare("process start to tools/list", 1.15, bare, home, turns)
        yield compare("the same, no byte-code yet", 1.3, bare, home, turns, cold=True)
        yield first_start(home, turns)


def compare(name: str, target: float, bare: list[str], home: Path, turns: int, *, cold: bool = False) -> Figure:
    taken: list[tuple[float, float]] = []
    for turn in range(turns):
        times = []
        for which, command in (("ours", OURS), ("bare", bare)):
            env = {"PYTHONPYCACHEPREFIX": str(home / f"cold-{which}-{turn}")} if cold else {}
            times.append(start(command, home, until="tools/list", **env))
        taken.append((times[0], times[1]))
    ours_s, bare_s = (statistics.median(side) for side in zip(*taken, strict=True))
    return ratio(name, "a bare SDK server with DuckDB and one trivial tool", ours_s, bare_s, target)


def first_start(home: Path, turns: int) -> Figure:
    """An empty HOME each time: nothing is configured, and the demo's data is not there."""
    taken = []
    for turn in range(turns):
        empty = home / f"empty-{turn}"
        empty.mkdir()
        taken.append((start(OURS, empty, until="initialize"), start(OURS, home, until="initialize")))
    first_s, second_s = (statistics.median(side) for side in zip(*taken, strict=True))
    return ratio("first start on an empty HOME to initialize", "the second start", first_s, second_s, 1.1)


def wait_for_demo(home: Path) -> None:
    """Until the demo's tables are made, so that their making runs beside nothing that is measured."""
    subprocess.run(
        [OURS[0], "catalog"],
        cwd=home,
        env={**os.environ, "HOME": str(home)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main(measure, __doc__)
