"""Our server with the suite's fixtures on it, on a free port: `python -m conformance.serving DATA_DIR`, in `tests`."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from conformance import fixtures

from agnes_mcp.cli.logs import log_to_stderr
from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.http.identity import request_principal
from agnes_mcp.serving.http.run import serve_http
from agnes_mcp.serving.server import build_server


async def main(data_dir: str) -> None:
    async with Gateway(Settings(data_dir=Path(data_dir))) as gateway:
        server = build_server(gateway, request_principal)
        fixtures.register(server)
        await serve_http(gateway, "127.0.0.1", 0, server=server)


if __name__ == "__main__":
    log_to_stderr()
    anyio.run(main, sys.argv[1])
