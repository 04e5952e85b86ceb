"""`doctor`: whether this instance can serve."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import typer

from agnes_mcp.cli.options import Config, Json, open_gateway
from agnes_mcp.cli.output import print_json, visible_to_a_person
from agnes_mcp.errors import EXIT_SERVER, EXIT_VALIDATION, AgnesError, ConfigError

if TYPE_CHECKING:
    from agnes_mcp.config.settings import Settings
    from agnes_mcp.doctor.findings import Finding

_WORDS = {"pass": "ok", "fail": "FAILED", "skip": "skip"}


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(config: Config = None, as_json: Json = False) -> None:
    """Look at everything that `serve` would use, and say what is broken and what to do. Bills nothing.

    Exits 5 where something is broken, 2 where it is the configuration.
    """
    import anyio

    from agnes_mcp.doctor import examine
    from agnes_mcp.doctor.findings import failed

    # what it logs is a finding too
    logging.getLogger("agnes_mcp.extracts.directory").addHandler(logging.NullHandler())
    try:
        gateway = open_gateway(config)
    except ConfigError as error:
        if not as_json:
            raise
        _tell([failed("configuration", error)], as_json=True)
        raise typer.Exit(EXIT_VALIDATION) from None
    except AgnesError as error:
        _tell([failed("data_dir", error)], as_json)
        raise typer.Exit(EXIT_SERVER) from None
    findings = [_server(gateway.settings), *anyio.run(examine, gateway)]
    _tell(findings, as_json)
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(EXIT_SERVER)


def _server(settings: Settings) -> Finding:
    """Whether `serve --transport http` would start as it is configured."""
    from agnes_mcp.doctor.findings import Finding, counted, failed
    from agnes_mcp.serving.http.exposure import check_exposure

    try:
        check_exposure(settings, settings.server.host)
    except ConfigError as error:
        return failed("server", error)
    callers = counted(len(settings.access.users), "user") if settings.access.users else "nobody but this machine"
    found = f"{settings.server.host}:{settings.server.port} over HTTP, for {callers}"
    return Finding(subject="server", state="pass", found=found)


def _tell(findings: list[Finding], as_json: bool) -> None:
    if as_json:
        broken = sum(finding.state == "fail" for finding in findings)
        print_json({"broken": broken, "findings": [finding.model_dump(mode="json") for finding in findings]})
        return
    for finding in findings:
        found = f"{finding.found.rstrip('.')}. {finding.cure}" if finding.cure else finding.found
        typer.echo(visible_to_a_person(f"{_WORDS[finding.state]:<6} {finding.subject}: {found}"))
