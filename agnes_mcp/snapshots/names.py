"""What a snapshot may be called, and where a principal's snapshots are kept.

A name becomes a view in DuckDB and a file on disk, so one pattern serves both: lower-case ASCII, no separator, no dot,
never a device name of Windows. It is always matched whole, so a trailing newline is refused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection

from agnes_mcp.errors import AgnesError

NAME_PATTERN = r"[a-z_][a-z0-9_]{0,63}"
MAX_NAME_LENGTH = 64

#: Automatic snapshots of scans whose answer did not fit start with this, and are kept for `SCAN_KEPT_HOURS`.
SCAN_PREFIX = "scan_"
SCAN_KEPT_HOURS = 24

_NAME = re.compile(NAME_PATTERN)
# Reserved by Windows with any extension: "Naming Files, Paths, and Namespaces", Microsoft Learn.
_DEVICES = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and _DEVICES.fullmatch(text) is None


def check_name(name: str, taken: Collection[str] = ()) -> str:
    """The name itself, or `invalid_argument`: not a name, or one of `taken` (the ids of the tables the caller sees)."""
    if not is_name(name):
        raise AgnesError(
            "invalid_argument",
            f"{name[:80]!r} is not a name for a snapshot.",
            "Use lower-case letters, digits and underscores, at most 64, not starting with a digit: web_sessions_de.",
            {"argument": "name", "pattern": NAME_PATTERN},
        )
    if name in taken:
        raise AgnesError(
            "invalid_argument",
            f"{name!r} is the id of a table, so a snapshot cannot have it.",
            f"Name what the snapshot holds, for example {_shorten(name, '_part')!r}.",
            {"argument": "name"},
        )
    return name


def default_name(table_id: str, taken: Collection[str] = (), existing: Collection[str] = ()) -> str:
    """`snap_<table_id>`, or with `_2`, `_3` … behind it: the first that is neither in `taken` nor in `existing`."""
    stem = "snap_" + _folded(table_id)
    name, number = _shorten(stem, ""), 1
    while name in taken or name in existing:
        number += 1
        name = _shorten(stem, f"_{number}")
    return name


def scan_name(table_id: str) -> str:
    """A fresh name for what a scan read beyond its answer: `scan_<table_id>_<8 random hex digits>`."""
    return _shorten(SCAN_PREFIX + _folded(table_id), "_" + secrets.token_hex(4))


def folder_name(principal: str) -> str:
    """The folder of a principal: 128 bits of SHA-256 of the name, which itself may hold anything."""
    return "u" + hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _folded(table_id: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "_", table_id.lower())


def _shorten(stem: str, suffix: str) -> str:
    """`stem` + `suffix` in 64 characters; a stem that is cut keeps 8 digits of its hash, so two never meet."""
    room = MAX_NAME_LENGTH - len(suffix)
    if len(stem) > room:
        stem = f"{stem[: room - 9]}_{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return stem + suffix
