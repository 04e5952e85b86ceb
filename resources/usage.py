"""`agnes://usage`: what was spent and what is left."""

from __future__ import annotations

from agnes_mcp.serving.server import AgnesServer

from ._contents import JSON, content


def register(server: AgnesServer) -> None:
    @server.resource(
        "agnes://usage",
        name="usage",
        title="Usage and limits",
        description="What is left of today's bytes and scan slots, the limits, when they reset, and who you are.",
        mime_type=JSON,
    )
    async def usage() -> str:
        serving = server.serving
        return content(await serving.gateway.usage.today(serving.principal))
