"""What is said to a person at the keyboard: errors that were worded for a tool's caller, moments, numbers of things."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_COMMANDS = "catalog|schema|describe|sample|estimate|scan|fetch|query|usage"
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
)


def for_shell(text: str) -> str:
    """An error's words with commands and flags in place of tools and their arguments."""
    for pattern, instead in _SPOKEN:
        text = pattern.sub(instead, text)
    return text


def counted(number: int, thing: str) -> str:
    """As in "1 row" and "2,000 rows"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def moment_in_words(moment: datetime | None) -> str | None:
    """As in "2026-01-31 14:05 UTC"."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
