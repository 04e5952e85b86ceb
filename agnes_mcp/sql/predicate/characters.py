"""Step 1: which characters a predicate may hold, and how many."""

from __future__ import annotations

from agnes_mcp.sql.predicate.limits import MAX_CHARS
from agnes_mcp.sql.predicate.refusals import refuse
from agnes_mcp.untrusted import find_hidden

_LAYOUT = "\t\r\n"


def check_characters(text: object) -> str:
    """`text` itself, if it is a string of printable characters and layout. Raises `parse_error`, `too_complex`."""
    if not isinstance(text, str):
        raise refuse(
            "parse_error", f"A predicate is text, not {type(text).__name__}.", "Send the WHERE condition as a string."
        )
    if len(text) > MAX_CHARS:
        raise refuse(
            "too_complex",
            f"The predicate has {len(text):,} characters; at most {MAX_CHARS:,} are read.",
            "Narrow it: use BETWEEN instead of a long IN list, or several smaller calls.",
            text,
            characters=len(text),
        )
    if not text.strip(" " + _LAYOUT):
        raise refuse("parse_error", "The predicate is empty.", "Leave `where` out to read without a condition.", text)
    position = find_hidden(text)
    if position >= 0:
        raise refuse(
            "parse_error",
            f"U+{ord(text[position]):04X} at {position} is not a printable character.",
            "Remove control characters and invisible ones, in strings too.",
            text,
            position,
            position + 1,
        )
    return text
