"""One operation of an instance, run for a person: signals, progress, the question before a costly call."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from agnes_mcp.cli.options import CommandError, open_gateway
from agnes_mcp.cli.output import console, cost_in_words, say, size_in_words
from agnes_mcp.config.types import expanded
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.calls.frame import OnProgress
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Consent, Principal, Progress
    from agnes_mcp.spending.consent import Quote

T = TypeVar("T")
#: What a shell says of a process that Ctrl-C ended.
EXIT_INTERRUPTED = 130
#: How long a call that was interrupted may take to cancel its job and settle.
_SETTLE_WITHIN_S = 10.0


def run(config: str | None, work: Callable[[Gateway, Principal], Awaitable[T]], max_chars: int | None = None) -> T:
    """The result of `work` over the instance that `config` names; see `run_over` and `open_gateway`."""
    return run_over(open_gateway(config, max_chars=max_chars), work)


def run_over(gateway: Gateway, work: Callable[[Gateway, Principal], Awaitable[T]]) -> T:
    """The result of `work`. Ctrl-C cancels it, lets it settle, and ends with exit code 130, whatever it ended with."""
    import anyio

    from agnes_mcp.access.grants import os_user

    found: list[T] = []
    interrupted = False

    async def attend(scope: anyio.CancelScope) -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if interrupted:
                    os._exit(EXIT_INTERRUPTED)  # asked twice: whoever waits does not want to
                interrupted = True
                await gateway.calls.stop_all(_SETTLE_WITHIN_S)
                scope.cancel()

    async def main() -> None:
        async with gateway, anyio.create_task_group() as group:
            if sys.platform != "win32":
                group.start_soon(attend, group.cancel_scope)
            found.append(await work(gateway, os_user()))
            group.cancel_scope.cancel()

    try:
        anyio.run(main)
    except* AgnesError as errors:
        if not interrupted:
            raise _first(errors) from None
    if interrupted:
        raise CommandError(
            "Stopped.", "What ran was cancelled and settled; `agnes-mcp usage` shows it.", EXIT_INTERRUPTED
        )
    return found[0]


def _first(errors: BaseExceptionGroup[AgnesError]) -> AgnesError:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def agree(quote: Quote | None, yes: bool) -> Consent | None:
    """What the person allows. None: there is nobody to ask, so the caps alone decide.

    Raises `approval_declined`.
    """
    import anyio.to_thread

    from agnes_mcp.models import Consent

    can_ask = sys.stdin.isatty() and sys.stderr.isatty()
    if quote is None:
        return Consent() if can_ask and not yes else None
    if yes:
        return quote.consent()
    if not can_ask:
        return None
    cost = cost_in_words(quote.scan_bytes, quote.usd)
    say(f"This reads {quote.table_id} and scans {size_in_words(quote.scan_bytes)}, about {cost}.")
    for priced in quote.statements:
        say(f"  {priced.statement.sql}")
    answer = await anyio.to_thread.run_sync(_ask, "Run it? [y/N] ", abandon_on_cancel=True)
    if answer.strip().lower() in ("y", "yes"):
        return quote.consent()
    raise AgnesError(
        "approval_declined", "It was not run.", "Make it cheaper: fewer columns, a partition filter, aggregates."
    )


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline()


@contextmanager
def shown_progress(what: str) -> Iterator[OnProgress]:
    """A bar on a terminal: how far, how many bytes, how fast. Nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None, said="", rate="")

        def report(progress: Progress) -> None:
            speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            bars.update(task, completed=progress.done, total=progress.total, said=progress.message, rate=rate)

        yield report


def text_of(value: str) -> str:
    """An argument's text: `-` is standard input, `@file` a file, anything else itself."""
    if value == "-":
        return sys.stdin.read()
    if not value.startswith("@"):
        return value
    path = expanded(value[1:])
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        raise AgnesError("invalid_argument", f"{value} cannot be read ({reason}).", "Name a text file.") from None


def names_of(value: str) -> list[str] | None:
    """The parts of a list with commas between; None for an empty one."""
    return [part.strip() for part in value.split(",") if part.strip()] or None
