"""A call that works, as a hint names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agnes_mcp.models import Dialect


@dataclass(frozen=True)
class WorkingCall:
    """A call, as it is made and as it is written."""

    tool: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        spelled = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.arguments.items())
        return f"{self.tool}({', '.join(spelled)})"


def by_sql(text: str, dialect: Dialect, tool: str, name: str) -> WorkingCall:
    """The call that runs a text: over files it is `query`, whatever was called; rows that are kept need a name."""
    if dialect == "duckdb":
        return WorkingCall("query", {"sql": text})
    return WorkingCall(tool, {"sql": text} | ({"name": name} if tool == "fetch" else {}))
