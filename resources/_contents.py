"""What several resources share."""

from __future__ import annotations

from pydantic import BaseModel

from agnes_mcp.untrusted import tidy

JSON = "application/json"
MARKDOWN = "text/markdown"


def content(model: BaseModel) -> str:
    from agnes_mcp.answers.fitting import compact, shown

    return compact(tidy(shown(model)))
