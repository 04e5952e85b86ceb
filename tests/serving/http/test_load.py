"""Sixty-four clients at once: nothing fails, nothing crosses, nothing is held afterwards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from serving.served import serve

BENCH = Path(__file__).parents[3] / "bench" / "load.py"
SECONDS, SESSIONS, THINK_S = 10.0, 64, 1.0
#: How much slower a cheap call may be among so many than alone; measured are about ten times.
SLOWER = 300


def load_bench() -> ModuleType:
    described = importlib.util.spec_from_file_location("bench_load", BENCH)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[described.name] = module
    described.loader.exec_module(module)
    return module


@pytest.mark.slow
async def test_many_sessions_share_one_server(tmp_path: Path) -> None:
    bench = load_bench()
    with serve(bench.make_instance(tmp_path)) as served:
        tally = await bench.load(served, SECONDS, SESSIONS, THINK_S)
    assert tally.errors == []
    assert tally.crossed == 0
    assert tally.left_over == []
    assert tally.calls > SESSIONS
    assert bench.quantile(tally.cheap_s, 0.5) < SLOWER * bench.quantile(tally.alone_s, 0.5)
