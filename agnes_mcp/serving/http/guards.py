"""What a request must satisfy before anything reads it: the right path, Host and Origin; a body in bounds.

A browser is a deputy that anybody's page can send here: the Host check stops DNS rebinding, the Origin check stops
cross-site requests. Both hold for every endpoint and however the server is bound; the two probes answer to any Host,
because orchestrators ask by address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import anyio
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agnes_mcp.config.settings import ServerSettings, is_loopback

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
#: What one message may hold: as many names as a call may select, and all else that a client sends with it. Reading a
#: message takes time for each of its values, several times over, on the event loop.
MAX_VALUES = 5_000
PROBES = frozenset({"/healthz", "/readyz"})
#: Endpoints by the path that a client may spell with a trailing slash, or, for the mount of SSE's messages, without.
_SPELLINGS = {
    **{f"{path}/": path for path in ("/mcp", "/sse", "/healthz", "/readyz", "/metrics")},
    "/messages": "/messages/",
}


def transport_security(server: ServerSettings, bound_to: str) -> TransportSecuritySettings:
    """The Hosts and Origins that are answered, in the SDK's notation (`name:*` is any port)."""
    hosts = [*_any_port(LOOPBACK_NAMES), *server.allowed_hosts]
    origins = list(server.allowed_origins)
    if is_loopback(bound_to):
        origins += _any_port(f"http://{name}" for name in LOOPBACK_NAMES)
    if server.public_url:
        parts = urlsplit(server.public_url)
        hosts.append(parts.netloc)
        origins.append(f"{parts.scheme}://{parts.netloc}")
    return TransportSecuritySettings(
        allowed_hosts=[host.lower() for host in hosts], allowed_origins=[origin.lower() for origin in origins]
    )


def _folded(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Names of hosts have no case; whoever looks at them after us compares letter by letter."""
    return (name, value.lower()) if name in (b"host", b"origin") else (name, value)


def _any_port(names: Iterable[str]) -> list[str]:
    return [spelled for name in names for spelled in (name, f"{name}:*")]


def is_allowed(value: str, allowed: Iterable[str]) -> bool:
    """Whether a Host or Origin is one of these, without regard to case; `name:*` allows digits after the colon."""
    folded = value.casefold()
    name, _, port = folded.rpartition(":")
    wildcard = f"{name}:*" if port.isascii() and port.isdigit() else None
    return any(entry.casefold() in (folded, wildcard) for entry in allowed)


class RequestGuard:
    """Spells the path as the routes do, and refuses a foreign Host (421) or Origin (403)."""

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings) -> None:
        self._app = app
        self._security = security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = _SPELLINGS.get(scope["path"])
        if path is not None:
            scope = {**scope, "path": path, "raw_path": path.encode("ascii")}
        scope = {**scope, "headers": [_folded(name, value) for name, value in scope["headers"]]}
        refusal = self._refuse(Headers(scope=scope), scope["path"])
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, headers: Headers, path: str) -> JSONResponse | None:
        host, origins = headers.get("host", ""), headers.getlist("origin")
        if path not in PROBES and not is_allowed(host, self._security.allowed_hosts):
            return refusal_response(421, "This server does not answer to that Host.", "server.allowed_hosts lists it.")
        if any(not is_allowed(origin, self._security.allowed_origins) for origin in origins):
            return refusal_response(403, "Pages of that Origin may not call.", "server.allowed_origins lists them.")
        return None


def browser_access(security: TransportSecuritySettings) -> dict[str, Any]:
    """Starlette's CORS for pages of the allowed origins: what they may send, and what they may read of an answer."""
    exact = [origin for origin in security.allowed_origins if not origin.endswith(":*")]
    any_port = [
        re.escape(origin.removesuffix(":*")) + r":\d+" for origin in security.allowed_origins if origin.endswith(":*")
    ]
    return {
        "allow_origins": exact,
        "allow_origin_regex": "|".join(any_port) or None,
        "allow_methods": ["GET", "POST", "DELETE"],
        "allow_headers": ["*"],  # the protocol's own are many, and its newer versions name parameters in them
        "expose_headers": ["Mcp-Session-Id", "Mcp-Protocol-Version", "WWW-Authenticate", "Retry-After"],
        "max_age": 600,
    }


class BoundedBody:
    """Reads a request's body whole, up to a size (413) and within a time (408), before the app sees the request; one
    that holds more than `MAX_VALUES` values is refused unread (413)."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        if _declared_length(scope) > self._max_bytes:
            await self._too_large()(scope, receive, send)
            return
        body: bytes | None = None
        with anyio.move_on_after(self._timeout_s) as deadline:
            body = await self._read(receive)
        if deadline.cancelled_caught:
            await _closing(refusal_response(408, "The request's body did not arrive in time.", "Send it again."))(
                scope, receive, send
            )
        elif body is None:
            await self._too_large()(scope, receive, send)
        elif holds_more_values(body, MAX_VALUES):
            await refusal_response(413, f"The body holds more than {MAX_VALUES:,} values.", "Name fewer columns.")(
                scope, receive, send
            )
        else:
            whole: Message = {"type": "http.request", "body": body, "more_body": False}
            await self._app(scope, replaying(whole, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body; None where it is too large. A client that went away ends it early."""
        parts, size = [], 0
        while True:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_bytes:
                return None
            parts.append(part)
            if message["type"] != "http.request" or not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> JSONResponse:
        hint = "Send less: server.max_body_bytes is the limit."
        return _closing(refusal_response(413, f"The body is larger than {self._max_bytes:,} bytes.", hint))


def holds_more_values(body: bytes, most: int) -> bool:
    """Whether JSON has more lists, objects and elements in it than that, without reading it."""
    if _separators(body) <= most:
        return False
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 4 * most:  # a key and a text for each
        return True
    return _separators(b"".join(unescaped.split(b'"')[::2])) > most


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def refusal_response(status: int, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": message, "hint": hint}, status_code=status)


def _closing(response: JSONResponse) -> JSONResponse:
    """What is left of the body is not read, so the connection cannot be used again."""
    response.headers["connection"] = "close"
    return response


def _declared_length(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdigit() else 0


def replaying(first: Message, receive: Receive) -> Receive:
    """A `receive` that gives that message once and then whatever comes, which is the client's going away."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return first

    return replay
