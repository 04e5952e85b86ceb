"""What several resources share."""

from __future__ import annotations

from pydantic import BaseModel

from agnes_mcp.answers.fitting import as_sent

JSON = "application/json"
MARKDOWN = "text/markdown"


def content(model: BaseModel) -> str:
    return as_sent(model)[1]
