"""The command line, from Typer."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from agnes_mcp import errors
from agnes_mcp.cli import app_for
from agnes_mcp.cli.agnes import EXIT_PARTIAL
from agnes_mcp.cli.running import EXIT_INTERRUPTED

from .markdown import code, literal, table

NAME = "agnes-mcp"


# Typer brings a click of its own, whose classes are private: hence the Any.
def walk() -> Iterator[tuple[str, Any]]:
    """Every command with its full name; groups only for what is in them."""
    yield from _walk(NAME, typer.main.get_command(app_for()))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for inner, found in command.commands.items():
            yield from _walk(f"{name} {inner}", found)
    elif not command.hidden:
        yield name, command


def commands() -> str:
    return "\n\n".join(_command(name, command) for name, command in walk())


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [_parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    parts = [f"## {name}", " ".join((command.help or "").split()), f"```text\n{usage}\n```"]
    if rows:
        parts.append(table(("argument, option", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _parameter(parameter: Any) -> tuple[str, str, str]:
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.name]
    spelled = ", ".join(code(str(name)) for name in names)
    if isinstance(parameter.default, Enum):
        spelled += ": " + ", ".join(code(str(choice.value)) for choice in type(parameter.default))
    default = getattr(parameter.default, "value", parameter.default)
    default = str(default) if isinstance(default, Path) else default
    shown = "" if default is None or callable(default) or parameter.required else literal(default).replace('"', "")
    return spelled, "needed" if parameter.required else shown, str(getattr(parameter, "help", None) or "")


def exit_codes() -> str:
    names = [name for name in vars(errors) if name.startswith("EXIT_")]
    rows = []
    for name in sorted(names, key=lambda name: int(getattr(errors, name))):
        number = getattr(errors, name)
        kinds = [kind for kind, code_of_kind in errors.KINDS.items() if code_of_kind == number]
        rows.append((str(number), name.removeprefix("EXIT_").lower(), ", ".join(map(code, kinds)) or "no error"))
    partly = "none: a part of `extract`, `rebuild` or `sync` failed, or all of `sync`"
    rows.insert(1, (str(EXIT_PARTIAL), "partly", partly))
    rows.append((str(EXIT_INTERRUPTED), "stopped", "none: Ctrl-C, whatever ran"))
    return table(("code", "about", "kinds of error"), rows)
