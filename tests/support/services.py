"""What tests need from outside Python: `python -m support.services`, in `tests`, installs what is missing.

A test names what it needs, `@pytest.mark.needs("nginx")`, and is skipped where that is missing; it gets the path from
`find("nginx")`. Debian's packages come with apt, as root or through sudo; tools of npm go into `.node/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from support import node

_APT_TIMEOUT_S = 900


class Program(NamedTuple):
    """`where` is the path, or None. `package` is Debian's, or empty for a tool of npm."""

    where: Callable[[], str | None]
    package: str


def _on_path(*names: str) -> Callable[[], str | None]:
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return lambda: next((found for name in names if (found := shutil.which(name, path=folders))), None)


def _newest_postgres() -> str | None:
    """Debian keeps the server's programs off PATH, by version: the folder of the newest."""
    folders = [
        path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb") if path.with_name("pg_ctl").exists()
    ]
    on_path = shutil.which("initdb")
    if folders:
        return str(max(folders, key=lambda folder: int(folder.parent.name)))
    return str(Path(on_path).parent) if on_path else None


#: `postgres` is the folder of `initdb` and `pg_ctl`; every other one is the program itself.
PROGRAMS = {
    "chromium": Program(_on_path("chromium", "chromium-browser", "google-chrome"), "chromium"),
    "nginx": Program(_on_path("nginx"), "nginx"),
    "postgres": Program(_newest_postgres, "postgresql"),
    **{tool: Program(partial(node.script_of, tool), "") for tool in node.TOOLS},
}


def missing(name: str) -> bool:
    """Whether `make services` has work to do. Raises `KeyError` for a program that the table above does not have."""
    return PROGRAMS[name].where() is None


def find(name: str) -> str:
    """Where a program is. Raises `FileNotFoundError`."""
    path = PROGRAMS[name].where()
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: make services")
    return path


def install() -> list[str]:
    """Install what is missing, and name what is missing still."""
    packages = sorted({program.package for name, program in PROGRAMS.items() if program.package and missing(name)})
    if packages:
        _apt(packages)
    if any(missing(tool) for tool in node.TOOLS):
        _say("npm installs " + ", ".join(node.TOOLS))
        node.install()
    return [name for name in PROGRAMS if missing(name)]


def _apt(packages: list[str]) -> None:
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        _say("there is no apt-get here; install with your own package manager: " + " ".join(packages))
        return
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    _say("apt installs " + " ".join(packages))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-qq"], command):
        # what fails is found missing afterwards, and named
        subprocess.run([*rights, *step], env=environment, stdin=subprocess.DEVNULL, check=False, timeout=_APT_TIMEOUT_S)


def _say(what: str) -> None:
    sys.stdout.write(f"services: {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    absent = install()
    for name in PROGRAMS:
        _say(f"{name}: {'MISSING' if name in absent else find(name)}")
    sys.exit(bool(absent))
