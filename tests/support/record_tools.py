"""Record the tools' names, descriptions and schemas: `python -m support.record_tools`, from `tests/`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import anyio

from agnes_mcp.gateway import Gateway
from support.instances import connected, settings_of


async def record() -> None:
    target = Path(__file__).parents[1] / "fixtures" / "tools.json"
    with tempfile.TemporaryDirectory() as folder:
        async with Gateway(settings_of(Path(folder), [])) as gateway, connected(gateway, "auto") as client:
            tools = [
                {"name": t.name, "description": t.description, "input": t.input_schema, "output": t.output_schema}
                for t in (await client.list_tools()).tools
            ]
    target.write_text(json.dumps(tools, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    anyio.run(record)
