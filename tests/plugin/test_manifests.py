"""The manifests agree with the project and with each other, and the official validators take them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from plugin.hosts import PLUGIN, ROOT, bare, command_of, load

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


def test_the_registry_entry_keeps_its_rules() -> None:
    """Those of the schema and of the registry that can be told here: name, lengths, version, and the README's word."""
    entry = load(MANIFESTS["the registry"])
    assert re.fullmatch(r"[A-Za-z0-9.-]+/[A-Za-z0-9._-]+", entry["name"])
    assert len(entry["description"]) <= 100
    assert f"mcp-name: {entry['name']}" in (ROOT / "README.md").read_text("utf-8")
    (package,) = entry["packages"]
    assert package["registryType"] == "pypi"
    assert package["identifier"] == "agnes-data-mcp"
    assert package["transport"] == {"type": "stdio"}


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
