"""`schema`: the columns of a table."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult

from agnes_mcp.answers.models import SchemaAnswer
from agnes_mcp.serving.server import Serving
from agnes_mcp.serving.strict_tools import StrictTools

from ._answers import FREE, answer
from ._arguments import TableId


async def schema(ctx: Context[Serving], table_id: TableId) -> Annotated[CallToolResult, SchemaAnswer]:
    """Call before writing select or where, for a table's columns and types. Free. Also tells the partition column
    (filter on it to lower the price), clustering, primary key, rows, bytes, and how this dialect writes literals."""
    serving = ctx.request_context.lifespan_context
    return answer(await serving.gateway.catalog.columns(serving.principal, table_id))


def register(tools: StrictTools) -> None:
    tools.offer(schema, title="Table schema", annotations=FREE, large=True)
