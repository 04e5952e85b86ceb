"""`snapshot_list`, `snapshot_refresh`, `snapshot_drop`, `snapshot_prune`, `disk_info`: after what was fetched."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context, Resolve
from mcp.types import CallToolResult
from pydantic import Field

from agnes_mcp.answers.models import SnapshotDropAnswer, SnapshotListAnswer, SnapshotRefreshAnswer
from agnes_mcp.models import Consent
from agnes_mcp.serving.server import Serving
from agnes_mcp.serving.strict_tools import StrictTools
from agnes_mcp.snapshots.models import DiskUsage, SnapshotPrune
from agnes_mcp.spending.consent import Quote

from ._answers import DROPS, FREE, WRITES, answer, reported
from ._approval import approval
from ._arguments import RequiredSnapshotName, Text, Where


async def snapshot_list(ctx: Context[Serving]) -> Annotated[CallToolResult, SnapshotListAnswer]:
    """Call before fetch, to see which snapshots you have: table, predicate, rows, size, age. Free. A damaged or stale
    one says so."""
    serving = ctx.request_context.lifespan_context
    return answer(await serving.gateway.snapshots.entries(serving.principal))


async def price(ctx: Context[Serving], name: str, where: str) -> Quote | None:
    """What a person is asked before that refresh."""
    serving = ctx.request_context.lifespan_context
    return await serving.gateway.fetches.price_refresh(serving.principal, name, where)


agreed = approval("snapshot_refresh", price)


async def snapshot_refresh(
    ctx: Context[Serving],
    name: RequiredSnapshotName,
    where: Where = "",
    *,
    consent: Annotated[Consent | None, Resolve(agreed)],
) -> Annotated[CallToolResult, SnapshotRefreshAnswer]:
    """Call to run a snapshot's request again for newer rows; billed like the fetch that made it. Dates relative to
    today are evaluated anew; a where given here replaces the stored one. Tells rows, bytes and time before and after,
    and whether the rows are identical."""
    serving = ctx.request_context.lifespan_context
    fetches, principal = serving.gateway.fetches, serving.principal
    return answer(await reported(ctx, lambda report: fetches.refresh(principal, name, where, report, consent)))


async def snapshot_drop(
    ctx: Context[Serving], name: RequiredSnapshotName
) -> Annotated[CallToolResult, SnapshotDropAnswer]:
    """Call when a snapshot is no longer needed: removes it and its file. The table it came from is not touched."""
    serving = ctx.request_context.lifespan_context
    return answer(await serving.gateway.snapshots.remove(serving.principal, name))


async def snapshot_prune(
    ctx: Context[Serving],
    older_than: Annotated[Text, Field(description="Age: 7d, 12h, 30m", examples=["7d"])] = "",
    larger_than: Annotated[Text, Field(description="Size: 1g, 500m", examples=["1g"])] = "",
    expired: Annotated[bool, Field(description="Those past their expiry")] = False,
    dry_run: Annotated[bool, Field(description="Tell which would go; remove nothing")] = False,
) -> Annotated[CallToolResult, SnapshotPrune]:
    """Call to remove several snapshots at once, by age, size or expiry; filters are combined with AND, and at least one
    is needed. Try dry_run first."""
    serving = ctx.request_context.lifespan_context
    return answer(
        await serving.gateway.snapshots.clear_out(
            serving.principal,
            older_than=older_than or None,
            larger_than=larger_than or None,
            expired=expired,
            dry_run=dry_run,
        )
    )


async def disk_info(ctx: Context[Serving]) -> Annotated[CallToolResult, DiskUsage]:
    """Call to see how much disk your snapshots take, how much is free, and how much is meant for them. Free."""
    serving = ctx.request_context.lifespan_context
    return answer(await serving.gateway.snapshots.disk_space(serving.principal))


def register(tools: StrictTools) -> None:
    tools.offer(snapshot_list, title="List snapshots", annotations=FREE, large=True)
    tools.offer(snapshot_refresh, title="Refresh snapshot", annotations=WRITES)
    tools.offer(snapshot_drop, title="Drop snapshot", annotations=DROPS)
    tools.offer(snapshot_prune, title="Prune snapshots", annotations=DROPS)
    tools.offer(disk_info, title="Disk usage", annotations=FREE)
