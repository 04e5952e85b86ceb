"""What is said to a person at the keyboard: errors that were worded for a tool's caller, moments, numbers of things."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from typing import Any

_COMMANDS = "catalog|schema|describe|sample|estimate|scan|fetch|query|usage|chart"
#: A tool's way of saying something, and a shell's.
_SPOKEN = (
    (re.compile(rf"\bCall (?:`({_COMMANDS})`|({_COMMANDS})\b)"), r"Run `agnes-mcp \1\2`"),
    (re.compile(rf"\bcall (?:`({_COMMANDS})`|({_COMMANDS})\b)"), r"run `agnes-mcp \1\2`"),
    (re.compile(rf"\b(Look into) `({_COMMANDS})`"), r"\1 `agnes-mcp \2`"),
    (re.compile(r"\bor fetch to make one\b"), "or `agnes-mcp fetch` to make one"),
    (re.compile(r"\bCall `?snapshot_(list|refresh|drop|prune)\b`?"), r"Run `agnes-mcp snapshot \1`"),
    (re.compile(r"`?\bsnapshot_(list|refresh|drop|prune)\b`?"), r"`agnes-mcp snapshot \1`"),
    (re.compile(r"`?\bdisk_info\b`?"), "`agnes-mcp disk-info`"),
    (re.compile(r"\b(force|expired)=true\b"), r"--\1"),
    (re.compile(r"\bdry_run=true\b"), "--dry-run"),
    (re.compile(r"\bestimate_only=true\b"), "--estimate"),
    (re.compile(r"\b(older|larger)_than=['\"]?(\w+)['\"]?"), r"--\1-than \2"),
    (re.compile(r"\b(older|larger)_than\b"), r"--\1-than"),
    (re.compile(r"(--larger-than and )expired\b"), r"\1--expired"),
    (re.compile(rf"`({_COMMANDS})`"), r"`agnes-mcp \1`"),
    (re.compile(r"`(select|where)`"), r"`--\1`"),
    (re.compile(r"(?<![\w.'\"-])(group|order)_by(?![\w.'\"])"), r"--\1-by"),
    (re.compile(r"(?<![\w.'\"`-])estimate_only(?![\w.'\"`])"), "--estimate"),
)
#: A call as code writes it, up to its first argument.
_CALL = re.compile(rf"(?:\b([Cc])all )?`?\b({_COMMANDS}|snapshot_\w+|disk_info)`?\((?=[a-z_]+=)")
_ARGUMENT = re.compile(r"([a-z_]+)=")
#: Arguments that a command takes by their place.
_PLACED = {"table_id", "name", "search"}


def for_shell(text: str) -> str:
    """An error's words with commands and flags in place of tools and their arguments."""
    said, at = "", 0
    while (call := _CALL.search(text, at)) is not None:
        parsed = _arguments(text, call.end())
        if parsed is None:  # not a call after all
            said, at = said + _spoken(text[at : call.start()]) + text[call.start() : call.end()], call.end()
            continue
        arguments, end = parsed
        verb = {"C": "Run ", "c": "run ", None: ""}[call[1]]
        said, at = f"{said}{_spoken(text[at : call.start()])}{verb}`{_command(call[2], arguments)}`", end
    return said + _spoken(text[at:])


def _spoken(text: str) -> str:
    for pattern, instead in _SPOKEN:
        text = pattern.sub(instead, text)
    return text


def _arguments(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """The arguments that begin there, and where their call ends; None: no bracket closes them."""
    found: dict[str, Any] = {}
    while (argument := _ARGUMENT.match(text, at)) is not None:
        try:
            found[argument[1]], at = json.JSONDecoder().raw_decode(text, argument.end())
        except ValueError:  # as in sql=…, or where='…'
            plain = re.compile(r"'[^']*'|[^,)]*").match(text, argument.end())
            found[argument[1]], at = (plain[0].strip("'"), plain.end()) if plain else ("", argument.end())
        if text.startswith(")", at):
            return found, at + 1
        at += 2 if text.startswith(", ", at) else 0
    return None


def _command(tool: str, arguments: dict[str, Any]) -> str:
    """The command that does what a call does, its arguments quoted for a POSIX shell."""
    words, tail = ["agnes-mcp", *re.sub(r"^snapshot_", "snapshot ", tool).replace("_", "-").split()], []
    for key, value in arguments.items():
        if (key in _PLACED and (tool, key) != ("fetch", "name")) or (tool, key) == ("query", "sql"):
            tail.append(str(value))
        else:
            words += _flag(key, value)
    guard = ["--"] if any(each.startswith("-") for each in tail) else []
    return " ".join([*words, *guard, *map(_quoted, tail)])


def _flag(key: str, value: Any) -> list[str]:
    if key == "aggregates" and isinstance(value, list):
        parts = [[one.get(each) for each in ("function", "column", "alias")] for one in value if isinstance(one, dict)]
        texts = [":".join(part or "" for part in each).rstrip(":") for each in parts]
        return [word for text in texts for word in ("--aggregate", _quoted(text))]
    flag = {"name": "--as", "estimate_only": "--estimate"}.get(key, f"--{key.replace('_', '-')}")
    if isinstance(value, bool):
        return [flag] if value else []
    if isinstance(value, list):
        value = ",".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in value)
    return [flag, _quoted(str(value))]


def _quoted(text: str) -> str:
    """One word of a shell, on one line."""
    if text == "…":
        return text
    if not any(mark in text for mark in "\n\r\t"):
        return shlex.quote(text)
    for mark, written in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(mark, written)
    return f"$'{text}'"


def counted(number: int, thing: str) -> str:
    """As in "1 row" and "2,000 rows"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def moment_in_words(moment: datetime | None) -> str | None:
    """As in "2026-01-31 14:05 UTC"."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
