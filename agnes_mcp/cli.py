"""The command line: `agnes-mcp serve`, `agnes-mcp demo`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.gateway import Gateway

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Company data for an agent: discover, price, fetch.",
)

Config = Annotated[str | None, typer.Option("--config", "-c", help="An instance.yaml; without one, the demo instance.")]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]


@app.callback()
def _root() -> None:
    """Company data for an agent: discover, price, fetch."""


@app.command()
def serve(config: Config = None, log_level: LogLevel = "warning") -> None:
    """Serve MCP over stdin and stdout."""
    import anyio

    from agnes_mcp.logs import log_to_stderr
    from agnes_mcp.stdio import serve_stdio

    log_to_stderr(log_level)
    gateway = open_gateway(config)

    async def run() -> None:
        from agnes_mcp.server import build_server

        await serve_stdio(build_server(gateway), gateway)

    anyio.run(run)


@app.command()
def demo() -> None:
    """Run an agent's session against the demo instance and print it."""
    from agnes_mcp.demo.session import run_session

    run_session()


def open_gateway(config: str | None) -> Gateway:
    """The instance that was asked for, or the demo's."""
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.instance import find_config, load_settings

    path = find_config(config)
    settings = load_settings(path)
    if path is None and not settings.tables:
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
