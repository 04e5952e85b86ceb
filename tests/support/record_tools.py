"""Record what `tools/list` answers: `python -m support.record_tools`, from `tests/`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp.server import MCPServer

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server
from support.instances import settings_of

LISTED = Path(__file__).parents[2] / "tools" / "listed.json"


async def made_of_modules(settings: Settings) -> list[dict[str, Any]]:
    """The tools as their modules make them, in the order and the shape in which a client gets them."""
    async with Gateway(settings) as gateway:
        server = await anyio.to_thread.run_sync(build_server, gateway)
        await anyio.to_thread.run_sync(server.tools.load)
        tools = await MCPServer.list_tools(server)
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]


async def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tools = await made_of_modules(settings_of(Path(folder), []))
    LISTED.write_text(json.dumps(tools, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    anyio.run(record)
