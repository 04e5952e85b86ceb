"""The operator's page at `/`: HTML without scripts, behind a token in a form and a cookie that no script reads."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from agnes_mcp.access.grants import os_user
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal
from agnes_mcp.serving.http.identity import MAX_TOKEN_CHARS, Callers

COOKIE = "agnes_operator"
SIGNED_IN_FOR_S = 8 * 3600
MAX_SIGNED_IN = 1_000
#: Forms hold a token or an id.
MAX_FORM_BYTES = MAX_TOKEN_CHARS + 1_024
#: The page styles itself, sends forms home, and is in nobody's frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class SignedIn:
    """Somebody who gave a token: its digest is held against the users of now with every request."""

    name: str
    token_sha256: str
    until: float
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class OperatorPage:
    """`secure`: the cookie is for TLS alone. `parts` tells which parts work, by name."""

    def __init__(
        self, gateway: Gateway, callers: Callers, parts: Callable[[], dict[str, bool]], *, secure: bool
    ) -> None:
        self._gateway = gateway
        self._callers = callers
        self._parts = parts
        self._secure = secure
        # `MAX_SIGNED_IN`, oldest out; whether the token still is one is asked every time.
        self._signed_in: OrderedDict[str, SignedIn] = OrderedDict()
        self._local = SignedIn("", "", float("inf"))  # of the OS user, where nobody signs in

    def routes(self) -> list[Route]:
        return [
            Route("/", self._show, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/cancel", self._cancel, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        found = await self._who(request)
        if found is None:
            return _sign_in_page()
        from agnes_mcp.serving.http.operator_html import overview_page

        principal, signed_in = found
        overview = await self._gateway.overviews.seen_by(principal)
        works = self._parts()
        return _html(overview_page(principal, overview, works, signed_in.form_token, signs_out=signed_in.name != ""))

    async def _sign_in(self, request: Request) -> Response:
        form = await _form(request)
        digest = await self._callers.digest_of(form.get("token", ""))
        if digest is None:
            return _sign_in_page("This token is not one of this instance.", status=401)
        name, token_sha256 = digest
        session = secrets.token_urlsafe(32)
        self._signed_in[session] = SignedIn(name, token_sha256, time.monotonic() + SIGNED_IN_FOR_S)
        while len(self._signed_in) > MAX_SIGNED_IN:
            self._signed_in.popitem(last=False)
        response = RedirectResponse("/", status_code=303, headers=HEADERS)
        response.set_cookie(
            COOKIE, session, max_age=SIGNED_IN_FOR_S, httponly=True, samesite="strict", secure=self._secure, path="/"
        )
        return response

    async def _sign_out(self, request: Request) -> Response:
        form, found = await _form(request), await self._who(request)
        if found is None or not _same(form.get("form_token", ""), found[1].form_token):
            return _sign_in_page("Sign in first.", status=403)
        self._signed_in.pop(request.cookies.get(COOKIE, ""), None)
        response = RedirectResponse("/", status_code=303, headers=HEADERS)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=self._secure)
        return response

    async def _cancel(self, request: Request) -> Response:
        """Ends a call of one's own. Raises nothing for one that has just ended."""
        form, found = await _form(request), await self._who(request)
        if found is None or not _same(form.get("form_token", ""), found[1].form_token):
            return _sign_in_page("Sign in first.", status=403)
        self._gateway.overviews.cancel(found[0], form.get("request_id", "")[:64])
        return RedirectResponse("/", status_code=303, headers=HEADERS)

    async def _who(self, request: Request) -> tuple[Principal, SignedIn] | None:
        """The caller: signed in with a token that is still one, or the OS user where nobody has to."""
        session = request.cookies.get(COOKIE, "")
        signed_in = self._signed_in.get(session)
        if signed_in is not None:
            if time.monotonic() < signed_in.until and await self._callers.still_holds(
                signed_in.name, signed_in.token_sha256
            ):
                return Principal(signed_in.name), signed_in
            self._signed_in.pop(session, None)
        return (os_user(), self._local) if self._callers.anonymous else None


def _sign_in_page(said: str = "", status: int = 200) -> HTMLResponse:
    from agnes_mcp.serving.http.operator_html import sign_in_page  # loaded by whoever looks: few do

    return _html(sign_in_page(said), status)


def _html(page: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(page, status_code=status, headers=HEADERS)


def _same(presented: str, held: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "replace"), held.encode())


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; nothing of anything else."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    try:
        body = await request.body()
    except ClientDisconnect:  # nobody is left to answer
        return {}
    if len(body) > MAX_FORM_BYTES:
        return {}
    parsed = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    return {name: values[0] for name, values in parsed.items()}
