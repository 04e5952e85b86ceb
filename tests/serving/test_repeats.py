"""Logs beside a server of the SDK's."""

from __future__ import annotations

import logging

import anyio.to_thread
import pytest
from mcp.server import MCPServer

from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server


async def test_a_server_leaves_the_logs_of_its_program_alone(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own takes over a root logger that has no handler; ours does not, and other servers still may."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.ERROR)
    await anyio.to_thread.run_sync(build_server, gateway)
    assert (logging.root.handlers, logging.root.level) == ([], logging.ERROR)
    MCPServer("another")
    assert len(logging.root.handlers) == 1
