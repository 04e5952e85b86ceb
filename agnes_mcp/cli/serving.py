"""`serve` and `demo`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from agnes_mcp.cli.logs import Level
from agnes_mcp.cli.options import Config, open_gateway
from agnes_mcp.cli.output import say
from agnes_mcp.cli.words import counted

if TYPE_CHECKING:
    from agnes_mcp.gateway import Gateway

#: How many of the tables are named when a person starts a server.
_SHOWN_TABLES = 10

LogLevel = Annotated[Level, typer.Option("--log-level", case_sensitive=False, help="What is logged on stderr.")]


class Transport(StrEnum):
    STDIO = "stdio"
    SSE = "sse"
    HTTP = "http"


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(demo)


def serve(
    config: Config = None,
    transport: Annotated[Transport, typer.Option(help="http and sse are one server with both.")] = Transport.STDIO,
    host: Annotated[str | None, typer.Option(help="Where to listen; default server.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default server.port; 0 is any free one.")] = None,
    legacy_stdio: Annotated[bool, typer.Option(help="For hosts that stumble over newer protocol versions.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="The demo instance, whatever else is configured.")] = False,
    log_level: LogLevel = Level.WARNING,
) -> None:
    """Serve MCP over stdin and stdout, or over HTTP."""
    _end_at_once_when_interrupted()
    gc.disable()  # until everything is imported, none of which will ever be garbage
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # its own begins with 4 MB, and is no faster here
    if transport is Transport.STDIO:
        from agnes_mcp.serving.wire import take_stdout

        take_stdout()
    import anyio

    from agnes_mcp.cli.logs import log_to_stderr
    from agnes_mcp.serving.server import build_server
    from agnes_mcp.serving.telemetry import trace_calls

    log_to_stderr(log_level)
    gateway = open_gateway(config, demo, at_once=True)
    trace_calls(gateway.calls)
    if sys.stderr.isatty():
        _introduce(gateway, transport)

    async def run_stdio() -> None:
        from agnes_mcp.serving.stdio import serve_stdio

        await serve_stdio(build_server(gateway), gateway, legacy=legacy_stdio)

    async def run_http() -> None:
        from agnes_mcp.config.loading import find_config
        from agnes_mcp.serving.http.run import serve_http

        server = gateway.settings.server
        await serve_http(
            gateway, host or server.host, server.port if port is None else port, None if demo else find_config(config)
        )

    gc.freeze()
    gc.callbacks.append(Imported().keep)
    gc.enable()
    anyio.run(run_stdio if transport is Transport.STDIO else run_http)


class Imported:
    """What has been imported since, which is most of what lives in a server and will never be garbage, is gone through
    by one full collection and by none after it: each holds up the event loop, whichever thread it happens in."""

    def __init__(self) -> None:
        self._modules = len(sys.modules)

    def keep(self, phase: str, collection: dict[str, int]) -> None:
        if phase == "stop" and collection["generation"] == 2 and len(sys.modules) > self._modules:
            self._modules = len(sys.modules)
            gc.freeze()


def _end_at_once_when_interrupted() -> None:
    """Until the server receives signals itself, when nothing has been begun yet that would have to be ended.

    KeyboardInterrupt, which comes wherever the program just is, is lost where a compiled library asks Python for
    something and goes on without it: the server then served on.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # in another thread, which no signal interrupts
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))


def _introduce(gateway: Gateway, transport: Transport) -> None:
    """For a person who starts it by hand: what is served, to whom, and how to connect. Nothing is asked of a source."""
    settings = gateway.settings
    bigquery = settings.data_source.bigquery
    say(f"Tables: {', '.join(list(gateway.registry.by_id)[:_SHOWN_TABLES]) or 'none by name'}")
    if bigquery is not None and bigquery.datasets:
        say(f"and every table of the datasets {', '.join(bigquery.datasets)}")
    if settings.data_source.agnes is not None:
        say("and what the extracts of the Agnes directory offer")
    if transport is Transport.STDIO:
        say("This speaks MCP over stdin and stdout, so a host starts it: `agnes-mcp install claude-code`.")
        return
    users = settings.access.users
    callers = counted(len(users), "user") if users else "everybody on this machine"
    say(f"For {callers}. To connect, with the address below:")
    say("claude mcp add --transport http agnes URL" + (" --header 'Authorization: Bearer TOKEN'" if users else ""))


def demo() -> None:
    """Run an agent's session against the demo instance and print it."""
    from agnes_mcp.demo.session import run_session

    run_session()
