"""Markdown pages as tests see them: blocks, tables, links, headings; and the commands of a page, run.

A comment before a block says what a test does with it: `<!-- run -->` runs it, `<!-- background -->` starts a server
for the rest of the page, `<!-- file: NAME -->` saves it. In a `console` block the lines behind `$ ` are run, and the
others are what they print, with `…` for whatever may differ.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^>]+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MARK = "\x01"
_RUN_WITHIN_S = 100


class Block(NamedTuple):
    note: str
    language: str
    text: str


def pages() -> list[Path]:
    """README, its siblings, and every page of the documentation."""
    return [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(DOCS.rglob("*.md"))]


def blocks(path: Path, language: str = "") -> list[Block]:
    found = (Block(m["note"] or "", m["language"], m["text"]) for m in _BLOCK.finditer(path.read_text("utf-8")))
    return [block for block in found if language in ("", block.language)]


def tables(text: str) -> Iterator[list[str]]:
    """The rows of every table, as cells without code marks; heads and rules left out."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def headings(text: str) -> set[str]:
    """The anchors that a page's headings give, as GitHub makes them."""
    plain = _BLOCK.sub("", text)
    titles = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(text: str) -> list[str]:
    return _LINK.findall(_BLOCK.sub("", text))


def as_pattern(text: str) -> str:
    """A regular expression for that text: white space of any length, and anything where an ellipsis stands."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in text.split("…")]
    return r"[\s\S]*?".join(parts)


def run(
    paths: list[Path], folder: Path, environment: Mapping[str, str], instead: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """What each `run` block of these pages printed and, for `console`, the pattern of what it should print; `instead`
    has what stands on this machine for what a page names."""
    port = str(_free_port())
    found = [block for path in paths for block in blocks(path) if block.note]
    for named, here in {"8787": port, **(instead or {})}.items():
        found = [block._replace(text=block.text.replace(named, here)) for block in found]
    script = ["set -eu", *(line for block in found for line in _commands(block))]
    printed = _bash("\n".join(script), folder, environment).split(_MARK)[1:]
    expected = [_expected(block) for block in found if block.note == "run"]
    return list(zip(printed, expected, strict=True))


def _commands(block: Block) -> list[str]:
    if block.note.startswith("file: "):
        return [f"cat > {block.note.removeprefix('file: ')} <<'END_OF_FILE'", block.text + "END_OF_FILE"]
    if block.note == "background":
        serve = f"{block.text.strip()} 2> served.log &"
        return [
            serve,
            "trap 'kill $!' EXIT",
            "until grep -q serving served.log; do kill -0 $! || { cat served.log; exit 1; }; sleep 0.1; done",
        ]
    if block.language != "console":
        return [f"printf '{_MARK}'", block.text]
    typed = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
    return [f"printf '{_MARK}'", *(f"{{ {line}; }} || true" for line in typed)]


def _expected(block: Block) -> str:
    if block.language != "console":
        return ""
    return as_pattern("\n".join(line for line in block.text.splitlines() if not line.startswith("$ ")))


def _bash(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    process = subprocess.Popen(
        ["bash"], cwd=folder, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(script, timeout=_RUN_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def clean_environment(home: Path) -> dict[str, str]:
    """This environment without instances of ours, with the commands of the tests' own installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGNES_")}
    return {**kept, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
