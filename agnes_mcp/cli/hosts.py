"""`install`: this server in the configuration of a host that speaks MCP."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agnes_mcp.cli.options import Config, wrong
from agnes_mcp.cli.output import say
from agnes_mcp.config.editing import replace_file


class Host(StrEnum):
    CLAUDE_CODE = "claude-code"
    CLAUDE_DESKTOP = "claude-desktop"


def register(app: typer.Typer) -> None:
    app.command()(install)


def install(
    host: Annotated[Host, typer.Argument(help="The host to configure.")],
    config: Config = None,
    name: Annotated[str, typer.Option(help="What the host calls this server.")] = "agnes",
    project: Annotated[bool, typer.Option("--project", help="Claude Code: for this folder only (.mcp.json).")] = False,
    show: Annotated[bool, typer.Option("--print", help="Only print what would be written, and where.")] = False,
) -> None:
    """Put this server into a host's configuration, beside what is there; the old file is kept as a backup."""
    from agnes_mcp.config.loading import find_config

    if project and host is not Host.CLAUDE_CODE:
        raise wrong("--project is for claude-code.", "Claude Desktop has one configuration for all folders.")
    file = Path(".mcp.json").absolute() if project else configuration_of(host)
    entry = _entry(host, find_config(config))
    if show:
        say(f"For {file}:")
        typer.echo(json.dumps({"mcpServers": {name: entry}}, indent=2))
        return
    content = _read(file)
    servers = content.setdefault("mcpServers", {})
    if not isinstance(servers, dict):
        raise wrong(f"`mcpServers` in {file} is no object.", "Correct the file by hand, then try again.")
    if servers.get(name) == entry:
        say(f"{file} has it already.")
        return
    replaced = name in servers
    servers[name] = entry
    backup = _write(file, content)
    say(f"{'Replaced' if replaced else 'Added'} {name!r} in {file}{f'; as it was: {backup.name}' if backup else ''}.")
    say("Start the host again to see it." if host is Host.CLAUDE_DESKTOP else "It is there from the next session on.")


def configuration_of(
    host: Host, environ: Mapping[str, str] = os.environ, platform: str = sys.platform, home: Path | None = None
) -> Path:
    """Where that host keeps its configuration on this system."""
    home = home or Path.home()
    if host is Host.CLAUDE_CODE:
        folder = environ.get("CLAUDE_CONFIG_DIR")
        return Path(folder) / ".claude.json" if folder else home / ".claude.json"
    file = "claude_desktop_config.json"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "Claude" / file
    if platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "Claude" / file
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "Claude" / file


def _entry(host: Host, config: Path | None) -> dict[str, Any]:
    """Absolute paths: a host starts servers from anywhere, and without the PATH of a shell."""
    arguments = ["serve", "--config", str(config)] if config else ["serve"]
    kind = {"type": "stdio"} if host is Host.CLAUDE_CODE else {}
    return {**kind, "command": _command(), "args": arguments}


def _command() -> str:
    called = shutil.which(sys.argv[0]) or sys.argv[0]
    if Path(called).name.startswith("agnes-mcp") and os.path.exists(called):
        return os.path.abspath(called)
    return str(Path(sys.executable).with_name("agnes-mcp"))


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(f"{file} cannot be read ({type(error).__name__}).", "Look at the file, then try again.") from None
    try:
        content = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise wrong(
            f"{file} is not JSON: {error}.", "Correct it by hand, then try again; nothing was changed."
        ) from None
    if not isinstance(content, dict):
        raise wrong(f"{file} holds no object.", "Correct it by hand, then try again; nothing was changed.")
    return content


def _write(file: Path, content: dict[str, Any]) -> Path | None:
    """Replace the file; the backup's path, None where there was no file."""
    target = Path(os.path.realpath(file))
    backup = target.with_name(f"{target.name}.backup-{datetime.now():%Y%m%d-%H%M%S}") if target.exists() else None
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    replace_file(target, text, "Use --print and add the lines by hand.", str(file), backup)
    return backup
