"""Real server processes and the SDK's real client, over every transport."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import yaml
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from support.instances import ONE_PROCESS

AGNES_MCP = str(Path(sys.executable).with_name("agnes-mcp"))
START_WITHIN_S = 60
STOP_WITHIN_S = 60

Transport = Literal["stdio", "http", "sse"]
Era = Literal["auto", "legacy"]
TRANSPORTS: tuple[Transport, ...] = ("stdio", "http", "sse")
ERAS: tuple[Era, ...] = ("auto", "legacy")
MATRIX = [(transport, era) for transport in TRANSPORTS for era in ERAS]


@dataclass
class Served:
    """A server process over HTTP. `log` is what it wrote to standard error, line by line."""

    url: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def get(self, path: str, token: str | None = None, **options: Any) -> httpx2.Response:
        return self.request("GET", path, token, **options)

    def request(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx2.Response:
        headers = {**bearer(token), **options.pop("headers", {})}
        return httpx2.request(method, self.url + path, headers=headers, timeout=60, **options)


def token_of(name: str) -> str:
    """A test user's bearer token."""
    return f"agnes_test_token_of_{name}"


def user(name: str, tables: list[str] | str, **limits: Any) -> dict[str, Any]:
    digest = hashlib.sha256(token_of(name).encode()).hexdigest()
    return {"name": name, "token_sha256": digest, "tables": tables, **limits}


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def write_instance(path: Path, **sections: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = {**ONE_PROCESS, **sections.pop("engine", {})}
    described = {"data_dir": str(path.parent / "data"), "engine": engine, **sections}
    path.write_text(yaml.safe_dump(described), encoding="utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    """This process's own, without settings that would leak into the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGNES_", "GOOGLE_", "GCE_"))}
    return {**kept, "CLOUDSDK_CONFIG": "/nonexistent", **more}


@contextmanager
def serve(config: Path, *options: str, program: tuple[str, ...] = (AGNES_MCP,), **env: str) -> Iterator[Served]:
    """`agnes-mcp serve` on a free port of loopback, until the block ends."""
    command = [*program, "serve", "--transport", "http", "--port", "0", "--config", str(config), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**env))
    try:
        yield await_serving(process)
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL where that does not do."""
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def await_serving(process: subprocess.Popen[str]) -> Served:
    """The server's address, from the line in which it says so; its further lines are collected."""
    served = Served("", process)
    found = threading.Event()

    def collect() -> None:
        for line in process.stderr or ():
            served.log.append(line)
            if "serving http://" in line:
                served.url = line.split("serving ", 1)[1].split("/mcp", 1)[0]
                found.set()
        found.set()

    threading.Thread(target=collect, daemon=True).start()
    assert found.wait(START_WITHIN_S), "the server did not start"
    assert served.url, "".join(served.log)
    return served


@asynccontextmanager
async def connect(
    served: Served | Path, transport: Transport, era: Era, token: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    """The SDK's client: over HTTP or SSE to a server that runs, over stdio to one of its own for that instance file."""
    if transport == "stdio":
        assert isinstance(served, Path)
        arguments = ["serve", "--config", str(served)]
        parameters = StdioServerParameters(command=AGNES_MCP, args=arguments, env=environment())
        async with Client(parameters, mode=era, **options) as client:
            yield client
        return
    assert isinstance(served, Served)
    if transport == "sse":
        async with Client(sse_client(f"{served.url}/sse", headers=bearer(token)), mode=era, **options) as client:
            yield client
        return
    async with httpx2.AsyncClient(headers=bearer(token), timeout=60) as http:
        stream = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(stream, mode=era, **options) as client:
            yield client


def body_of(result: Any) -> dict[str, Any]:
    assert result.structured_content is not None
    return dict(result.structured_content)


def rpc(method: str, params: dict[str, Any] | None = None, id: int | None = 1) -> dict[str, Any]:  # noqa: A002
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
    return message if id is None else {**message, "id": id}


INITIALIZE = rpc(
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
)
ACCEPT = {"Accept": "application/json, text/event-stream"}
