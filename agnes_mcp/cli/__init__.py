"""The command line: everything that a person, or a script, does with an instance."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def _quietly() -> Iterator[None]:
    """Ctrl+C while the program is still being read is no fault to be traced.

    A server that starts is left so until it receives signals itself: KeyboardInterrupt, which comes wherever the
    program just is, is lost where a library goes on without it, and the server would serve on.
    """
    quietly = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with suppress(ValueError):  # in another thread, which no signal interrupts
        if quietly:
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    yield
    with suppress(ValueError):
        if quietly and not _starts_a_server():
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _starts_a_server() -> bool:
    return sys.argv[1:2] == ["serve"]


with _quietly():
    import importlib
    from typing import Annotated, Any, cast

    import typer

    from agnes_mcp import __version__
    from agnes_mcp.cli.options import CommandError
    from agnes_mcp.cli.output import say
    from agnes_mcp.cli.running import EXIT_INTERRUPTED
    from agnes_mcp.cli.words import for_shell
    from agnes_mcp.errors import EXIT_DISK, EXIT_VALIDATION, AgnesError

__all__ = ["app_for", "main"]

_ROOMS = (
    "looking", "reading", "drawing", "kept", "agnes", "serving", "starting", "hosts", "health", "access", "registry",
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agnes-mcp {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Company data for an agent, or for you: discover, price, fetch."""


def app_for(words: Sequence[str] = ()) -> typer.Typer:
    """The commands that a command line of these words may mean: all of them, or, where a host waits for a server to
    start, those beside which it stands."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Company data for an agent, or for you: discover, price, fetch.",
    )
    app.callback()(_root)
    with _quietly():
        for room in ("serving",) if words[:1] == ["serve"] else _ROOMS:
            importlib.import_module(f"agnes_mcp.cli.{room}").register(app)
    return app


#: A command line that is not understood; whether click is typer's own copy depends on its version.
_Misused = cast("type[Exception]", typer.BadParameter.__bases__[0])


def main() -> None:
    """The console script: errors are one line, and an exit code that tells them apart."""
    # A terminal that has not every character still gets an answer. Of a server's standard output, which is the
    # protocol's, nothing may be emptied yet that was written before.
    if isinstance(sys.stdout, io.TextIOWrapper) and not _starts_a_server():
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app_for(sys.argv[1:])(prog_name="agnes-mcp", standalone_mode=False)
        _flush()
    except _Misused as error:
        _tell_misuse(error)
        sys.exit(EXIT_VALIDATION)
    except (AgnesError, CommandError) as error:
        say(f"Error: {for_shell(error.message)} Hint: {for_shell(error.hint)}")
        if error.exit_code == EXIT_INTERRUPTED:
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)  # the interpreter would wait for a thread that still waits for an answer
        sys.exit(error.exit_code)
    except OSError as error:
        code = _unwritten(error)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        sys.stderr.write("Stopped.\n")
    sys.exit(code if isinstance(code, int) else 0)


#: Why standard output takes no more: a full disk, a broken one, a reader who has left.
_UNWRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})


def _flush() -> None:
    with suppress(ValueError):  # closed, by a server that speaks over it
        sys.stdout.flush()


def _unwritten(error: OSError) -> int:
    """The exit code where standard output took not all; any other fault of the system's is raised.

    What is still to be written goes nowhere, so that the interpreter's end does not fail on it once more.
    """
    if error.errno not in _UNWRITTEN:
        raise error
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:  # whoever read it has had enough
        return 1
    reason = os.strerror(error.errno or 0)
    sys.stderr.write(f"Error: The answer could not be written whole: {reason}. Hint: Send it somewhere else.\n")
    return EXIT_DISK


def _tell_misuse(error: Any) -> None:
    """What click says, on one line; where there were no arguments at all, the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.ctx.get_help())
        return
    message = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    for said, ours in _SAID:
        message = message.replace(said, ours)
    command = error.ctx.command_path if error.ctx else "agnes-mcp"
    end = "" if message.endswith("?") else "."
    say(f"Error: {message}{end} Hint: `{command} -h` shows how it is called.")


#: What the libraries say of a value, and what a person is told.
_SAID = (
    ("Input should be a valid integer, unable to parse string as an integer", "it should be a whole number"),
    ("Input should be a valid integer", "it should be a whole number"),
    ("Input should", "it should"),
)
