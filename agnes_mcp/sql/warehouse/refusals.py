"""How a statement is refused: a stable kind, where it stands in the text, and the next step."""

from __future__ import annotations

from typing import Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.predicate.refusals import near, printable

__all__ = ["near", "printable", "refuse"]


def refuse(
    kind: str, message: str, hint: str, text: str = "", start: int = 0, end: int | None = None, **details: Any
) -> AgnesError:
    """A refusal of `text[start:end]`. `fragment` is at most 80 printable characters of it, `position` is 0-based."""
    fragment = printable(text[start : len(text) if end is None else end])
    return AgnesError(kind, message, hint, {"fragment": fragment, "position": start, **details})
