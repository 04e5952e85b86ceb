"""`--legacy-stdio`: for hosts that send both handshakes and stumble over two answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from serving.served import AGNES_MCP, INITIALIZE, environment, write_instance

METHOD_NOT_FOUND = -32601
DISCOVER = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "server/discover",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


def answers(config: Path, *options: str) -> dict[int, dict[str, Any]]:
    """What a server says to discover and then initialize, by request id."""
    sent = "".join(json.dumps(message) + "\n" for message in (DISCOVER, INITIALIZE))
    command = [AGNES_MCP, "serve", "--config", str(config), *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(sent)
    process.stdin.flush()
    said = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.communicate(timeout=60)
    return {message["id"]: message for message in said}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_instance(tmp_path / "instance.yaml")


def test_only_the_handshake_is_answered(config: Path) -> None:
    said = answers(config, "--legacy-stdio")
    assert said[7]["error"]["code"] == METHOD_NOT_FOUND
    assert said[1]["result"]["protocolVersion"] == "2025-11-25"


def test_without_it_the_first_request_decides(config: Path) -> None:
    said = answers(config)
    assert "2026-07-28" in said[7]["result"]["supportedVersions"]
    assert "error" in said[1]
