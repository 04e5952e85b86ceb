"""`agnes://guide`: the rails, in words."""

from __future__ import annotations

from importlib.resources import files

from agnes_mcp.serving.server import AgnesServer

from ._contents import MARKDOWN


def register(server: AgnesServer) -> None:
    @server.resource(
        "agnes://guide",
        name="guide",
        title="How to work with these tables",
        description="The order of work, the rules that keep bills small, and what to do when a call is refused.",
        mime_type=MARKDOWN,
    )
    async def guide() -> str:
        return files(__package__).joinpath("guide.md").read_text(encoding="utf-8")
