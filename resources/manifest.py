"""`agnes://manifest`: hashes of the local tables, for whoever mirrors them."""

from __future__ import annotations

from agnes_mcp.serving.server import AgnesServer

from ._contents import JSON, content


def register(server: AgnesServer) -> None:
    @server.resource(
        "agnes://manifest",
        name="manifest",
        title="Manifest",
        description="For each table you may read: hash, time and size of its file, rows, query_mode. For mirrors.",
        mime_type=JSON,
    )
    async def manifest() -> str:
        serving = server.serving
        return content(await serving.gateway.manifests.manifest(serving.principal))
