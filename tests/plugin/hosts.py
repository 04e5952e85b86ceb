"""What hosts read to start the server, and an empty home to start it from."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from serving.served import body_of
from support import node, services

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugin"
SCRIPTS = Path(sys.executable).parent


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def command_of(tool: str) -> list[str]:
    """The words that run one of npm's tools: some are scripts, one is a program."""
    path = services.find(tool)
    with Path(path).open("rb") as content:
        native = content.read(4) == b"\x7fELF"
    return [path] if native else node.command_of(tool)


def bare(home: Path, **more: str) -> dict[str, str]:
    """An environment with an empty home, and nothing else of this one's but where programs are."""
    home.mkdir(parents=True, exist_ok=True)
    kept = ("PIP_", "UV_", "SSL_CERT", "NODE_EXTRA", "HTTP", "NO_PROXY", "http", "no_proxy")
    passed = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    return {**passed, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "HOME": str(home), **more}


def fingerprint(server: Path) -> str:
    """As `plugin/bin/start.py` names the environment of a server."""
    parts = [server / "pyproject.toml", server / "constraints.txt", server / "agnes_mcp" / "__init__.py"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts) + str(server).encode()).hexdigest()[:16]


def prepare(folder: Path, server: Path) -> Path:
    """The environment that a first start would have made, out of the one that runs the tests."""
    environment = folder / f"venv-{fingerprint(server)}"
    environment.mkdir(parents=True)
    (environment / ("Scripts" if sys.platform == "win32" else "bin")).symlink_to(SCRIPTS)
    (environment / ".ready").touch()
    return environment


async def speaks(entry: dict[str, Any], env: dict[str, str], cwd: Path, **places: str) -> None:
    """The server that `entry` of an `mcpServers` starts answers with its tables and lists its tools."""
    words = [entry["command"], *entry["args"]]
    for name, value in places.items():
        words = [word.replace("${" + name + "}", value) for word in words]
    assert not any("${" in word for word in words)
    parameters = StdioServerParameters(command=words[0], args=words[1:], env=env, cwd=cwd)
    async with Client(parameters) as client:
        assert {"catalog", "scan", "query"} <= {tool.name for tool in (await client.list_tools()).tools}
        assert body_of(await client.call_tool("catalog", {}))["tables"] != []
