"""The command line: `agnes-mcp serve`, `agnes-mcp demo`."""

from __future__ import annotations

import gc
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from agnes_mcp import __version__
from agnes_mcp.errors import EXIT_SERVER, AgnesError
from agnes_mcp.logs import Level

if TYPE_CHECKING:
    from agnes_mcp.gateway import Gateway

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Company data for an agent: discover, price, fetch.",
)

tokens = typer.Typer(no_args_is_help=True, help="Bearer tokens for callers over HTTP.")
app.add_typer(tokens, name="token")

Config = Annotated[str | None, typer.Option("--config", "-c", help="An instance.yaml; without one, the demo instance.")]
LogLevel = Annotated[Level, typer.Option("--log-level", case_sensitive=False, help="What is logged on stderr.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agnes-mcp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Company data for an agent: discover, price, fetch."""


class Transport(StrEnum):
    STDIO = "stdio"
    SSE = "sse"
    HTTP = "http"


@app.command()
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
    gc.disable()  # until everything is imported, none of which will ever be garbage
    if transport is Transport.STDIO:
        from agnes_mcp.serving.wire import take_stdout

        take_stdout()
    import anyio

    from agnes_mcp.logs import log_to_stderr
    from agnes_mcp.serving.server import build_server

    log_to_stderr(log_level)
    gateway = open_gateway(config, demo)

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
    gc.enable()
    anyio.run(run_stdio if transport is Transport.STDIO else run_http)


@tokens.command("new")
def new_token(
    name: Annotated[str, typer.Argument(help="Who will use it, e.g. ana@example.com.")],
    tables: Annotated[list[str] | None, typer.Option("--table", help="A table it may read; several times.")] = None,
) -> None:
    """Make a bearer token, and print it once together with the lines for instance.yaml."""
    from agnes_mcp.access.grants import digest_token, generate_token

    token = generate_token()
    granted = f"[{', '.join(tables)}]" if tables else '[]  # or "*"'
    lines = (
        f"  users:\n    - name: {json.dumps(name)}\n      token_sha256: {digest_token(token)}\n      tables: {granted}"
    )
    typer.echo(f"Token, shown only now: {token}\n\nFor instance.yaml:\n\naccess:\n{lines}")


@app.command()
def doctor(config: Config = None) -> None:
    """Check that this instance can serve: files, DuckDB, query workers, BigQuery. Exits 5 where something cannot."""
    import anyio

    from agnes_mcp.doctor import examine

    gateway = open_gateway(config)
    findings = anyio.run(examine, gateway)
    for finding in findings:
        typer.echo(f"{'ok    ' if finding.fine else 'FAILED'} {finding.subject}: {finding.found}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(EXIT_SERVER)


@app.command()
def demo() -> None:
    """Run an agent's session against the demo instance and print it."""
    from agnes_mcp.demo.session import run_session

    run_session()


def open_gateway(config: str | None, demo: bool = False) -> Gateway:
    """The instance that was asked for, or the demo's. `demo`: the demo's whatever else is configured."""
    from agnes_mcp.config.loading import find_config, load_settings
    from agnes_mcp.gateway import Gateway

    path = None if demo else find_config(config)
    settings = load_settings(path)
    if path is None and (demo or not settings.tables):
        from agnes_mcp.demo.instance import open_demo

        return open_demo(settings)
    return Gateway(settings)


def main() -> None:
    """The console script: errors are one line, and an exit code that tells them apart."""
    try:
        app()
    except AgnesError as error:
        sys.stderr.write(f"Error: {error.message} {error.hint}\n")
        sys.exit(error.exit_code)
