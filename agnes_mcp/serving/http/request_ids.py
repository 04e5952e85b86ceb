"""One JSON-RPC id, one call in flight: the transport keys a session's answers by id, and would lose the first one's.

A second request with an id whose first request is still being answered is refused at once, so that both get an answer.
"""

from __future__ import annotations

import pydantic_core
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agnes_mcp.serving.http.guards import replaying

#: JSON-RPC's code of a request that is not valid.
_INVALID_REQUEST = -32600


class DistinctIds:
    """Stands where a request's body is whole already: in one message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_flight: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = Headers(scope=scope).get(MCP_SESSION_ID_HEADER)
        if scope["method"] != "POST" or session is None:
            await self._app(scope, receive, send)
            return
        first = await receive()
        request_id = _id_of(first.get("body", b""))
        if request_id is None:
            await self._app(scope, replaying(first, receive), send)
            return
        key = (session, str(request_id))  # the transport takes 1 and "1" for the same
        if key in self._in_flight:
            await _refusal(request_id)(scope, receive, send)
            return
        self._in_flight.add(key)
        try:
            await self._app(scope, replaying(first, receive), send)
        finally:
            self._in_flight.discard(key)


def _id_of(body: bytes) -> str | int | float | None:
    """The id of a request; None: a notification, a response, or nothing that can be read, which others refuse."""
    try:
        message = pydantic_core.from_json(body)  # as the transport does
    except ValueError:
        return None
    if not isinstance(message, dict) or "method" not in message:
        return None
    found = message.get("id")
    return found if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def _refusal(request_id: str | float) -> JSONResponse:
    error = {"code": _INVALID_REQUEST, "message": "A request with this id is still being answered; use another id."}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status_code=400)
