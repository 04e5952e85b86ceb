"""`agnes://charts/{id}`: the specification of a chart that was drawn, for whoever wants to draw it again."""

from __future__ import annotations

from agnes_mcp.charts import CHART_URI
from agnes_mcp.serving.server import AgnesServer

SPEC = "application/vnd.vegalite.v6+json"


def register(server: AgnesServer) -> None:
    @server.resource(
        CHART_URI,
        name="chart",
        title="Chart",
        description="The Vega-Lite specification of a chart you drew, its values inside; it goes with its snapshot.",
        mime_type=SPEC,
    )
    async def chart(id: str) -> str:  # noqa: A002 - as the template says
        serving = server.serving
        return await serving.gateway.charts.spec(serving.principal, id)
