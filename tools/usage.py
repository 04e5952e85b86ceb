"""`usage`: what was spent and what is left."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult

from agnes_mcp.answers.models import UsageAnswer
from agnes_mcp.serving.server import Serving
from agnes_mcp.serving.strict_tools import StrictTools

from ._answers import FREE, answer


async def usage(ctx: Context[Serving]) -> Annotated[CallToolResult, UsageAnswer]:
    """Call to learn what is left of today's bytes and scan slots, the limits, when they reset, who you are, and how
    BigQuery is doing. Free."""
    serving = ctx.request_context.lifespan_context
    return answer(await serving.gateway.usage.today(serving.principal))


def register(tools: StrictTools) -> None:
    tools.offer(usage, title="Usage and limits", annotations=FREE)
