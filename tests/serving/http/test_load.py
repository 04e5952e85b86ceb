"""Many clients at once: nothing fails, nothing crosses, nothing is held afterwards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from serving.served import serve
from support.counts import count, tell

BENCH = Path(__file__).parents[3] / "bench" / "load.py"
SECONDS, SESSIONS, THINK_S = float(count(4, 120)), count(16, 64), 0.5


def load_bench() -> ModuleType:
    described = importlib.util.spec_from_file_location("bench_load", BENCH)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[described.name] = module
    described.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)  # a session of a server that shares its processor takes seconds to open
async def test_many_sessions_share_one_server(tmp_path: Path) -> None:
    bench = load_bench()
    with serve(bench.make_instance(tmp_path)) as served:
        tally = await bench.load(served, SECONDS, SESSIONS, THINK_S)
    assert tally.errors == []
    assert tally.crossed == 0
    assert tally.left_over == []
    assert tally.calls > SESSIONS
    tell("calls of many sessions at once", tried=tally.calls, through=tally.calls - tally.refused)
