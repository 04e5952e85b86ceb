"""Who sends a request: a user by bearer token or JWT, or on loopback, where no user is configured, the OS user.

Every request is authenticated, also those of an open session; grants are looked up on every call. The token itself
goes no further than this module.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials, AuthenticationBackend
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agnes_mcp.access.grants import Access, digest_token, os_user
from agnes_mcp.access.users_file import AccessFile
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal

if TYPE_CHECKING:
    from agnes_mcp.serving.http.jwts import JwtVerifier

logger = logging.getLogger(__name__)

MAX_TOKEN_CHARS = 8_192
_LOCAL = "local"


class Callers(AuthenticationBackend):
    """Authenticates each request against the users of now.

    `anonymous` lets a request without a token act as the OS user; it ends for good once a user is configured.
    """

    def __init__(self, access: Access, file: AccessFile, verifier: JwtVerifier | None, *, anonymous: bool) -> None:
        self._access = access
        self._file = file
        self._verifier = verifier
        self._anonymous = anonymous and verifier is None and not access.has_users

    @property
    def anonymous(self) -> bool:
        if self._access.has_users:
            self._anonymous = False
        return self._anonymous

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        anonymous = self.anonymous  # looked at before the file is read again: users that are gone leave no open door
        await self._file.refresh()
        presented = conn.headers.getlist("authorization")
        if not presented and anonymous and self.anonymous:
            return _authenticated(os_user().name, _LOCAL, address=_address(conn))
        scheme, _, token = presented[0].partition(" ") if len(presented) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN_CHARS:
            return None
        return await self._recognise(token.strip(), _address(conn))

    async def digest_of(self, token: str) -> tuple[str, str] | None:
        """The user whose token of this instance it is, and what to keep of it."""
        await self._file.refresh()
        user = self._access.by_token(token.strip()) if 0 < len(token) <= MAX_TOKEN_CHARS else None
        return (user.name, digest_token(token.strip())) if user is not None else None

    async def still_holds(self, name: str, token_sha256: str) -> bool:
        """Whether the token of that digest is that user's now."""
        await self._file.refresh()
        return self._access.holder(token_sha256) == name

    async def _recognise(self, token: str, address: str) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        user = self._access.by_token(token)
        if user is not None:
            return _authenticated(user.name, f"token:{user.name}", address=address)
        if self._verifier is None:
            return None
        identity = await self._verifier.verify(token)
        if identity is None or not self._access.knows(identity.name):
            return None
        return _authenticated(identity.name, f"jwt:{identity.name}", identity.issuer, address)


class RequireUser:
    """Lets known callers through, and tells everybody else how one becomes known.

    `issuer` is the OIDC provider whose tokens are taken too, `metadata_url` where a client discovers it; "" and None
    without one, so that nobody is sent looking for a provider that there is not.
    """

    def __init__(self, app: ASGIApp, issuer: str, metadata_url: AnyHttpUrl | None = None) -> None:
        self._app = app
        self._issuer = issuer
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = isinstance(scope.get("user"), AuthenticatedUser)
        await (self._app if known else self._refuse(Headers(scope=scope)))(scope, receive, send)

    def _refuse(self, headers: Headers) -> JSONResponse:
        presented = headers.get("authorization") is not None
        said = "The token is not one of this instance." if presented else "No token was sent."
        challenge = ['error="invalid_token"', f'error_description="{said}"'] if presented else ['realm="agnes"']
        if self._metadata_url is not None:
            challenge.append(f'resource_metadata="{self._metadata_url}"')
        hint = "Send the header `Authorization: Bearer TOKEN`. Who keeps this server makes one: `agnes-mcp token new`."
        if self._issuer:
            hint += f" Tokens of {self._issuer} are taken too."
        return JSONResponse(
            {"error": "invalid_token", "error_description": said, "hint": hint},
            status_code=401,
            headers={"WWW-Authenticate": "Bearer " + ", ".join(challenge)},
        )


def _address(conn: HTTPConnection) -> str:
    """Of whoever opened the connection: the caller's, or that of a proxy in front."""
    return conn.client.host if conn.client else ""


def _authenticated(
    name: str, client_id: str, issuer: str = "", address: str = ""
) -> tuple[AuthCredentials, AuthenticatedUser]:
    """What the SDK binds a session to: client, subject and issuer. The token is left out on purpose."""
    token = AccessToken(
        token="", client_id=client_id, scopes=[], subject=name, claims={"iss": issuer, "address": address}
    )
    return AuthCredentials([]), AuthenticatedUser(token)


def request_principal() -> Principal:
    """The principal of the request that is being handled. Raises `unauthenticated` outside of one."""
    token = get_access_token()
    if token is None or not token.subject:
        raise AgnesError(
            "unauthenticated", "The caller is not known.", "Send `Authorization: Bearer` and a token of this instance."
        )
    address = str((token.claims or {}).get("address", ""))
    return Principal(token.subject, local=token.client_id == _LOCAL, address=address)
