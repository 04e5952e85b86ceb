"""What every test may use."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from blockbuster import BlockBuster, BlockBusterFunction
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from support import services
from support.counts import TOLD, Told, soaking, summary
from support.instances import settings_of, table, tables_of, write, write_files

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway

gc.disable()  # until every test is collected: what was imported by then stays, and is garbage at no time
BIG = "SELECT i AS id, i % 1000 AS bucket, 'x' || i AS note FROM range(2000000) AS r(i)"


#: `.ci/run` says so: what a test needs must be there, and a race may be lost once.
SERVICES_REQUIRED, SECOND_TRY = "AGNES_TEST_SERVICES", "AGNES_TEST_AGAIN"
HERE = Path(__file__).parent
#: Not in `make check`, beside what is marked: rooms and files whose tests start servers, stand-ins or many processes.
SLOW = (
    "answers/test_fitting.py",
    "charts/test_rendering.py",
    "charts/test_spec.py",
    "cli/",
    "conformance/",
    "demo/",
    "deploy/",
    "docs/test_commands.py",
    "extracts/",
    "operations/",
    "resources/test_resources.py",
    "plugin/",
    "serving/",
    "snapshots/test_damage.py",
    "snapshots/test_faults.py",
    "sources/bigquery/",
    "sources/local/test_awkward.py",
    "spending/test_races.py",
    "stand_in/",
    "test_touched.py",
    "test_wheel.py",
    "test_workshop.py",
    "tools/test_approval.py",
    "workbench/test_bombs.py",
    "workbench/test_confinement.py",
    "workbench/test_escapes.py",
    "workbench/test_pool.py",
)
#: Begun first where several processes share the tests, so that none is left with a long one at the end.
LONGEST = (
    "answers/test_fitting.py",
    "charts/test_rendering.py",
    "cli/test_exits.py",
    "cli/test_terminal.py",
    "conformance/",
    "demo/",
    "deploy/test_containerfile.py",
    "docs/test_commands.py",
    "operations/test_attached.py",
    "operations/test_budgets.py",
    "operations/test_chart.py",
    "plugin/",
    "security/",
    "serving/http/test_connections.py",
    "serving/test_kills.py",
    "serving/test_leaving",
    "serving/test_matrix.py",
    "serving/test_stdio.py",
    "serving/test_view.py",
    "snapshots/test_kill.py",
    "sources/bigquery/test_attached.py",
    "sources/local/test_awkward.py",
    "stand_in/test_statements.py",
    "stand_in/test_switches.py",
    "test_architecture.py",
    "test_touched.py",
    "test_wheel.py",
    "test_workshop.py",
    "tools/",
    "workbench/",
)
#: Marked `race` as a whole: what these look at is done by threads, processes and deadlines that the system schedules,
#: so that a machine which stands still for seconds may make one lose. A defect all the same: the end tells of each.
RACES = (
    "calls/",
    "cli/test_beside.py",
    "cli/test_exits.py",
    "cli/test_terminal.py",
    "demo/",
    "operations/test_apart.py",
    "operations/test_attached.py",
    "operations/test_budgets.py",
    "operations/test_chart.py",
    "operations/test_concurrency.py",
    "operations/test_discovery.py",
    "operations/test_fetch.py",
    "operations/test_overview.py",
    "operations/test_prices.py",
    "operations/test_retention.py",
    "operations/test_scan.py",
    "operations/test_turns.py",
    "security/test_deadlines.py",
    "security/test_neighbours.py",
    "serving/",
    "snapshots/test_kill.py",
    "sources/bigquery/test_attached.py",
    "sources/bigquery/test_auth.py",
    "sources/bigquery/test_chaos.py",
    "sources/bigquery/test_faults.py",
    "sources/bigquery/test_jobs.py",
    "sources/bigquery/test_proxies.py",
    "spending/",
    "workbench/test_bombs.py",
    "workbench/test_confinement.py",
    "workbench/test_pool.py",
)
#: The time limit of one test in `make soak`, whatever its own in the suite.
SOAK_TIMEOUT_S = 1800

# The same examples each time, and no bound on how long one takes: another process can stretch it.
hypothesis_settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("suite")


def pytest_configure() -> None:
    """What a shell starts in the background ignores SIGINT, and so would every process that a test interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.relative_to(HERE).as_posix().startswith(LONGEST))
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        outside = item.get_closest_marker("needs") or "googlesql" in getattr(item, "fixturenames", ())
        if outside or place.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if place.startswith(RACES):
            item.add_marker(pytest.mark.race)
        if soaking():
            item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT_S), append=False)
        if os.environ.get(SECOND_TRY) and item.get_closest_marker("race"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What takes a minute is not done inside the first test that happens to need it; and what was imported by now stays
    until the end, so that the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)  # the tests' own garbage is small and short-lived
    gc.enable()
    if session.config.option.collectonly or not any(
        "googlesql" in getattr(i, "fixturenames", ()) for i in session.items
    ):
        return
    module = importlib.import_module("support.googlesql")
    if not module.compiled().exists():
        # a process of pytest-xdist has no terminal, and whoever started it sees what goes to its stderr
        capture: Any = session.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled():
            sys.stderr.write("\nCompiling Google's parser of GoogleSQL, once for this user: a minute or two.\n")
    module.start()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """`needs("nginx")`: skipped where the program is missing, and failed where it must not be."""
    wanted = [name for marker in item.iter_markers("needs") for name in marker.args]
    absent = ", ".join(name for name in wanted if services.missing(name))
    if absent and os.environ.get(SERVICES_REQUIRED):
        pytest.fail(f"{absent} must be installed here: make services")
    if absent:
        pytest.skip(f"{absent} not installed: make services")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes that share the tests hands over what its loops told."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["told"] = [tuple(told) for told in TOLD]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """pytest-xdist: that process has ended; one that crashed hands nothing over."""
    TOLD.extend(Told(*told) for told in getattr(node, "workeroutput", {}).get("told", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = summary()
    if lines and (soaking() or terminalreporter.verbosity > 0):
        terminalreporter.section("tried and got through")
        for line in lines:
            terminalreporter.write_line(line)
    again = sorted({report.nodeid for report in terminalreporter.stats.get("rerun", [])})
    if again:
        terminalreporter.section("NEEDED A SECOND TRY", sep="!", red=True, bold=True)
        for name in again:
            terminalreporter.write_line(name, red=True)


@pytest.fixture(scope="session")
def googlesql() -> Any:
    """Google's own parser of GoogleSQL, ready: a function that raises where a text is none."""
    return importlib.import_module("support.googlesql").parse


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One local table of each kind, read-only."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Settings of the local tables: small ones of each kind, and `big`."""
    folder = tmp_path_factory.mktemp("tables")
    return [*tables_of(write_files(folder / "files")), table("big", write(folder, "big.parquet", BIG))]


@pytest.fixture
def settings(tmp_path: Path, files: dict[str, Path]) -> Settings:
    return settings_of(tmp_path / "state", tables_of(files))


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def guarded_loop() -> Iterator[None]:
    """Blocking calls of ours on the event loop are errors: files, sleeps, sockets, DuckDB."""
    buster = BlockBuster(scanned_modules=["agnes_mcp", "agnes_mcp.tools"])
    for name in ("execute", "fetchall", "fetchmany", "to_arrow_table", "close"):
        buster.functions[f"duckdb.{name}"] = BlockBusterFunction(
            duckdb.DuckDBPyConnection, name, scanned_modules=["agnes_mcp", "agnes_mcp.tools"]
        )
    buster.activate()
    yield
    buster.deactivate()
