"""`fetch`: rows of one table, kept as a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import Context, Resolve
from mcp.types import CallToolResult, ResourceLink
from pydantic import Field

from agnes_mcp.answers.models import FetchAnswer
from agnes_mcp.models import Aggregate, Consent, ScanRequest
from agnes_mcp.serving.server import Serving
from agnes_mcp.serving.strict_tools import StrictTools
from agnes_mcp.spending.consent import Quote

from ._answers import WRITES, answer, reported
from ._approval import approval
from ._arguments import Aggregates, GroupBy, Limit, OptionalTableId, OrderBy, Select, SnapshotName, Sql, Where


async def requested(
    table_id: str,
    select: list[str] | None,
    where: str,
    group_by: list[str] | None,
    aggregates: list[Aggregate] | None,
    order_by: list[str] | None,
    limit: int | None,
    sql: str,
) -> ScanRequest:
    """The tool's own arguments as one request."""
    return ScanRequest(
        table_id=table_id, select=select, where=where, group_by=group_by, aggregates=aggregates, order_by=order_by,
        limit=limit, googlesql=sql,
    )  # fmt: skip


Request = Annotated[ScanRequest, Resolve(requested)]


async def price(ctx: Context[Serving], request: Request, name: str, force: bool, estimate_only: bool) -> Quote | None:
    """What a person is asked before that fetch."""
    serving = ctx.request_context.lifespan_context
    return None if estimate_only else await serving.gateway.fetches.price_fetch(serving.principal, request, name, force)


agreed = approval("fetch", price)


async def fetch(
    ctx: Context[Serving],
    table_id: OptionalTableId = "",
    select: Select = None,
    where: Where = "",
    group_by: GroupBy = None,
    aggregates: Aggregates = None,
    order_by: OrderBy = None,
    limit: Limit = None,
    sql: Sql = "",
    name: SnapshotName = "",
    force: Annotated[
        bool, Field(description="Replace a snapshot of that name, or pay again for the same rows")
    ] = False,
    estimate_only: Annotated[bool, Field(description="Only the price; reads nothing")] = False,
    *,
    request: Request,
    consent: Annotated[Consent | None, Resolve(agreed)],
) -> Annotated[CallToolResult, FetchAnswer]:
    """Call when several questions need the same rows: reads them once into a snapshot (a Parquet file of your own), to
    be queried free with query, and shows the first of them. Remote tables are billed by bytes scanned: estimate first,
    select columns, filter. Rows of sql need a name. For one number use scan. Drop the snapshot when done."""
    serving = ctx.request_context.lifespan_context
    principal = serving.principal
    fetched = await reported(
        ctx,
        lambda report: serving.gateway.fetches.fetch(
            principal,
            request,
            name=name,
            force=force,
            estimate_only=estimate_only,
            on_progress=report,
            consent=consent,
        ),
    )
    result = answer(fetched)
    if fetched.snapshot is not None:
        path = await serving.gateway.snapshots.file_of(principal, fetched.snapshot.name)
        result.content += [_link(fetched.snapshot.name, path)] if path else []
    return result


def _link(name: str, path: Path) -> ResourceLink:
    """Over stdio the caller owns the file, and may open it with tools of its own."""
    return ResourceLink(
        type="resource_link",
        name=f"{name}.parquet",
        title=f"Snapshot {name}",
        uri=path.as_uri(),
        mime_type="application/vnd.apache.parquet",
        description="The rows as Parquet. A refresh writes another file.",
    )


def register(tools: StrictTools) -> None:
    tools.offer(fetch, title="Fetch snapshot", annotations=WRITES)
