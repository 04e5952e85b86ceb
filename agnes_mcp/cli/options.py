"""Options that several commands share, and the instance that they name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.config.settings import Settings
    from agnes_mcp.gateway import Gateway

Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="An instance.yaml. Not given: AGNES_CONFIG, ./, ~/.agnes/, then the demo.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the structured answer, as the tool gives it.")]


def open_gateway(
    config: str | None, demo: bool = False, max_chars: int | None = None, *, at_once: bool = False
) -> Gateway:
    """The instance that was asked for, or the demo's. `demo`: the demo's whatever else is configured.

    `max_chars`: how long an answer may be, in place of `api.max_result_chars`, which is for agents.
    `at_once`: for a server, whose host waits for its first answer: the demo's data is made meanwhile.
    Raises `ConfigError`, and `storage_failed` where nothing can be kept.
    """
    from agnes_mcp.gateway import Gateway

    path, settings = read_settings(config, demo)
    _refuse_unusable(settings.data_dir)
    if max_chars is not None:
        api = settings.api.model_copy(update={"max_result_chars": max_chars})
        settings = settings.model_copy(update={"api": api})
    if not at_once:  # one command asks one thing at a time, and is gone before another process were ready
        settings = settings.model_copy(update={"engine": settings.engine.model_copy(update={"query_workers": 1})})
    if path is None and (demo or not settings.tables):
        from agnes_mcp.demo.instance import open_demo

        return open_demo(settings, at_once=at_once)
    return Gateway(settings)


def _refuse_unusable(folder: Path) -> None:
    """Every call would fail over it: what is spent is written down there first."""
    reason: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            reason = os.strerror(errno.EACCES)
    except FileExistsError:
        reason = "it is no folder"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason is not None:
        raise AgnesError(
            "storage_failed",
            f"The data directory (data_dir) cannot be used: {reason}.",
            "Set data_dir to a folder of your own, or let the user that runs this write there.",
        )


def read_settings(config: str | None, demo: bool = False) -> tuple[Path | None, Settings]:
    from agnes_mcp.config.loading import find_config, load_settings

    path = None if demo else find_config(config)
    return path, load_settings(path)


def instance_file(config: str | None) -> Path:
    """The file that a command is to change. Raises `invalid_argument` where there is none."""
    from agnes_mcp.config.loading import find_config

    path = find_config(config)
    if path is None:
        raise AgnesError(
            "invalid_argument",
            "There is no instance.yaml to change.",
            "Make one with `agnes-mcp init`, or name it: -c.",
        )
    return path


class CommandError(Exception):
    """What only a command can meet, with its exit code; tools know no such error."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message)
        self.message, self.hint, self.exit_code = message, hint, exit_code


def wrong(message: str, hint: str) -> AgnesError:
    """An argument that cannot be meant."""
    return AgnesError("invalid_argument", message, hint)
