"""Standard input and output of a stdio server: the protocol's, and nobody else's, until the process is gone.

A client reads every line on standard output as protocol. What else writes there (a `print`, a C library's buffer, a
child process) must not: also not after the last answer, when Python and C empty their buffers.

Where they are pipes or sockets, the event loop itself reads what is there and writes what there is room for: by way of
threads, which is how files are read and written without blocking, a call would change threads three times more.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from contextlib import suppress
from functools import cache
from io import TextIOWrapper

import anyio
import anyio.to_thread

_READ_BYTES = 2**16
#: What a pipe is asked to hold, where the system lets it hold more than its 64 KiB: an answer's text and structure.
_ANSWER_BYTES = 2**18


@cache
def take_stdout() -> int | None:
    """A descriptor of standard output that only the protocol knows; descriptor 1 leads to standard error from now on.

    The sooner it is called, the less can slip through; a second call gives the same descriptor. None where standard
    output is no longer descriptor 1, as under a test's capture: then whoever replaced it reads it.
    """
    try:
        if sys.stdout.fileno() != 1:
            return None
        wire = _above_the_standard_three(1)
        elsewhere = _stderr_or_nowhere()
    except (AttributeError, OSError):  # there is no standard output
        return None
    os.dup2(elsewhere, 1)
    os.close(elsewhere)
    if sys.platform == "win32":
        from mcp.os.win32.utilities import rebind_std_handle_to_fd

        rebind_std_handle_to_fd(1)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in order with what is logged, and not lost in os._exit
    return wire


@cache
def take_stdin() -> int | None:
    """A descriptor of standard input that only the protocol knows; descriptor 0 leads nowhere from now on, so that no
    child process reads a message. None where it is neither a pipe nor a socket, or not descriptor 0."""
    try:
        if sys.platform == "win32" or sys.stdin.fileno() != 0 or not _is_stream(0):
            return None
        wire = _above_the_standard_three(0)
        nowhere = os.open(os.devnull, os.O_RDONLY)
    except (AttributeError, OSError):  # there is no standard input
        return None
    os.dup2(nowhere, 0)
    os.close(nowhere)
    return wire


def incoming() -> Lines | None:
    """Where the lines of messages come from; None leaves it to the SDK."""
    wire = take_stdin()
    return None if wire is None else Lines(wire)


def outgoing() -> Messages | anyio.AsyncFile[str] | None:
    """What messages are written to, in UTF-8; None leaves it to the SDK."""
    wire = take_stdout()
    if wire is None:
        return None
    if sys.platform != "win32" and _is_stream(wire):
        return Messages(wire)
    # Not closed with this object: the number must not be given to another file while a late message may be written.
    return anyio.wrap_file(TextIOWrapper(os.fdopen(wire, "wb", closefd=False), encoding="utf-8", newline="\n"))


class Lines:
    """The lines that arrive on a descriptor, of whatever length, until its end; what is no UTF-8 is replaced."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._whole: list[bytes] = []  # lines that have arrived, the next one last
        self._begun: list[bytes] = []
        self._ended = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        while not self._whole:
            if self._ended:
                raise StopAsyncIteration
            await anyio.wait_readable(self._descriptor)
            self._take(self._read())
        return self._whole.pop().decode("utf-8", "replace")

    def _read(self) -> bytes | None:
        try:
            return os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:  # whoever shares the pipe made it so, and was faster
            return None

    def _take(self, arrived: bytes | None) -> None:
        if arrived is None:
            return
        *ends, begun = arrived.split(b"\n")
        if ends:
            ends[0] = b"".join([*self._begun, ends[0]])
            self._whole, self._begun = ends[::-1], []
        if begun:
            self._begun.append(begun)
        if not arrived:
            self._ended = True
            self._whole, self._begun = [b"".join(self._begun)] if self._begun else [], []


class Messages:
    """Writes to a pipe or a socket: at once as much as there is room for, the rest in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written: list[bytes] = []
        self._is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._holds = 0 if self._is_socket else _held_by_pipe(descriptor)

    async def write(self, text: str) -> int:
        self._written.append(text.encode("utf-8"))
        return len(text)

    async def flush(self) -> None:
        """Raises OSError where nobody reads any more."""
        left = memoryview(b"".join(self._written))
        self._written = []
        while left and (taken := self._write_without_waiting(left)):
            left = left[taken:]
        if left:
            with anyio.CancelScope(shield=True):  # a message that has begun is written to its end
                await anyio.to_thread.run_sync(self._write, left)

    def _write_without_waiting(self, message: memoryview) -> int:
        """How many bytes there was room for."""
        if self._is_socket:
            end = socket.socket(fileno=self._descriptor)
            try:
                return end.send(message, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0
            finally:
                end.detach()  # its descriptor stays open
        if not self._room.poll(0):
            return 0
        # A pipe that is ready takes PIPE_BUF bytes without waiting; an empty one, as many as it holds.
        taken = self._holds if self._holds and not _unread(self._descriptor) else select.PIPE_BUF
        return os.write(self._descriptor, message[:taken])

    def _write(self, message: memoryview) -> None:
        while message:
            try:
                message = message[os.write(self._descriptor, message) :]
            except BlockingIOError:  # whoever shares the pipe made it so
                self._room.poll()


def _held_by_pipe(descriptor: int) -> int:
    """How many bytes a pipe holds, made enough for an answer where the system allows it; 0 where it does not tell."""
    if sys.platform != "linux":
        return 0
    import fcntl

    with suppress(OSError):  # everything is allotted, or it is a pipe of another kind
        if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) < _ANSWER_BYTES:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _ANSWER_BYTES)
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except OSError:
        return 0


def _unread(descriptor: int) -> int:
    """How many bytes in a pipe nobody has read yet."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def _is_stream(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _above_the_standard_three(descriptor: int) -> int:
    """A copy that child processes do not inherit, and that no closed standard stream has made room for."""
    if sys.platform == "win32":
        return os.dup(descriptor)
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def _stderr_or_nowhere() -> int:
    """Where strays go. Some hosts close standard error: then its number is taken, so that no file of ours gets it and
    with it what a C library says there."""
    if sys.stderr is not None:
        return os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(2)
    except OSError:
        os.dup2(nowhere, 2)
    sys.stderr = os.fdopen(os.dup(nowhere), "w", encoding="utf-8")
    return nowhere
