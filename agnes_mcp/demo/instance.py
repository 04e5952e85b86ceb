"""The instance that is served when none is configured."""

from __future__ import annotations

from agnes_mcp.config.settings import Settings
from agnes_mcp.demo.bigquery import demo_makers
from agnes_mcp.demo.tables import demo_settings, demo_spec
from agnes_mcp.gateway import Gateway


def open_demo(settings: Settings) -> Gateway:
    """Generate the demo's tables where they are missing, and serve them."""
    demo = demo_settings(settings)
    return Gateway(demo, demo_makers(demo_spec(demo)))
