"""The version stands in one place, and everything that names it names that one."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from agnes_mcp import __version__

ROOT = Path(__file__).parents[1]


def test_the_console_script_prints_it() -> None:
    command = str(Path(sys.executable).with_name("agnes-mcp"))
    said = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == f"agnes-mcp {__version__}\n"


def test_the_package_has_it_from_the_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert version("agnes-data-mcp") == __version__


def test_the_changelog_begins_with_it() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - (in progress|\d{{4}}-\d\d-\d\d)", headings[0])
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
