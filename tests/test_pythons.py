"""Which versions of Python are supported: said in several places, and the same in each."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Every package that is pinned has wheels for each, but one of the tests' own that is Python alone.
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
SPAN = f"Python {SUPPORTED[0]} to {SUPPORTED[-1]}"
LISTED = f"Python {', '.join(SUPPORTED[:-1])} or {SUPPORTED[-1]}"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("README.md", SPAN),
        ("CONTRIBUTING.md", SPAN),
        ("docs/tutorials/first-instance.md", LISTED),
        ("Makefile", LISTED),
        ("plugin/bin/start.py", LISTED),
    ],
)
def test_people_are_told_the_same(place: str, words: str) -> None:
    assert words in (ROOT / place).read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["Makefile", "plugin/bin/start.py"])
def test_programs_look_for_the_same(place: str) -> None:
    text = (ROOT / place).read_text(encoding="utf-8")
    least, past = (tuple(map(int, version.split("."))) for version in (SUPPORTED[0], SUPPORTED[-1]))
    assert f"{least} <= sys.version_info < {(past[0], past[1] + 1)}" in text
    tried = re.search(r"^(?:SUPPORTED = \(|PYTHON \?= .* in python3 )(.*?)(?:\)|; do)", text, re.MULTILINE)
    assert tried is not None
    assert re.findall(r"python(3\.\d+)", tried[1]) == list(reversed(SUPPORTED))


def test_packages_are_built_for_the_least_of_them_and_up() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == f">={SUPPORTED[0]}"
    assert project["tool"]["ruff"]["target-version"] == f"py{SUPPORTED[0].replace('.', '')}"
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in SUPPORTED
