"""Starts the server from the plugin's own folder, with a virtual environment of its own; any Python from 3.8 runs this.

    python3 start.py FOLDER [ARGUMENTS OF agnes-mcp …]

The environment lives in FOLDER and is made on the first start, which downloads what the server needs. A host that gives
up waiting ends this process and not the one that installs, so the next start finds the environment ready. The server's
own arguments are `serve` unless others follow.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SERVER = Path(__file__).resolve().parents[1] / "server"
WINDOWS = sys.platform == "win32"
SUPPORTED = ("python3.14", "python3.13", "python3.12", "python3.11")
POLL_S = 0.2


def main() -> int:
    if sys.argv[1:2] == ["--install"]:
        return install(Path(sys.argv[2]))
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path.home() / ".agnes" / "plugin").expanduser()
    environment = folder / ("venv-" + fingerprint())
    if not ready(environment) and not wait_for(start_install(environment), environment):
        say("the server could not be installed; see " + str(log_of(environment)))
        return 1
    return serve(environment, sys.argv[2:] or ["serve"])


def say(what: str) -> None:
    sys.stderr.write("agnes: " + what + "\n")


def fingerprint() -> str:
    """What the environment is made of: another version of the server gets another one."""
    made_of = [SERVER / "pyproject.toml", SERVER / "constraints.txt", SERVER / "agnes_mcp" / "__init__.py"]
    content = b"".join(path.read_bytes() for path in made_of) + str(SERVER).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def ready(environment: Path) -> bool:
    return (environment / ".ready").exists()


def log_of(environment: Path) -> Path:
    return environment.with_suffix(".log")


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if WINDOWS else "bin/python")


def start_install(environment: Path) -> "subprocess.Popen[bytes]":
    """A process that outlives this one, and says nothing on its streams: they belong to the protocol."""
    environment.parent.mkdir(parents=True, exist_ok=True)
    say("installing the server, once; this takes a minute")
    with log_of(environment).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, "--install", str(environment)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=not WINDOWS,
        )


def wait_for(installer: "subprocess.Popen[bytes]", environment: Path) -> bool:
    while installer.poll() is None and not ready(environment):
        time.sleep(POLL_S)
    return ready(environment)


def install(environment: Path) -> int:
    """Make the environment, or wait for the process that is making it; it is there whole or not at all."""
    with Lock(environment.with_suffix(".lock")):
        if ready(environment):
            return 0
        shutil.rmtree(environment, ignore_errors=True)
        uv = shutil.which("uv")
        create(environment, with_pip=not uv)
        pip = [uv, "pip", "install", "--python", str(python_of(environment))] if uv else [
            str(python_of(environment)), "-m", "pip", "--disable-pip-version-check", "install",
        ]  # fmt: skip
        subprocess.run([*pip, "-c", str(SERVER / "constraints.txt"), str(SERVER)], check=True)
        (environment / ".ready").touch()
    return 0


def create(environment: Path, with_pip: bool) -> None:
    """A virtual environment with a Python that the server supports; pip takes seconds to come, and uv needs none."""
    here = (3, 11) <= sys.version_info < (3, 15)
    found = sys.executable if here else next(filter(None, map(shutil.which, SUPPORTED)), None)
    if found:
        subprocess.run([found, "-m", "venv", *([] if with_pip else ["--without-pip"]), str(environment)], check=True)
    elif shutil.which("uv"):
        subprocess.run(["uv", "venv", "--python", "3.12", "--seed", str(environment)], check=True)
    else:
        raise SystemExit("agnes needs Python 3.11, 3.12, 3.13 or 3.14, or uv, which brings one")


class Lock:
    """One process installs; where it was ended, the system lets the lock go."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("a")
        if WINDOWS:
            import msvcrt

            msvcrt.locking(self._file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def serve(environment: Path, arguments: "list[str]") -> int:
    """Become the server, where the system has that; else its exit code."""
    script = python_of(environment).with_name("agnes-mcp.exe" if WINDOWS else "agnes-mcp")
    command = [str(script), *arguments]
    if not WINDOWS:
        os.execv(command[0], command)
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
