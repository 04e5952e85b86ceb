"""The manifests agree with the project and with each other, and the official validators take them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin.hosts import PLUGIN, ROOT, bare, command_of, load
from plugin.registry import complaints
from serving.served import AGNES_MCP

from agnes_mcp import __version__

MANIFESTS = {
    "Claude Code": PLUGIN / ".claude-plugin" / "plugin.json",
    "Claude Desktop": PLUGIN / "manifest.json",
    "Gemini": ROOT / "gemini-extension.json",
    "the registry": ROOT / "server.json",
}


@pytest.mark.parametrize("host", MANIFESTS)
def test_every_manifest_has_the_version(host: str) -> None:
    manifest = load(MANIFESTS[host])
    assert manifest["version"] == __version__
    assert [package["version"] for package in manifest.get("packages", [])] in ([], [__version__])


def test_the_marketplace_offers_the_plugin() -> None:
    (offered,) = load(ROOT / ".claude-plugin" / "marketplace.json")["plugins"]
    assert offered["name"] == load(MANIFESTS["Claude Code"])["name"] == "agnes"  # commands are /agnes:…
    assert (ROOT / offered["source"]).resolve() == PLUGIN


def test_the_plugin_brings_what_is_here_and_not_a_copy() -> None:
    links = [path for path in PLUGIN.rglob("*") if path.is_symlink()]
    assert {path.relative_to(PLUGIN).as_posix(): path.resolve() for path in links} == {
        "skills/agnes-data-querying": ROOT / "skills" / "agnes-data-querying",
        **{f"server/{name}": ROOT / name for name in (
            "agnes_mcp", "tools", "resources", "skills", "pyproject.toml", "constraints.txt", "README.md", "LICENSE",
        )},
    }  # fmt: skip
    assert not any(os.path.isabs(os.readlink(path)) for path in links)


@pytest.mark.parametrize("name", ["ask", "explore", "cheaper"])
def test_a_command_takes_all_that_was_typed(name: str) -> None:
    _, front, body = (PLUGIN / "commands" / f"{name}.md").read_text("utf-8").split("---\n", 2)
    assert set(yaml.safe_load(front)) == {"description", "argument-hint"}
    assert body.count("$ARGUMENTS") == 1
    assert not re.search(r"\$\d", body)
    assert "If nothing stands after the colon" in body
    assert (PLUGIN / "commands").joinpath(f"{name}.md").stat().st_size < 2_000


def test_the_registry_would_take_the_entry() -> None:
    entry = load(MANIFESTS["the registry"])
    assert complaints(entry) == []
    assert f"mcp-name: {entry['name']}" in (ROOT / "README.md").read_text("utf-8")  # by which it knows the owner
    (package,) = entry["packages"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (package["registryType"], package["identifier"]) == ("pypi", project["name"])
    command = [argument["value"] for argument in package["packageArguments"]]
    assert subprocess.run([AGNES_MCP, *command, "--help"], capture_output=True, timeout=60).returncode == 0
    for variable in package["environmentVariables"]:
        assert f"`{variable['name']}`" in (ROOT / "docs/reference/configuration.md").read_text("utf-8")


#: Of an entry that is taken: what each change to it makes of it.
REFUSED: list[dict[str, Any]] = [
    *({name: None} for name in ("name", "description", "version")),
    *(
        {"name": name}
        for name in ("agnes", "a/b/c", "io.github.a b/c", "io.github.x/", ".x/agnes", "x-/agnes", "é/agnes")
    ),
    {"name": "a" * 199 + "/b"},
    *({name: text} for name in ("description", "title") for text in ("", "x" * 101, 1)),
    {"title": "  "},
    *(
        {"version": version}
        for version in ("latest", "^1.2.3", ">=1.0", "1.x", "1.2.*", "1 - 2", "1.2 || 1.3", "9" * 256)
    ),
    {"$schema": "https://static.modelcontextprotocol.io/schemas/2025-07-09/server.schema.json"},
    {"websiteUrl": 1},
    {"repository": {"url": "https://example.com/a/b"}},
    {"icons": [{"theme": "light"}]},
    {"icons": [{"src": "https://example.com/a.png", "sizes": ["large"]}]},
    {"remotes": [{"type": "streamable-http"}]},
    {"remotes": [{"type": "stdio"}]},
    {"remotes": [{"type": "sse", "url": "ftp://example.com"}]},
    {"packages": {}},
]
REFUSED_PACKAGES: list[dict[str, Any]] = [
    *({name: None} for name in ("registryType", "identifier", "transport")),
    *({"version": version} for version in ("", "latest", "~1.0")),
    {"identifier": "agnes data mcp"},
    *({"transport": transport} for transport in ({}, {"type": "pipe"}, {"type": "sse"}, "stdio")),
    {"transport": {"type": "stdio", "url": "https://example.com"}},
    {"fileSha256": "ABC"},
    *({"packageArguments": [argument]} for argument in (
        {"value": "serve"}, {"type": "positional"}, {"type": "named", "value": "x"}, {"type": "flag", "value": "x"},
        {"type": "named", "name": "--port 80"}, {"type": "positional", "value": 1},
    )),
    {"environmentVariables": [{"description": "no name"}]},
    {"environmentVariables": [{"name": "X", "format": "path"}]},
    {"environmentVariables": [{"name": "X", "isSecret": "yes"}]},
]  # fmt: skip


def changed(original: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**original, **change}.items() if value is not None}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: str(change)[:60])
def test_the_registry_would_not_take_another(change: dict[str, Any]) -> None:
    assert complaints(changed(load(MANIFESTS["the registry"]), change)) != []


@pytest.mark.parametrize("change", REFUSED_PACKAGES, ids=lambda change: str(change)[:60])
def test_the_registry_would_not_take_another_package(change: dict[str, Any]) -> None:
    entry = load(MANIFESTS["the registry"])
    entry["packages"] = [changed(entry["packages"][0], change)]
    assert complaints(entry) != []


def test_the_starter_is_read_by_old_pythons() -> None:
    ast.parse((PLUGIN / "bin" / "start.py").read_text("utf-8"), feature_version=(3, 8))


def run(command: list[str], tmp_path: Path) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        env=bare(tmp_path / "home"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_skill_of_the_plugin_is_valid(tmp_path: Path) -> None:
    validator = str(Path(sys.executable).with_name("agentskills"))
    run([validator, "validate", str(PLUGIN / "skills" / "agnes-data-querying")], tmp_path)


@pytest.mark.needs("claude")
@pytest.mark.parametrize("folder", [PLUGIN, ROOT], ids=["plugin", "marketplace"])
def test_claude_code_validates(folder: Path, tmp_path: Path) -> None:
    assert "Validation passed" in run([*command_of("claude"), "plugin", "validate", "--strict", str(folder)], tmp_path)


@pytest.mark.needs("mcpb")
def test_the_bundle_is_valid_and_packs_the_server(tmp_path: Path) -> None:
    run([*command_of("mcpb"), "validate", str(PLUGIN / "manifest.json")], tmp_path)
    bundle = tmp_path / "agnes.mcpb"
    run([*command_of("mcpb"), "pack", str(PLUGIN), str(bundle)], tmp_path)
    names = zipfile.ZipFile(bundle).namelist()
    wanted = {"manifest.json", "server/pyproject.toml", "server/agnes_mcp/cli/__init__.py", "server/tools/scan.py"}
    assert wanted <= set(names)
    assert load(MANIFESTS["Claude Desktop"])["server"]["entry_point"] in names
    assert [
        name
        for name in names
        if "__pycache__" in name or "_cache/" in name or name.startswith(("bin/", "commands/", "."))
    ] == []


@pytest.mark.needs("gemini")
def test_gemini_validates(tmp_path: Path) -> None:
    assert "successfully validated" in run([*command_of("gemini"), "extensions", "validate", str(ROOT)], tmp_path)
