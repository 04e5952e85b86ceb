"""Answers as a client receives them: the same facts as structured content and as one block of compact text."""

from __future__ import annotations

from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel

from agnes_mcp.answers.fitting import compact
from agnes_mcp.untrusted import tidy

#: Reads what it is allowed to see and changes nothing.
FREE = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
#: Reads, but may bill: repeating it bills again.
BILLED = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
#: Writes a file of the caller's own, and may bill.
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
#: Removes files of the caller's own; doing it again changes nothing more.
DROPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


def answer(model: BaseModel) -> CallToolResult:
    """The model, structured and as text. Whatever it repeats of others is without hidden characters; those of cells
    have been shown as numbers before they were measured."""
    body = model.model_dump(mode="json")
    text = compact(body)
    if not text.isascii():
        text = compact(body := tidy(body))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=body)
