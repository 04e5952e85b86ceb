"""Standard output of a stdio server: the protocol's, and nobody else's, until the process is gone.

A client reads every line on it as protocol. What else writes there (a `print`, a C library's buffer, a child process)
must not: also not after the last answer, when Python and C empty their buffers.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from io import TextIOWrapper

import anyio


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


def outgoing() -> anyio.AsyncFile[str] | None:
    """What messages are written to, in UTF-8; None leaves it to the SDK."""
    wire = take_stdout()
    if wire is None:
        return None
    # Not closed with this object: the number must not be given to another file while a late message may be written.
    return anyio.wrap_file(TextIOWrapper(os.fdopen(wire, "wb", closefd=False), encoding="utf-8", newline="\n"))


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
