"""Every bench, one after another, as one table, and as JSON for the page that explains it.

    python bench/run.py [--small] [--only NAME …] [--json FILE]

Each runs in a process of its own. `make bench` writes bench/results.json, from which docs/generate.py makes
docs/explanation/performance.md. The exit code says whether every bench ran, not whether every target was met.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import Figure, table

HERE = Path(__file__).parent
#: In the order of the table.
BENCHES = (
    "startup", "calls", "concurrency", "local", "bigquery_read", "wide_scan", "discovery", "snapshot_write",
    "predicates", "statements", "characters",
)  # fmt: skip
LIMIT_S = 1200
#: Last what is counted rather than timed, and what a directory of many kept scans costs.
EVERY = (*BENCHES, "questions", "sidecars")


def run(bench: str, small: bool) -> list[Figure]:
    """Raises RuntimeError where it fails or gives no figure."""
    command = [sys.executable, str(HERE / f"{bench}.py"), "--json", *(["--small"] if small else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    figures = [Figure(**json.loads(line)) for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode or not figures:
        raise RuntimeError(f"{bench} ended with {ran.returncode} and {len(figures)} figures")
    return figures


def conditions() -> dict[str, Any]:
    """Where and with what it was measured."""
    packages = ("duckdb", "mcp", "sqlglot", "pyarrow")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processors": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="+", choices=EVERY, default=EVERY)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, list[Figure]] = {}
    kept: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    failed = []
    for bench in asked.only:
        print(f"== {bench}", file=sys.stderr, flush=True)
        before = conditions()
        try:
            found[bench] = run(bench, asked.small)
            kept[bench] = {"measured": before, "figures": [vars(figure) for figure in found[bench]]}
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed.append(str(error))
    print(table([figure for figures in found.values() for figure in figures]))
    if asked.json:  # what was not asked for stays as it was measured before
        asked.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
