"""`doctor`: whether this instance can serve."""

from __future__ import annotations

import typer

from agnes_mcp.cli.options import Config, open_gateway
from agnes_mcp.errors import EXIT_SERVER


def register(app: typer.Typer) -> None:
    app.command()(doctor)


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
