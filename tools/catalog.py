"""`catalog`: which tables there are."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult
from pydantic import Field

from agnes_mcp.answers.models import CatalogAnswer
from agnes_mcp.models import SourceType
from agnes_mcp.serving.server import Serving
from agnes_mcp.serving.strict_tools import StrictTools

from ._answers import FREE, answer
from ._arguments import Text


async def catalog(
    ctx: Context[Serving],
    search: Annotated[Text, Field(description="Words to find in ids, names, columns and descriptions")] = "",
    source_type: Annotated[SourceType | None, Field(description="Only tables of this kind")] = None,
    limit: Annotated[int, Field(ge=1, le=500, description="Most tables on a page")] = 50,
    cursor: Annotated[Text, Field(description="next_cursor of the page before")] = "",
    refresh: Annotated[bool, Field(description="Read the tables' metadata again")] = False,
) -> Annotated[CallToolResult, CatalogAnswer]:
    """Call first, to find which tables exist and how each is read. Free. Search matches ids, names, descriptions and
    column names; while metadata_known is below metadata_total, or the note names what is missing, it may miss tables:
    call again. Once that is over, a table that is not listed cannot be read: say so, do not guess another name."""
    serving = ctx.request_context.lifespan_context
    return answer(
        await serving.gateway.catalog.browse(
            serving.principal, search=search, source_type=source_type, limit=limit, cursor=cursor, refresh=refresh
        )
    )


def register(tools: StrictTools) -> None:
    tools.offer(catalog, title="List tables", annotations=FREE, large=True)
