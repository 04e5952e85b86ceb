"""How long a client waits: process start → `initialize` answered, beside a bare server of the SDK, in the same run.

    python bench/startup.py [--runs 15]

The two are started alternately; the ratio of the medians is what counts. Target: at most 1.25.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

BARE = """
from mcp.server import MCPServer
server = MCPServer("bare")

@server.tool()
def double(number: int) -> int:
    "Twice the number."
    return 2 * number

server.run()
"""
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


def time_to_initialize(command: list[str], folder: str) -> float:
    """Seconds until the first line of the server's answer is there."""
    environment = {**os.environ, "AGNES_DATA_DIR": folder}
    environment.pop("AGNES_CONFIG", None)
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        elapsed_s = time.perf_counter() - started
        assert "serverInfo" in answer["result"], answer
        process.stdin.close()
        process.wait(30)
    return elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    ours = [str(Path(sysconfig.get_path("scripts")) / "agnes-mcp"), "serve"]
    bare = [sys.executable, "-c", BARE]
    with tempfile.TemporaryDirectory() as folder:
        for command in (bare, ours):  # once unmeasured: files come into the cache, the demo's tables are made
            time_to_initialize(command, folder)
        pairs = [(time_to_initialize(bare, folder), time_to_initialize(ours, folder)) for _ in range(runs)]
    bare_s, ours_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"bare SDK server  {bare_s * 1000:7.0f} ms  (median of {runs})")
    print(f"agnes-mcp serve  {ours_s * 1000:7.0f} ms")
    print(f"ratio            {ours_s / bare_s:7.2f}     target <= 1.25")


if __name__ == "__main__":
    main()
