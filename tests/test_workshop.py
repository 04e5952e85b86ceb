"""The workshop's own promises: tiers, counts, needs, and that CI runs in a bare environment."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from support import counts, services

ROOT = Path(__file__).parents[1]
#: Attacks that were collected: all of them, each time.
COLLECTED = {ROOT / "tests" / "security" / name for name in ("test_corpora.py", "test_files.py")}


@cache
def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted((ROOT / "tests").rglob("test_*.py"))}


def marked(node: ast.AST) -> set[str]:
    """The names of pytest's marks in a piece of code."""
    return {
        attribute.attr
        for attribute in ast.walk(node)
        if isinstance(attribute, ast.Attribute) and ast.unparse(attribute.value) == "pytest.mark"
    }


def called(node: ast.AST) -> set[str]:
    return {call.func.id for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}


def soaking_tests() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Those that are marked, and of a module that is marked as a whole, those that tell what they tried."""
    return [
        (path, node)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (
            any("soak" in marked(decorator) for decorator in node.decorator_list)
            or (marks_all(tree) and node.name.startswith("test_") and "tell" in called(node))
        )
    ]


def marks_all(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" and "soak" in marked(node)
        for node in tree.body
    )


def test_what_soaks_tells_what_it_tried() -> None:
    found = soaking_tests()
    assert len(found) >= 10
    assert [f"{path.name}::{node.name}" for path, node in found if "tell" not in called(node)] == []
    assert {path for path, _ in found if "count" not in called(modules()[path])} == COLLECTED


def test_what_takes_its_number_from_the_tier_is_run_in_both() -> None:
    taking = {
        path
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "support.counts"
        if "count" in [alias.name for alias in node.names]
    }
    assert taking == {path for path, _ in soaking_tests()} - COLLECTED


@pytest.mark.parametrize("variable", ["", "0"])
def test_counts_are_small_unless_soaking(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(counts.VARIABLE, variable)
    assert counts.count(3, 1_000) == 3
    monkeypatch.setenv(counts.VARIABLE, "1")
    assert counts.count(3, 1_000) == 1_000


def test_a_loop_that_tried_nothing_has_not_passed() -> None:
    with pytest.raises(AssertionError, match="nothing was tried"):
        counts.tell("nothing", tried=0, through=0)


def test_every_program_that_a_test_needs_can_be_installed() -> None:
    needed = {
        argument.value
        for tree in modules().values()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.needs"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert needed
    assert needed <= set(services.PROGRAMS)


def run_pytest(folder: Path, *options: str, conftest: str = "", **environment: str) -> str:
    """What pytest prints about the tests of that folder, beside a copy of the plugin part of `conftest.py`."""
    code = "from pathlib import Path\nexec(compile(Path({!r}).read_text(), __file__, 'exec'))\n"
    (folder / "conftest.py").write_text(conftest + code.format(str(ROOT / "tests" / "conftest.py")))
    plain = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={folder}"]
    command = [sys.executable, "-m", "pytest", *plain, *options, str(folder)]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    variables = {**ours, "PYTHONPATH": str(ROOT / "tests"), **environment}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)
    return ran.stdout + ran.stderr


LOOP = """
from support.counts import tell
def test_it(): tell('cuts', tried=4, through=3, note='{name}')
"""


def test_what_was_tried_is_added_up_over_processes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(LOOP.format(name=name))
    printed = run_pytest(tmp_path, "-n", "2", "--dist", "loadfile", AGNES_TEST_SOAK="1")
    assert re.search(r"cuts: 8 tried, 6 got through \((one; two|two; one)\)", printed), printed


NEEDY = "import pytest\n@pytest.mark.needs('nginx')\ndef test_it(): pass\n"
WITHOUT_NGINX = "from support import services\nservices.PROGRAMS['nginx'] = services.Program(lambda: None, 'nginx')\n"


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_a_missing_program_skips_here_and_fails_in_ci(tmp_path: Path, required: str, outcome: str) -> None:
    """On a machine that has no nginx."""
    (tmp_path / "test_needy.py").write_text(NEEDY)
    printed = run_pytest(tmp_path, conftest=WITHOUT_NGINX, AGNES_TEST_SERVICES=required)
    assert outcome in printed, printed
    assert "make services" in printed or not required


def test_every_target_that_ci_calls_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    steps = re.findall(r"^step make ([a-z0-9-]+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert steps[0] == "services"
    assert {"lint", "types", "test", "demo"} <= set(steps) <= targets


def test_no_target_is_mistaken_for_a_file() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [phony] = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert sorted(phony.split()) == sorted(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))


def test_every_target_that_contributing_names_is_there() -> None:
    blocks = re.findall(r"```sh\n(.+?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    named = {name for block in blocks for name in re.findall(r"^make ([a-z0-9-]+)", block, re.MULTILINE)}
    assert len(named) >= 7
    assert named <= set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_ci_runs_in_a_bare_environment(tmp_path: Path) -> None:
    """With a make that only says what it was called with: nothing of a developer's shell reaches it."""
    says = tmp_path / "make"
    says.write_text('#!/bin/sh\necho "make $*"\nenv\nif read -r line; then echo "stdin is open"; fi\n')
    says.chmod(0o755)
    shell = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/somewhere", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": "/elsewhere", "AGNES_CONFIG": "/mine.yaml", "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        "PIP_CERT": "/pip.pem", "npm_config_registry": "mine", "https_proxy": "proxy", "SSL_CERT_FILE": "/c.pem",
    }  # fmt: skip
    command = ["bash", str(ROOT / ".ci" / "run")]
    ran = subprocess.run(command, env=shell, input="typed\n", capture_output=True, text=True, timeout=60, check=True)
    said = dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line and not line.startswith("=="))
    kept = ("HOME", "LANG", "PIP_CERT", "npm_config_registry", "https_proxy", "SSL_CERT_FILE")
    assert {name: said.get(name) for name in kept} == {name: shell[name] for name in kept}
    assert set(said) & {"PYTHONUNBUFFERED", "PYTHONPATH", "AGNES_CONFIG", "GOOGLE_APPLICATION_CREDENTIALS"} == set()
    assert "stdin is open" not in ran.stdout
