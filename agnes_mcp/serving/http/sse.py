"""The SSE transport: a stream from the server, and messages to it on a second path. Superseded, but hosts still use it.

Sessions are counted here, because the SDK does not; an open stream is never idle, it is pinged.
"""

from __future__ import annotations

from mcp.server.sse import SseServerTransport
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import Receive, Scope, Send

from agnes_mcp.serving.http.guards import refusal_response
from agnes_mcp.serving.server import AgnesServer

MESSAGES_PATH = "/messages/"


class SseEndpoint:
    def __init__(
        self, server: AgnesServer, security: TransportSecuritySettings, max_body_bytes: int, max_sessions: int
    ) -> None:
        self._server = server
        self._transport = SseServerTransport(
            MESSAGES_PATH, security_settings=security, max_request_body_size=max_body_bytes
        )
        self._max_sessions = max_sessions
        self.sessions = 0

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One session, for as long as its stream is open."""
        if self.sessions >= self._max_sessions:
            await refusal_response(503, "Too many sessions are open.", "Close one, or try again later.")(
                scope, receive, send
            )
            return
        self.sessions += 1
        try:
            async with self._transport.connect_sse(scope, receive, send) as (incoming, outgoing):
                await self._server.serve_streams(incoming, outgoing)
        finally:
            self.sessions -= 1

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._transport.handle_post_message(scope, receive, send)
