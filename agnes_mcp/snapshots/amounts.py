"""Ages and sizes as people write them: `7d`, `12h`, `30m`; `500m`, `1g`."""

from __future__ import annotations

import re
from datetime import timedelta

from agnes_mcp.errors import AgnesError

_AGE = re.compile(r"([0-9]{1,9})([dhm])")
_SIZE = re.compile(r"([0-9]{1,12})([kmgt])", re.ASCII | re.IGNORECASE)
_AGE_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_SIZE_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_age(text: str, argument: str = "older_than") -> timedelta:
    """`<n>d`, `<n>h` or `<n>m` (minutes), n ≥ 1. Anything else is `invalid_argument`, zero too: it would mean all."""
    match = _AGE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise _not_an_amount(text, argument, "an age", "Write 7d, 12h or 30m (minutes), at least 1.")
    return int(match[1]) * _AGE_UNITS[match[2]]


def parse_size(text: str, argument: str = "larger_than") -> int:
    """Bytes of `<n>k`, `m`, `g` or `t` (powers of 1024), n ≥ 1. Anything else, and zero, is `invalid_argument`."""
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise _not_an_amount(text, argument, "a size", "Write 500m, 1g or 2t (powers of 1024), at least 1.")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def format_bytes(count: int) -> str:
    """`512 B`, `1.5 KB` …, in powers of 1024."""
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"


def _not_an_amount(text: str, argument: str, what: str, hint: str) -> AgnesError:
    return AgnesError("invalid_argument", f"{text[:40]!r} is not {what}.", hint, {"argument": argument})
