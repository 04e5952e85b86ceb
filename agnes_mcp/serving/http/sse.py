"""The SSE transport: a stream from the server, and messages to it on a second path. Superseded, but hosts still use it.

Sessions are counted here, because the SDK does not; an open stream is never idle, it is pinged.
"""

from __future__ import annotations

import anyio
from mcp.server.sse import SseServerTransport
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import Receive, Scope, Send

from agnes_mcp.serving.http.sessions import OpenSession, Sessions, principal_of, refusal_of_sessions
from agnes_mcp.serving.server import AgnesServer

MESSAGES_PATH = "/messages/"


class SseEndpoint:
    def __init__(
        self, server: AgnesServer, security: TransportSecuritySettings, max_body_bytes: int, sessions: Sessions
    ) -> None:
        self._server = server
        self._transport = SseServerTransport(
            MESSAGES_PATH, security_settings=security, max_request_body_size=max_body_bytes
        )
        self._sessions = sessions

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One session, for as long as its stream is open."""
        with anyio.CancelScope() as open_for:

            async def end() -> None:
                open_for.cancel()

            session = OpenSession(principal_of(scope), end, busy=1)
            if not await self._sessions.admit(session):
                await refusal_of_sessions()(scope, receive, send)
                return
            try:
                async with self._transport.connect_sse(scope, receive, send) as (incoming, outgoing):
                    await self._server.serve_streams(incoming, outgoing)
            finally:
                self._sessions.discard(session)

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._transport.handle_post_message(scope, receive, send)
