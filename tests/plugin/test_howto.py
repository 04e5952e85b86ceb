"""The lines of the how-to start the server as they are written, whatever format a host wants them in."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from plugin.hosts import ROOT, SCRIPTS, bare, load, speaks
from serving.served import write_instance
from support import pages

PAGE = pages.DOCS / "how-to" / "connect-other-hosts.md"
#: Under which key each host keeps its servers.
KEYS = ("mcpServers", "servers", "mcp_servers")


def entries() -> dict[str, dict[str, Any]]:
    """The configurations of the page by the host's key and the block's place."""
    parsed = [json.loads(block.text) for block in pages.blocks(PAGE, "json")]
    parsed += [tomllib.loads(block.text) for block in pages.blocks(PAGE, "toml")]
    return {key: content[key]["agnes"] for content in parsed for key in KEYS if key in content}


def test_every_block_is_one_that_is_tried() -> None:
    assert set(entries()) == set(KEYS)
    assert {block.language for block in pages.blocks(PAGE)} == {"sh", "json", "toml"}


@pytest.mark.parametrize("key", KEYS)
async def test_the_lines_start_the_server(key: str, tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    entry = entries()[key]
    assert set(entry) <= {"type", "command", "args", "startup_timeout_sec"}
    instance = write_instance(tmp_path / "instance.yaml", tables=tables)
    words = [
        word.replace("/absolute/path/to/agnes-mcp/.venv/bin", str(SCRIPTS)).replace(
            "/absolute/path/to/instance.yaml", str(instance)
        )
        for word in [entry["command"], *entry["args"]]
    ]
    await speaks({"command": words[0], "args": words[1:]}, bare(tmp_path / "home"), tmp_path)


def test_the_commands_name_what_is_there() -> None:
    lines = [shlex.split(line) for block in pages.blocks(PAGE, "sh") for line in block.text.splitlines()]
    marketplace = load(ROOT / ".claude-plugin" / "marketplace.json")
    installed = f"{marketplace['plugins'][0]['name']}@{marketplace['name']}"
    assert [line[-1] for line in lines if line[0] == "claude"] == ["/absolute/path/to/agnes-mcp", installed]
    assert (ROOT / next(line for line in lines if line[0] == "npx")[3] / "manifest.json").is_file()
    text = PAGE.read_text("utf-8")
    assert all(f"/agnes:{command.stem}" in text for command in (ROOT / "plugin" / "commands").glob("*.md"))
