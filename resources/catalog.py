"""`agnes://catalog`: which tables there are."""

from __future__ import annotations

from agnes_mcp.serving.server import AgnesServer

from ._contents import JSON, content


def register(server: AgnesServer) -> None:
    @server.resource(
        "agnes://catalog",
        name="catalog",
        title="Tables",
        description="The tables you may read, as the catalog tool lists them: id, where it lives, size, partitioning.",
        mime_type=JSON,
    )
    async def catalog() -> str:
        serving = server.serving
        return content(await serving.gateway.catalog.browse(serving.principal, limit=500))
