"""`agnes://manifest`: hashes of the local tables, for whoever mirrors them."""

from __future__ import annotations

from agnes_mcp.answers.fitting import compact
from agnes_mcp.serving.server import AgnesServer

from ._contents import JSON


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
        manifest = await serving.gateway.manifests.manifest(serving.principal)
        return compact(manifest.model_dump(mode="json"))  # every key, as over HTTP: programs read it
