"""A host's configuration gains this server and loses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.conftest import Run

from agnes_mcp.cli.hosts import Host, configuration_of

DESKTOP = Path(".config/Claude/claude_desktop_config.json")


@pytest.fixture(autouse=True)
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_each_system_keeps_it_elsewhere() -> None:
    home = Path("/home/ana")
    assert configuration_of(Host.CLAUDE_CODE, {}, "linux", home) == home / ".claude.json"
    assert configuration_of(Host.CLAUDE_CODE, {"CLAUDE_CONFIG_DIR": "/c"}, "linux", home) == Path("/c/.claude.json")
    assert configuration_of(Host.CLAUDE_DESKTOP, {}, "linux", home) == home / DESKTOP
    assert configuration_of(Host.CLAUDE_DESKTOP, {"XDG_CONFIG_HOME": "/x"}, "linux", home).parts[1] == "x"
    mac = configuration_of(Host.CLAUDE_DESKTOP, {}, "darwin", home)
    assert mac == home / "Library" / "Application Support" / "Claude" / "claude_desktop_config.json"
    windows = configuration_of(Host.CLAUDE_DESKTOP, {"APPDATA": "/r"}, "win32", home)
    assert windows == Path("/r/Claude/claude_desktop_config.json")


def test_what_is_there_stays_and_is_kept_as_it_was(run: Run, home: Path) -> None:
    before = '{"theme": "dark", "mcpServers": {"other": {"command": "x"}}}'
    (home / ".claude.json").write_text(before)
    (home / ".claude.json").chmod(0o600)
    (home / "instance.yaml").write_text("data_dir: ./state\n")
    assert run("install", "claude-code").code == 0
    written = json.loads((home / ".claude.json").read_text())
    entry = written["mcpServers"].pop("agnes")
    assert written == json.loads(before)
    assert (entry["type"], entry["args"]) == ("stdio", ["serve", "--config", str(home / "instance.yaml")])
    assert Path(entry["command"]).is_absolute()
    assert (home / ".claude.json").stat().st_mode & 0o777 == 0o600
    assert [path.read_text() for path in home.glob(".claude.json.backup-*")] == [before]


def test_the_same_again_changes_nothing(run: Run, home: Path) -> None:
    for _ in range(2):
        assert run("install", "claude-desktop").code == 0
    assert [path.name for path in (home / DESKTOP).parent.iterdir()] == [DESKTOP.name]


def test_another_entry_of_that_name_is_replaced_and_said(run: Run, home: Path) -> None:
    (home / ".mcp.json").write_text('{"mcpServers": {"agnes": {"command": "old"}}}')
    ran = run("install", "claude-code", "--project")
    assert "Replaced" in ran.err
    assert "old" not in (home / ".mcp.json").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"mcpServers": []}', "// comment\n{}"])
def test_what_cannot_be_read_is_left_alone(run: Run, home: Path, text: str) -> None:
    (home / ".claude.json").write_text(text)
    assert run("install", "claude-code").code == 2
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [(".claude.json", text)]


def test_printing_writes_nothing(run: Run, home: Path) -> None:
    ran = run("install", "claude-desktop", "--print", "--name", "data")
    assert list(json.loads(ran.out)["mcpServers"]) == ["data"]
    assert list(home.iterdir()) == []


def test_a_project_is_claude_codes(run: Run) -> None:
    assert run("install", "claude-desktop", "--project").code == 2
