"""Open sessions, shared fairly: a caller may borrow what nobody else wants, and gives it back when somebody does.

While there is room anybody may open one. Once there is none, a caller who holds less than an equal share gets a place:
the session of the caller who holds most that was used longest ago ends. Who holds an equal share or more is refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agnes_mcp.serving.http.guards import refusal_response

_VERSION_HEADER = "mcp-protocol-version"


@dataclass(eq=False)
class OpenSession:
    """One session. `end` closes it for its owner; `busy` counts requests in flight, its standing stream among them."""

    principal: str
    end: Callable[[], Awaitable[None]]
    used_at: float = field(default_factory=time.monotonic)
    busy: int = 0


class Sessions:
    """How many sessions are open, and whose. `idle_s`: one that is not used for so long has ended by itself."""

    def __init__(self, most: int, idle_s: float) -> None:
        self._most = most
        self._idle_s = idle_s
        self._open: set[OpenSession] = set()

    def __len__(self) -> int:
        self._forget_idle()
        return len(self._open)

    def __contains__(self, session: OpenSession) -> bool:
        return session in self._open

    async def admit(self, session: OpenSession) -> bool:
        """Count this session; False: every place is taken and its caller holds an equal share already."""
        self._forget_idle()
        if len(self._open) >= self._most:
            victim = self._victim(session.principal)
            if victim is None:
                return False
            self._open.discard(victim)
            self._open.add(session)
            await victim.end()
        self._open.add(session)
        return True

    def discard(self, session: OpenSession) -> None:
        self._open.discard(session)

    def _victim(self, principal: str) -> OpenSession | None:
        held = Counter(session.principal for session in self._open)
        share = self._most // len({*held, principal})
        greedy, most = max(held.items(), key=lambda item: item[1])
        if held[principal] >= share or most <= held[principal] + 1 or greedy == principal:
            return None
        theirs = (session for session in self._open if session.principal == greedy)
        return min(theirs, key=lambda session: (session.busy > 0, session.used_at))

    def _forget_idle(self) -> None:
        limit = time.monotonic() - self._idle_s
        self._open = {session for session in self._open if session.busy or session.used_at > limit}


class SharedSessions:
    """In front of the streamable HTTP transport: counts the sessions that it opens, and ends those that must go."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions
        self._by_id: dict[str, OpenSession] = {}  # open ones, and for a while those that ended by themselves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        known = headers.get(MCP_SESSION_ID_HEADER)
        if known is not None:
            await self._use(known, scope, receive, send)
        elif scope["method"] == "POST" and headers.get(_VERSION_HEADER, "") in ("", *HANDSHAKE_PROTOCOL_VERSIONS):
            await self._open(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _use(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._by_id.get(session_id)
        if session is None or session.principal != principal_of(scope):
            await self._app(scope, receive, send)
            return
        session.busy += 1
        statuses: list[int] = []
        try:
            await self._app(scope, receive, _watching(send, statuses, []))
        finally:
            session.busy -= 1
            session.used_at = time.monotonic()
            if 404 in statuses or (scope["method"] == "DELETE" and statuses[:1] == [200]):
                self._forget(session_id)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened: list[str] = []
        statuses: list[int] = []

        async def end() -> None:
            for session_id in opened:
                await self._end(session_id, scope)

        session = OpenSession(principal_of(scope), end, busy=1)
        if not await self._sessions.admit(session):
            await refusal_of_sessions()(scope, receive, send)
            return
        try:
            await self._app(scope, receive, _watching(send, statuses, opened, lambda found: self._keep(found, session)))
        finally:
            session.busy -= 1
            session.used_at = time.monotonic()
            if not opened or not statuses or statuses[0] >= 400:
                self._sessions.discard(session)
                for session_id in opened:
                    self._by_id.pop(session_id, None)

    def _keep(self, session_id: str, session: OpenSession) -> None:
        self._by_id[session_id] = session
        if len(self._by_id) > 2 * len(self._sessions) + 64:  # those that ended by themselves are not announced
            self._by_id = {key: kept for key, kept in self._by_id.items() if kept in self._sessions}

    def _forget(self, session_id: str) -> None:
        session = self._by_id.pop(session_id, None)
        if session is not None:
            self._sessions.discard(session)

    async def _end(self, session_id: str, scope: Scope) -> None:
        """What its owner would send: DELETE, as the same caller to the same host."""
        self._by_id.pop(session_id, None)
        kept = [pair for pair in scope["headers"] if pair[0] in (b"host", b"origin", b"authorization")]
        headers = [*kept, (MCP_SESSION_ID_HEADER.encode(), session_id.encode())]
        ending = {**scope, "method": "DELETE", "headers": headers}

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            """Nobody waits for this answer."""

        await self._app(ending, receive, send)


class SharedRequests:
    """In front of whatever a known caller asks: each request holds its connection until it is answered, and a stream of
    events never is. Nobody may have more under way than are left for others, so that whoever comes finds some left."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._held = Counter[str]()  # by caller, of those who have any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = principal_of(scope)
        if caller and self._held[caller] >= self._most - self._held.total():
            await refusal_of_requests()(scope, receive, send)
            return
        self._held[caller] += bool(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            self._held[caller] -= bool(caller)
            self._held += Counter()  # leaves out who has none


def principal_of(scope: Scope) -> str:
    """Whose request this is; empty: nobody is known."""
    user = scope.get("user")
    return user.access_token.subject or "" if isinstance(user, AuthenticatedUser) else ""


def refusal_of_sessions() -> ASGIApp:
    return _refusal(
        "Every session is taken, and you hold your share of them.", "Close a session of yours, or try again later."
    )


def refusal_of_requests() -> ASGIApp:
    return _refusal("You have as many requests under way as there is room for.", "Wait for some of them, or end some.")


def _refusal(message: str, hint: str) -> ASGIApp:
    response = refusal_response(503, message, hint)
    response.headers["retry-after"] = "5"
    return response


def _watching(send: Send, statuses: list[int], ids: list[str], opened: Callable[[str], None] | None = None) -> Send:
    async def watch(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            session_id = Headers(raw=message.get("headers", [])).get(MCP_SESSION_ID_HEADER)
            if session_id is not None and opened is not None:
                ids.append(session_id)
                opened(session_id)
        await send(message)

    return watch
