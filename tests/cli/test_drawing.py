"""Pictures at the keyboard: files of each kind, what they show in words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.conftest import Run

pytestmark = pytest.mark.usefixtures("shop")
BY_COUNTRY = ("chart", "bar", "--x", "country", "--y", "sum(amount)", "--sql", "SELECT country, amount FROM orders")


@pytest.mark.parametrize(
    ("name", "begins"), [("a.png", b"\x89PNG"), ("a.SVG", b"<svg role="), ("a.html", b"<!doctype html>")]
)
def test_a_chart_is_a_file(run: Run, home: Path, name: str, begins: bytes) -> None:
    ran = run(*BY_COUNTRY, "-o", name)
    assert (ran.code, ran.out) == (0, "")
    assert (home / name).read_bytes().startswith(begins)
    assert "sum of amount by country" in ran.err
    assert name in ran.err.splitlines()[-1]
    assert [path.name for path in home.iterdir() if path.name.startswith((".a", "a"))] == [name]


def test_it_is_told_as_the_tool_tells_it(run: Run) -> None:
    answer = json.loads(run(*BY_COUNTRY, "-o", "a.svg", "--title", "Sales", "--json").out)
    assert (answer["title"], answer["marks"], answer["tables"]) == ("Sales", 3, ["orders"])


def test_dark_pictures_differ(run: Run, home: Path) -> None:
    for name, more in (("light.svg", ()), ("dark.svg", ("--dark",))):
        assert run(*BY_COUNTRY, "-o", name, *more).code == 0
    assert (home / "light.svg").read_text() != (home / "dark.svg").read_text()


def test_snapshots_and_tables_are_drawn_and_what_is_billed_is_said(run: Run, home: Path) -> None:
    run("fetch", "sessions", "--where", "amount < 9", "--as", "few", "--no-estimate")
    assert run("chart", "histogram", "--x", "amount", "--snapshot", "few", "-o", "few.png").code == 0
    ran = run("chart", "bar", "--table", "sessions", "--x", "day", "--y", "count()", "-o", "days.svg", "--yes")
    assert ran.code == 0
    assert "billed 10.0 MB" in ran.err
    assert (home / "few.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*BY_COUNTRY, "-o", "a.gif"), "End it with .png"),
        ((*BY_COUNTRY, "-o", "gone/a.png"), "cannot be a file"),
        (("chart", "pie", "--x", "country", "--sql", "SELECT 1 AS country", "-o", "a.png"), "There are bar"),
        (("chart", "bar", "--x", "nope", "--sql", "SELECT 1 AS country", "-o", "a.png"), "country"),
        (("chart", "bar", "--x", "country", "-o", "a.png"), "one source"),
    ],
)
def test_what_cannot_be_drawn_leaves_no_file(run: Run, home: Path, arguments: tuple[str, ...], said: str) -> None:
    before = sorted(home.iterdir())
    ran = run(*arguments)
    assert ran.code == 2
    assert said in ran.err
    assert [path for path in sorted(home.iterdir()) if path not in before and path.name != "state"] == []
