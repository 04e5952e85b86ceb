"""The configurations that are shown to people start the server, exactly as they are written."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from serving.served import Served, body_of, environment, serve, token_of, user, write_instance

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "claude_desktop_config.example.json"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = "/absolute/path/to/agnes-mcp/.venv/bin"


def servers_shown() -> list[tuple[str, dict[str, Any]]]:
    """Every `mcpServers` entry, from the example and from the documents' JSON blocks."""
    shown = [("claude_desktop_config.example.json", EXAMPLE.read_text())]
    for document in DOCUMENTS:
        blocks = re.findall(r"^```json\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
        shown += [(document.name, block) for block in blocks if "mcpServers" in block]
    return [(where, entry) for where, text in shown for entry in json.loads(text)["mcpServers"].values()]


def commands_shown() -> list[tuple[str, list[str]]]:
    """Every `claude mcp add` line, as the words that a shell makes of it."""
    return [
        (document.name, shlex.split(line))
        for document in DOCUMENTS
        for line in document.read_text().splitlines()
        if line.startswith("claude mcp add ")
    ]


@pytest.fixture
def instance_file(tmp_path: Path, tables: list[dict[str, Any]]) -> Path:
    return write_instance(tmp_path / "instance.yaml", tables=tables)


def as_here(word: str, instance_file: Path) -> str:
    """A word of a configuration with this machine's paths instead of the placeholders."""
    scripts = str(Path(sys.executable).parent)
    here = word.replace(SCRIPTS, scripts).replace("$PWD/.venv/bin", scripts)
    here = re.sub(r"(^|=)~?/\S*instance\.yaml", rf"\g<1>{instance_file}", here)
    assert "/absolute/path" not in here
    assert "$" not in here
    return here


async def _uses(command: str, arguments: list[str], env: dict[str, str]) -> None:
    parameters = StdioServerParameters(command=command, args=arguments, env={**environment(), **env})
    async with Client(parameters) as client:
        assert "orders" in [table["id"] for table in body_of(await client.call_tool("catalog", {}))["tables"]]


@pytest.mark.parametrize(("where", "entry"), [shown for shown in servers_shown() if "command" in shown[1]])
async def test_a_configuration_file_starts_the_server(
    where: str, entry: dict[str, Any], instance_file: Path, tmp_path: Path
) -> None:
    assert set(entry) <= {"type", "command", "args", "env"}
    command, *arguments = (as_here(word, instance_file) for word in [entry["command"], *entry["args"]])
    env = {name: as_here(value, instance_file) for name, value in entry.get("env", {}).items()}
    if not env and "--config" not in arguments:
        env = {"AGNES_CONFIG": str(instance_file)}  # the demo's tables take half a minute to make
    await _uses(command, arguments, {**env, "HOME": str(tmp_path)})


@pytest.mark.parametrize(("where", "words"), [shown for shown in commands_shown() if "--" in shown[1]])
async def test_a_command_line_starts_the_server(
    where: str, words: list[str], instance_file: Path, tmp_path: Path
) -> None:
    command, *arguments = (as_here(word, instance_file) for word in words[words.index("--") + 1 :])
    env = {} if "--config" in arguments else {"AGNES_CONFIG": str(instance_file)}
    await _uses(command, arguments, {**env, "HOME": str(tmp_path)})


def remotes_shown() -> list[tuple[str, str, str]]:
    """Where, path and header of every remote server that is shown."""
    entries = [(where, entry) for where, entry in servers_shown() if "url" in entry]
    found = [(where, entry["url"], f"Authorization: {entry['headers']['Authorization']}") for where, entry in entries]
    for where, words in commands_shown():
        if "-t" in words:
            url = next(word for word in words if "://" in word)
            found.append((where, url, words[words.index("-H") + 1]))
    return found


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, tables: list[dict[str, Any]]) -> Any:
    path = write_instance(
        tmp_path_factory.mktemp("team") / "instance.yaml",
        tables=tables,
        access={"users": [user("ana", "*")]},
        server={"public_url": "https://agnes.example.com"},
    )
    with serve(path) as served:
        yield served


@pytest.mark.parametrize(("where", "url", "header"), remotes_shown())
async def test_a_remote_server_answers_as_it_is_shown(where: str, url: str, header: str, team: Served) -> None:
    """The name stands for this machine; path, header and Host are as they are written."""
    assert url.startswith("https://agnes.example.com/")
    name, _, value = header.partition(": ")
    value = re.sub(r"\$\{?\w+\}?", token_of("ana"), value)
    headers = {name: value, "Host": "agnes.example.com"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        address = url.replace("https://agnes.example.com", team.url)
        async with Client(streamable_http_client(address, http_client=http)) as client:
            assert body_of(await client.call_tool("usage", {}))["principal"] == "ana"


def test_each_kind_of_host_is_shown() -> None:
    shown = {where for where, _ in servers_shown()} | {where for where, _ in commands_shown()}
    assert {"claude_desktop_config.example.json", "README.md"} <= shown
    assert remotes_shown()
