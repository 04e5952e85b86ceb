"""Run the shared BigQuery suite against the third-party emulator local-bigquery, in a virtual environment of its own.

    python tests/support/emulator.py [pytest arguments]

Needs a Python 3.13 (on PATH, or pyenv's) and, the first time, the package index: about 635 MB go into `.venv-emulator`.
The exit code is pytest's; 77 says that no Python 3.13 was found.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-emulator"
# the emulator is built for exactly this DuckDB; its extensions come as wheels, so that it downloads nothing itself
PACKAGES = (
    "local-bigquery==0.3.2",
    "duckdb==1.5.5",
    "duckdb-extension-icu==1.5.5",
    "duckdb-extension-ducklake==1.5.5",
    "duckdb-extension-spatial==1.5.5",
)
# where a DuckDB whose home is HOME looks for its extensions
_PLACE_EXTENSIONS = """
import duckdb, pathlib, shutil, sys
platform = duckdb.sql("PRAGMA platform").fetchone()[0]
folder = pathlib.Path(sys.argv[1], ".duckdb", "extensions", f"v{duckdb.__version__}", platform)
folder.mkdir(parents=True)
for found in pathlib.Path(sys.argv[2]).glob("lib/*/site-packages/duckdb_extension_*/extensions/*/*.duckdb_extension"):
    shutil.copy(found, folder)
"""
STARTS_WITHIN_S = 60.0
NO_PYTHON = 77


def find_python() -> str | None:
    """A Python 3.13, from PATH or from pyenv."""
    on_path = shutil.which("python3.13")
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    built = sorted(str(path) for path in versions.glob("3.13.*/bin/python3.13"))
    for candidate in [*built[::-1], *([on_path] if on_path else [])]:
        if subprocess.run([candidate, "-c", "import ssl, sqlite3"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def installed() -> bool:
    return (VENV / "complete").is_file()


def install(python: str) -> None:
    """Make the virtual environment; a marker file says that it was finished."""
    subprocess.run([python, "-m", "venv", "--clear", str(VENV)], check=True)
    inside = str(VENV / "bin" / "python")
    subprocess.run([inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    subprocess.run([inside, "-c", _PLACE_EXTENSIONS, str(VENV / "home"), str(VENV)], check=True)
    (VENV / "complete").write_text("\n".join(PACKAGES), encoding="utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The emulator on loopback; gives what `AGNES_TEST_EMULATOR` holds."""
    rest, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        command = [str(VENV / "bin" / "local-bigquery"), "serve", "--host", "127.0.0.1", "--project", "my-project"]
        ports = ["--port", str(rest), "--grpc-port", str(grpc), "--data-dir", folder]
        home = os.environ | {"HOME": str(VENV / "home")}
        process = subprocess.Popen([*command, *ports], env=home, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + STARTS_WITHIN_S
            while not (answers(rest) and answers(grpc)):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"The emulator did not start:\n{log.read()[-4000:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{rest} 127.0.0.1:{grpc}"
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> int:
    if not installed():
        python = find_python()
        if python is None:
            sys.stderr.write("No Python 3.13 on PATH or in pyenv: the emulator cannot run here.\n")
            return NO_PYTHON
        install(python)
    with running() as endpoints:
        arguments = sys.argv[1:] or ["tests/stand_in"]
        command = [sys.executable, "-m", "pytest", "-m", "emulator", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | {"AGNES_TEST_EMULATOR": endpoints}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
