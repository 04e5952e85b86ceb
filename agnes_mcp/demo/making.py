"""The demo's data, made once for all processes of this user, by a process of its own.

    python -m agnes_mcp.demo.making FOLDER

A server answers its host at once, whatever is there: the data is made meanwhile, and a call that needs it waits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError

#: What the stand-in serves, beside the Parquet files it serves it from.
SPEC = "bigquery.yaml"
#: How often a waiting call looks for its own end.
_LOOK_EVERY_S = 0.05
#: A making process says with its exit code that the disk is full.
_EXIT_DISK = 6


class Making:
    """The data of one folder. Thread-safe; nothing is started before `begin` or the first `wait`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Have it made, where it is not there and nobody here makes it. Returns at once."""
        with self._lock:
            if self._process is None and not self.folder.is_dir():
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a path of ours
                    [sys.executable, "-m", "agnes_mcp.demo.making", str(self.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # what it makes outlives this server: the next one finds it
                )

    def wait(self, call: Call) -> Path:
        """The folder, once everything is in it. Blocking. Raises `disk_full`, `storage_failed`, and what ends the call.

        A making that failed is begun anew by the next call.
        """
        while not self.folder.is_dir():
            call.check()
            self.begin()
            ended = self._ended()
            if ended:
                raise _failure(ended)
        while self._process is not None:  # it has only to leave
            call.check()
            self._ended()
        return self.folder

    def _ended(self) -> int:
        """Wait a little. The exit code of the making process; 0: it still works, or has done what it should."""
        with self._lock:
            process = self._process
        if process is None:  # another call saw it end
            return 0
        try:
            code = process.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            return 0
        with self._lock:
            if self._process is process:
                self._process = None
        return code


def _failure(code: int) -> AgnesError:
    if code == _EXIT_DISK:
        return AgnesError(
            "disk_full",
            "The demo's tables could not be made: the disk of data_dir is full.",
            "Free 100 MB there, or set AGNES_DATA_DIR to a folder elsewhere, and call again.",
        )
    return AgnesError(
        "storage_failed",
        "The demo's tables could not be made.",
        "Its log (stderr) says why. Set AGNES_DATA_DIR to a folder that can be written, and call again.",
    )


def make(folder: Path) -> None:
    """Make the folder where it is not there; one process at a time. What a killed one left half made goes first."""
    if folder.is_dir():
        return
    from filelock import FileLock

    from agnes_mcp.demo.bigquery import write_spec
    from agnes_mcp.demo.tables import generate

    root = folder.parent
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        for left in root.glob(".making-*"):
            shutil.rmtree(left, ignore_errors=True)
        if folder.is_dir():
            return
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=root))
        try:
            generate(staging)
            write_spec(staging / SPEC)
            os.replace(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def main() -> int:
    import errno

    import duckdb

    try:
        make(Path(sys.argv[1]))
    except (OSError, duckdb.IOException) as error:
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error)
        print(f"agnes-mcp: the demo's tables could not be made: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        return _EXIT_DISK if full else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
