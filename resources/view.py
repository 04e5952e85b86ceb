"""`ui://agnes/view`: rows and charts as an interactive view, for hosts that have MCP Apps. It loads nothing."""

from __future__ import annotations

from importlib.resources import files

from mcp.server.apps import APP_MIME_TYPE

from agnes_mcp.serving.server import AgnesServer
from agnes_mcp.serving.strict_tools import VIEW_URI

_NOWHERE: dict[str, list[str]] = {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []}


def register(server: AgnesServer) -> None:
    @server.resource(
        VIEW_URI,
        name="view",
        title="Agnes view",
        description="Rows as a table and a chart, with what they cost. Shown by hosts that have MCP Apps.",
        mime_type=APP_MIME_TYPE,
        meta={"ui": {"csp": _NOWHERE, "prefersBorder": True}},
    )
    async def view() -> str:
        serving = server.serving
        script = await serving.gateway.charts.script(serving.principal)
        page = files(__package__).joinpath("view.html").read_text(encoding="utf-8")
        return page.replace("/*VEGA*/", script, 1)
