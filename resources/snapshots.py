"""`agnes://snapshots/{name}`: one of the caller's snapshots, its metadata."""

from __future__ import annotations

from agnes_mcp.serving.announcements import SNAPSHOT_URI
from agnes_mcp.serving.server import AgnesServer

from ._contents import JSON, content


def register(server: AgnesServer) -> None:
    @server.resource(
        SNAPSHOT_URI,
        name="snapshot",
        title="Snapshot",
        description="What one of your snapshots holds: table, predicate, columns, rows, size, age. Query it for rows.",
        mime_type=JSON,
    )
    async def snapshot(name: str) -> str:
        serving = server.serving
        return content(await serving.gateway.snapshots.entry(serving.principal, name))
