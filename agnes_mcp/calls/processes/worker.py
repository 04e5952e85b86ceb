"""One worker process as the server sees it: start, ask, kill."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from agnes_mcp.calls.processes import frames
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    import pyarrow as pa

#: What the interpreter is told, so that it becomes a worker process.
CHILD = ("-I", "-B", "-m", "agnes_mcp.calls.processes.child")

#: Gives a job what it turns out to need; both JSON-ready.
Grant = Callable[[dict[str, Any]], Mapping[str, Any]]


class UnreadyError(Exception):
    """The process ended before it could take a question; another one may."""


class Worker:
    """A child process with two pipes. One thread asks at a time; `kill` may come from any.

    `jobs` are what it can be asked: a name, and the `module:class` that answers. `kept` are the variables of the
    server's environment that it gets as well.
    """

    def __init__(
        self,
        memory_bytes: int,
        threads: int,
        jobs: Mapping[str, str],
        command: Sequence[str] = CHILD,
        kept: Sequence[str] = (),
    ) -> None:
        self.confined: dict[str, bool] = {}
        handed = [f"{name}={place}" for name, place in jobs.items()]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules, numbers for arguments
            [sys.executable, *command, str(memory_bytes), str(threads), *handed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(kept),
            cwd=os.path.abspath(os.sep),
            close_fds=True,
            start_new_session=True,
        )
        self._ready = False
        self._answered = True
        self.refused: AgnesError | None = None  # why the present question was given less than it needs
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def settled(self) -> bool:
        """Whether the last question was answered to its end, so that another may follow."""
        return self._answered and self.alive

    def wait_ready(self) -> None:
        """Return when it waits for a question. Raises UnreadyError."""
        if self._ready:
            return
        try:
            self.confined = frames.receive_json(self._answers, frames.READY)
        except frames.ClosedError as error:
            raise UnreadyError from error
        self._ready = True

    def ask(self, question: Mapping[str, Any], grant: Grant) -> Answer:
        """Put one question to its job; the answer is read from what this returns.

        Raises frames.ClosedError: the process died.
        """
        self.wait_ready()
        self._ready = self._answered = False
        self.refused = None
        frames.send_json(self._requests, frames.ASK, question)
        return Answer(self, grant)

    def next_piece(self, grant: Grant) -> bytes | dict[str, Any]:
        """The next piece of the Arrow stream; or, at its end, what the job says of it.

        Raises AgnesError: what the job answers, or `grant` raises. Raises frames.ClosedError: the process died.
        """
        while True:
            try:
                kind, content = frames.receive(self._answers)
            except frames.ClosedError:
                raise self.refused or frames.ClosedError from None
            if kind == frames.ARROW:
                return content
            message: dict[str, Any] = json.loads(content)
            if kind == frames.NEEDS:
                self._give(message, grant)
                continue
            self._answered = kind in (frames.DONE, frames.FAILED)
            if self.refused is not None:
                raise self.refused  # itself, and not what comes back of it
            if kind == frames.FAILED:
                raise AgnesError(**message)
            if kind != frames.DONE:
                raise frames.ClosedError
            return message

    def _give(self, needed: dict[str, Any], grant: Grant) -> None:
        """What the job needs, or why it is not to be had: then it ends in order, and may be asked again."""
        try:
            given = grant(needed)
        except AgnesError as error:
            self.refused = error
            frames.send_json(self._requests, frames.REFUSE, frames.as_message(error))
        else:
            frames.send_json(self._requests, frames.GRANT, given)

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


class Answer(io.RawIOBase):
    """The Arrow IPC stream of one answer, as a file that is read while the process still works.

    `done` is what the job says of it, once the stream has been read to its end. Reading raises what `next_piece` does;
    pyarrow turns some of that into its own exceptions, so the first failure is also kept in `failure`.
    """

    def __init__(self, worker: Worker, grant: Grant) -> None:
        super().__init__()
        self._worker, self._grant = worker, grant
        self._piece = memoryview(b"")
        self.done: dict[str, Any] = {}
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As much of the present piece as fits; 0 at the end."""
        if not self._piece and not self._fetch():
            return 0
        room = memoryview(buffer)
        taken = min(len(room), len(self._piece))
        room[:taken] = self._piece[:taken]
        self._piece = self._piece[taken:]
        return taken

    def finish(self) -> None:
        """Read what is left, so that `done` is there. Raises as `next_piece`."""
        while self._fetch():
            pass

    def schema_and_batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The stream, decoded as it arrives. An answer without rows has a schema too.

        Both raise what `next_piece` raises.
        """
        import pyarrow as pa

        try:
            reader = pa.ipc.open_stream(pa.PythonFile(io.BufferedReader(self), mode="r"))
        except (pa.ArrowException, OSError, AgnesError, frames.ClosedError):
            if self.failure is not None:
                raise self.failure from None
            self.finish()  # an answer that failed before its schema says why
            raise
        return reader.schema, self._batches(reader)

    def _batches(self, reader: pa.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except (pa.ArrowException, OSError, AgnesError, frames.ClosedError):
                if self.failure is not None:
                    raise self.failure from None
                self.finish()  # cut in the middle of a message: what comes next says why
                raise
            yield batch
        self.finish()

    def _fetch(self) -> bool:
        if self.done:
            return False
        if self.failure is not None:
            raise self.failure
        try:
            piece = self._worker.next_piece(self._grant)
        except (AgnesError, frames.ClosedError) as error:
            self.failure = error
            raise
        if isinstance(piece, dict):
            self.done = piece
            return False
        self._piece = memoryview(piece)
        return True


def _environment(more: Sequence[str]) -> dict[str, str]:
    """Nothing of the server's but what the platform needs to start a process, and `more`."""
    kept = (*more, "SYSTEMROOT", "SYSTEMDRIVE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
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
