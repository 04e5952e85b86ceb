"""Tables and cells in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its last column is left out where nothing is in it."""
    rows = list(rows)
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    lines = [heads, ["---"] * len(heads), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def literal(value: Any) -> str:
    """A value as it is written in JSON."""
    return code(json.dumps(value, ensure_ascii=False))


def words(names: Iterable[str]) -> str:
    return ", ".join(code(name) for name in names)
