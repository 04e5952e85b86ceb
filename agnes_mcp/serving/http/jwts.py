"""JWTs of an OpenID provider: signature, issuer, audience, expiry, and the claim that names the user."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import anyio
import anyio.to_thread
import jwt

from agnes_mcp.config.settings import OidcSettings

logger = logging.getLogger(__name__)

#: Signatures with a public key only: a shared secret or none at all would let the reader of a key forge tokens.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: How far two clocks may be apart.
LEEWAY_S = 30
KEYS_FRESH_FOR_S = 300.0
#: For so long a provider that cannot be reached locks nobody out; a key it has withdrawn works no longer than that.
KEYS_KEPT_FOR_S = 3600.0
#: A key that is not there is looked for again no sooner; otherwise any caller could make us ask the provider.
ASK_AGAIN_AFTER_S = 10.0
FETCH_TIMEOUT_S = 5.0
#: How asking fails. What answers may be a proxy's page, or end in the middle: the library raises then as Python does.
_NO_KEYS = (jwt.PyJWTError, ValueError, RecursionError, OSError, HTTPException)


@dataclass(frozen=True)
class Identity:
    name: str
    issuer: str


class KeySet:
    """The provider's public keys, fetched when needed, kept for a while when the provider cannot be reached."""

    def __init__(self, jwks_uri: str) -> None:
        self._client = jwt.PyJWKClient(jwks_uri, cache_jwk_set=False, timeout=FETCH_TIMEOUT_S)
        self._keys: dict[str, jwt.PyJWK] = {}  # replaced whole; good for `KEYS_KEPT_FOR_S` where the provider is silent
        self._asked_at = float("-inf")
        self._fetched_at = float("-inf")
        self._fetching = anyio.Lock()
        self.problem = ""

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of that id; None where the provider has none, or cannot be asked."""
        if self._needs_asking(key_id):
            async with self._fetching:
                if self._needs_asking(key_id):
                    await self._fetch()
        kept = time.monotonic() - self._fetched_at <= KEYS_KEPT_FOR_S
        return self._keys.get(key_id) if kept else None

    def _needs_asking(self, key_id: str) -> bool:
        now = time.monotonic()
        wanted = key_id not in self._keys or now - self._fetched_at > KEYS_FRESH_FOR_S
        return wanted and now - self._asked_at > ASK_AGAIN_AFTER_S

    async def _fetch(self) -> None:
        self._asked_at = time.monotonic()
        try:
            found = await anyio.to_thread.run_sync(self._client.get_jwk_set, True)
        except _NO_KEYS as error:
            self.problem = type(error).__name__
            logger.error("the provider's keys could not be fetched: %s", self.problem)
            return
        self._keys = {key.key_id: key for key in found.keys if key.key_id}
        self._fetched_at, self.problem = time.monotonic(), ""


class JwtVerifier:
    def __init__(self, oidc: OidcSettings) -> None:
        self._oidc = oidc
        self.keys = KeySet(oidc.jwks_uri)

    async def verify(self, token: str) -> Identity | None:
        """Whom the token names; None where it is not a token for this server, whatever is wrong with it."""
        try:
            header = jwt.get_unverified_header(token)
            key = await self.keys.find(str(header.get("kid", "")))
            if key is None:
                return None
            claims = jwt.decode(
                token, key, algorithms=list(ALGORITHMS), audience=self._oidc.audience, issuer=self._oidc.issuer,
                leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            logger.info("a JWT was refused: %s", type(error).__name__)
            return None
        return self._identity(claims)

    def _identity(self, claims: dict[str, Any]) -> Identity | None:
        name = claims.get(self._oidc.principal_claim)
        if not isinstance(name, str) or not name:
            return None
        if self._oidc.principal_claim == "email" and not _is_verified(claims):
            return None
        return Identity(name, self._oidc.issuer)


def _is_verified(claims: dict[str, Any]) -> bool:
    """Providers write the claim as a Boolean or as its word, or leave it out; anything else vouches for nothing."""
    said = claims.get("email_verified", True)
    return said is True or said == "true"
