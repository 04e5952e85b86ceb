"""One worker process as the server sees it: start, ask, kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from agnes_mcp.calls.processes import frames
from agnes_mcp.errors import AgnesError
from agnes_mcp.workbench.views import View

if TYPE_CHECKING:
    import pyarrow as pa

CHILD = ("-I", "-B", "-m", "agnes_mcp.workbench.child")


class UnreadyError(Exception):
    """The process ended before it could take a query; another one may."""


class Worker:
    """A child process with two pipes. One thread asks at a time; `kill` may come from any."""

    def __init__(self, memory_bytes: int, threads: int, command: Sequence[str] = CHILD) -> None:
        self.confined: dict[str, bool] = {}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, numbers for arguments
            [sys.executable, *command, str(memory_bytes), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            cwd=os.path.abspath(os.sep),
            close_fds=True,
            start_new_session=True,
        )
        self._ready = False
        self._answered = True
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def settled(self) -> bool:
        """Whether the last query was answered to its end, so that another may follow."""
        return self._answered and self.alive

    def wait_ready(self) -> None:
        """Return when a fresh instance waits for a query. Raises UnreadyError."""
        if self._ready:
            return
        try:
            kind, content = frames.receive(self._answers)
        except frames.ClosedError as error:
            raise UnreadyError from error
        if kind != frames.READY:
            raise UnreadyError
        self.confined = json.loads(content)
        self._ready = True

    def ask(self, question: dict[str, Any], grant: Callable[[list[str]], Sequence[View]]) -> Answer:
        """Run one query; `grant` gives the views over the tables that the SQL turned out to read.

        Raises AgnesError: what the worker answers, or `grant` raises. Raises frames.ClosedError: the process died.
        """
        self.wait_ready()
        self._ready = self._answered = False
        frames.send_json(self._requests, frames.ASK, question)
        pieces: list[bytes] = []
        while True:
            kind, content = frames.receive(self._answers)
            if kind == frames.ARROW:
                pieces.append(content)
            elif kind == frames.NEEDS:
                views = grant(json.loads(content)["tables"])
                frames.send_json(self._requests, frames.GRANT, {"views": [view.as_message() for view in views]})
            elif kind == frames.DONE:
                self._answered = True
                return Answer(pieces, json.loads(content))
            elif kind == frames.FAILED:
                self._answered = True
                raise AgnesError(**json.loads(content))
            else:
                raise frames.ClosedError

    def kill(self) -> None:
        """End the process and whatever it started, at once. May be called again."""
        with self._lock:  # never a pid that has been reaped and given to another
            if self._process.poll() is None:
                _kill_group(self._process)

    def reap(self) -> int:
        """Kill, wait, close the pipes. Returns the exit code; negative is a signal."""
        self.kill()
        with self._lock:
            code = self._process.wait()
        for pipe in (self._requests, self._answers):
            try:
                pipe.close()
            except OSError:  # what was still buffered for a process that is gone
                continue
        return code

    @property
    def _requests(self) -> BinaryIO:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        return self._process.stdin  # type: ignore[return-value]

    @property
    def _answers(self) -> BinaryIO:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        return self._process.stdout  # type: ignore[return-value]


class Answer:
    """What a worker sent: the pieces of one Arrow IPC stream, and what it says of them."""

    def __init__(self, pieces: list[bytes], done: dict[str, Any]) -> None:
        self._pieces = pieces
        self.cut_by: str = done["cut_by"]
        self.types: list[str] = done["types"]

    def read(self) -> tuple[pa.Schema, list[pa.RecordBatch]]:
        import pyarrow as pa

        with pa.ipc.open_stream(b"".join(self._pieces)) as reader:
            return reader.schema, list(reader)


def _environment() -> dict[str, str]:
    """Nothing of the server's but what the platform needs to start a process."""
    kept = ("SYSTEMROOT", "SYSTEMDRIVE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        # Each arena of glibc reserves 64 MB of address space, and what one keeps the next query's threads cannot use.
        "MALLOC_ARENA_MAX": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # mimalloc reserves 1 GB at first use
    }


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has not become a leader yet, or just went
        process.kill()
