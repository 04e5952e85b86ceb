"""How many of our files one call enters: what a reader has to open to follow it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import anyio.to_thread
import pytest

ROOT = Path(__file__).parents[1]
OURS = tuple(f"{ROOT / folder}/" for folder in ("agnes_mcp", "tools", "resources"))
#: A store of the books is a database, as DuckDB is: what goes on in it is not on the way of a plain call.
STORES = str(ROOT / "agnes_mcp/spending/stores/")
TOUCHED: dict[str, dict[str, Any]] = {
    "scan": {"table_id": "orders", "limit": 3},
    "fetch": {"table_id": "orders", "force": True},
    "usage": {},
}
#: Over a local table, without a predicate. Of a fetch, thirteen are the rooms of a snapshot.
MOST = {"scan": 35, "fetch": 45, "usage": 10}
WHERE = "order_id > 1 AND country IN ('CZ', 'DE') AND day >= DATE '2026-01-02'"
#: With one, and the store of the books counted. Nineteen files more: two of the store, three of what the predicate may
#: cost, one of the form of DuckDB's trees, one that quotes what DuckDB parses, and twelve of its gates. They are not
#: fewer, because each gate is read, and tested, alone; who follows the call itself passes them as `validate_predicate`
#: and `confirm_skeleton`.
MOST_IN_ALL = {"scan": 50, "fetch": 64, "usage": 12}


class Entered:
    """The files of ours in which a function was entered while `counting`, by any thread that began to be watched."""

    def __init__(self) -> None:
        self.counting = False
        self.without = STORES
        self.files: set[str] = set()

    def watch(self, frame: FrameType, event: str, argument: object) -> None:
        name = frame.f_code.co_filename
        if (
            self.counting
            and event == "call"
            and name.startswith(OURS)
            and not (self.without and name.startswith(self.without))
            and frame.f_code.co_name != "<module>"
        ):
            self.files.add(name.removeprefix(f"{ROOT}/"))


async def entered_by(entered: Entered, tool: str, folder: Path, in_all: bool) -> list[str]:
    """The files that a call of that tool enters, the second of its kind: libraries are loaded, the day is restored."""
    import mcp
    from support.instances import settings_of, tables_of, write_files

    from agnes_mcp.gateway import Gateway
    from agnes_mcp.serving.server import build_server

    entered.without, entered.files = "" if in_all else STORES, set()
    settings = settings_of(folder / "state", tables_of(write_files(folder / "files")))
    async with Gateway(settings) as gateway, mcp.Client(build_server(gateway)) as client:
        for counting in (False, True):
            entered.counting = counting
            arguments = TOUCHED[tool] | ({"where": WHERE} if in_all and TOUCHED[tool] else {})
            assert not (await client.call_tool(tool, arguments)).is_error
            if not counting:  # what the first fetch has started for queries would go on meanwhile
                await anyio.to_thread.run_sync(gateway.workbench.processes.close)
        entered.counting = False
    return sorted(entered.files)


def enter(folder: Path) -> None:
    """Print what each call enters, in an instance of its own; every thread is watched from its beginning."""
    entered, found = Entered(), {}
    threading.setprofile(entered.watch)
    sys.setprofile(entered.watch)
    for tool in TOUCHED:
        for in_all in (False, True):
            place = f"{tool} {in_all}"
            found[place] = anyio.run(entered_by, entered, tool, folder / place, in_all)
    print(json.dumps(found))  # noqa: T201 - to whoever started the process


@pytest.fixture(scope="module")
def entered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Profiling slows every thread down and cannot be taken off those that run, so that it gets a process."""
    folder = tmp_path_factory.mktemp("touched")
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}]\n"
        f"import pathlib, test_touched; test_touched.enter(pathlib.Path({str(folder)!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


@pytest.mark.parametrize("tool", TOUCHED)
@pytest.mark.parametrize("in_all", [False, True], ids=["plain", "predicate and books"])
def test_a_call_enters_few_files(tool: str, in_all: bool, entered: dict[str, list[str]]) -> None:
    files = entered[f"{tool} {in_all}"]
    assert f"tools/{tool}.py" in files
    assert "agnes_mcp/calls/frame.py" in files
    assert ("agnes_mcp/spending/stores/sqlite.py" in files) is in_all
    assert ("agnes_mcp/sql/predicate/reader.py" in files) is (in_all and tool != "usage")
    assert len(files) <= (MOST_IN_ALL if in_all else MOST)[tool], "\n".join(files)


def test_what_is_entered_is_counted() -> None:
    """Seen failing: a file that is entered more makes the count larger, whichever thread it is."""
    from agnes_mcp.answers.fitting import clip

    entered = Entered()
    entered.counting = True
    threading.setprofile(entered.watch)
    thread = threading.Thread(target=clip, args=("x", 1))
    thread.start()
    thread.join()
    threading.setprofile(None)
    assert entered.files == {"agnes_mcp/answers/fitting.py"}
