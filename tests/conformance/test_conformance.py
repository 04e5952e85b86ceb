"""The official conformance suite against our server: as it is, and with the suite's fixtures on it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from serving.served import Served, await_serving, environment, serve, stop, write_instance
from support.instances import tables_of, write_files
from support.node import command_of

pytestmark = [pytest.mark.slow, pytest.mark.needs("conformance"), pytest.mark.timeout(900)]
HERE = Path(__file__).parent
REQUIREMENTS = ("2025-11-25", "2026-07-28")
SKILLS = ("sep-2640-skills-enumeration", "sep-2640-skills-manifest", "sep-2640-skills-directory")
EXPECTED = HERE / "expected-failures.yml"
RUN_WITHIN_S = 240


@pytest.fixture(scope="module")
def suite() -> list[str]:
    return command_of("conformance")


@pytest.fixture(scope="module")
def product(suite: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("product")
    tables: list[dict[str, Any]] = tables_of(write_files(folder / "files"))
    with serve(write_instance(folder / "instance.yaml", tables=tables)) as served:
        yield served


@pytest.fixture(scope="module")
def with_fixtures(suite: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    command = [sys.executable, "-m", "conformance.serving", str(tmp_path_factory.mktemp("fixtures"))]
    process = subprocess.Popen(
        command, cwd=HERE.parent, stderr=subprocess.PIPE, text=True, env=environment(PYTHONPATH=str(HERE.parent))
    )
    try:
        yield await_serving(process)
    finally:
        stop(process)


def run(suite: list[str], served: Served, out: Path, *options: str) -> str:
    """What the suite said; it must have been content."""
    command = [*suite, "server", "--url", f"{served.url}/mcp", "-o", str(out), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_WITHIN_S, env=environment())
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said[-5000:]
    return said


def passed(said: str) -> int:
    found = re.search(r"(?:Total: |Passed: )(\d+)", said)
    assert found, said[-2000:]
    return int(found.group(1))


@pytest.mark.parametrize("requirements", REQUIREMENTS)
def test_the_server_conforms(suite: list[str], product: Served, tmp_path: Path, requirements: str) -> None:
    """Only what is written down may fail, and what is written down must."""
    known = yaml.safe_load(EXPECTED.read_text())["server"]
    run_here = scenarios(suite, requirements)
    expected = tmp_path / "expected.yml"
    expected.write_text(yaml.safe_dump({"server": [name for name in known if name in run_here], "client": []}))
    said = run(suite, product, tmp_path / "out", "--requirements", requirements, "--expected-failures", str(expected))
    assert passed(said) >= 30


def scenarios(suite: list[str], requirements: str) -> set[str]:
    """The scenarios for servers that those requirements run and score."""
    command = [*suite, "list", "--server", "--requirements", requirements]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    server = listed.split("Client scenarios")[0]
    return set(re.findall(r"^\s+- ([a-z0-9-]+)", server, re.MULTILINE))


@pytest.mark.parametrize("requirements", REQUIREMENTS)
def test_with_the_suites_fixtures_nothing_fails(
    suite: list[str], with_fixtures: Served, tmp_path: Path, requirements: str
) -> None:
    said = run(suite, with_fixtures, tmp_path / "out", "--requirements", requirements)
    failed = set(re.findall(r"^✗ ([a-z0-9-]+):", said, re.MULTILINE))
    assert not failed & scenarios(suite, requirements)
    assert passed(said) >= 70


@pytest.mark.parametrize("scenario", SKILLS)
def test_the_skill_conforms(suite: list[str], product: Served, tmp_path: Path, scenario: str) -> None:
    said = run(suite, product, tmp_path / "out", "--scenario", scenario)
    assert "0 failed, 0 warnings" in said
    assert passed(said) >= 5


def test_every_expected_failure_is_a_scenario(suite: list[str]) -> None:
    known = set(yaml.safe_load(EXPECTED.read_text())["server"])
    assert known <= set.union(*(scenarios(suite, requirements) for requirements in REQUIREMENTS))
