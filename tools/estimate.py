"""`estimate`: the price of a scan."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult

from agnes_mcp.answers.models import EstimateAnswer
from agnes_mcp.answers.rows import DEFAULT_ROWS
from agnes_mcp.models import ScanRequest
from agnes_mcp.serving.server import Serving
from agnes_mcp.serving.strict_tools import StrictTools

from ._answers import FREE, answer
from ._arguments import Aggregates, AnswerLimit, GroupBy, OptionalTableId, OrderBy, Select, Sql, Where


async def estimate(
    ctx: Context[Serving],
    table_id: OptionalTableId = "",
    select: Select = None,
    where: Where = "",
    group_by: GroupBy = None,
    aggregates: Aggregates = None,
    order_by: OrderBy = None,
    limit: AnswerLimit = None,
    sql: Sql = "",
) -> Annotated[CallToolResult, EstimateAnswer]:
    """Call before scan or fetch on a remote table, with the same arguments: bytes, USD, a verdict (ok, needs_approval,
    over_scan_cap, over_daily_quota) and advice to make it cheaper. Free; runs nothing. Local tables cost nothing."""
    serving = ctx.request_context.lifespan_context
    request = ScanRequest(
        table_id=table_id, select=select, where=where, group_by=group_by, aggregates=aggregates, order_by=order_by,
        limit=DEFAULT_ROWS if limit is None else limit, googlesql=sql,
    )  # fmt: skip
    return answer(await serving.gateway.scans.estimate(serving.principal, request))


def register(tools: StrictTools) -> None:
    tools.offer(estimate, title="Estimate price", annotations=FREE, viewed=True)
