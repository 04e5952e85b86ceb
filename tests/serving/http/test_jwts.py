"""JWTs of an OpenID provider: whose they must be, and how its keys are fetched."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from serving.http.jwks import AUDIENCE, Provider, serving_keys
from support.counts import tell

from agnes_mcp.config.settings import OidcSettings
from agnes_mcp.serving.http import jwts
from agnes_mcp.serving.http.jwts import Identity, JwtVerifier

ANA = "ana@example.com"
NOW = int(time.time())


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving_keys() as serving:
        yield serving


def verifier_of(provider: Provider, claim: str = "email") -> JwtVerifier:
    return JwtVerifier(
        OidcSettings(issuer=provider.url, audience=AUDIENCE, jwks_uri=f"{provider.url}/keys", principal_claim=claim)
    )


async def test_a_token_names_its_user(provider: Provider) -> None:
    verifier = verifier_of(provider)
    assert await verifier.verify(provider.token(ANA)) == Identity(ANA, provider.url)
    assert await verifier.verify(provider.token(ANA, aud=["other", AUDIENCE])) == Identity(ANA, provider.url)
    assert await verifier_of(provider, "sub").verify(provider.token(ANA)) == Identity("1", provider.url)


def named(claims: dict[str, Any]) -> str:
    """The same name whenever tests are collected: seconds count from now."""
    return repr(
        {name: value - NOW if isinstance(value, int) and value > NOW / 2 else value for name, value in claims.items()}
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": None},
        {"aud": ["other"]},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": NOW - 3600},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": NOW + 3600},
        {"email": None},
        {"email": ""},
        {"email": 7},
        {"email": ["ana@example.com"]},
        {"email_verified": False},
    ],
    ids=named,
)
async def test_a_token_for_somebody_else_or_another_time_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    assert await verifier_of(provider).verify(provider.token(ANA, **claims)) is None


async def test_clocks_may_differ_a_little(provider: Provider) -> None:
    assert await verifier_of(provider).verify(provider.token(ANA, exp=int(time.time()) - 10)) is not None


def _segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_a_token_without_the_providers_signature_is_refused(provider: Provider) -> None:
    verifier = verifier_of(provider)
    public = (
        provider.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    claims = provider.claims(ANA)
    header, payload, signature = provider.token(ANA).split(".")
    with serving_keys() as other:
        foreign = jwt.encode(claims, other.keys["first"], algorithm="RS256", headers={"kid": "first"})
    forged = {
        "another key": foreign,
        "no signature": f"{_segment({'alg': 'none', 'kid': 'first'})}.{_segment(claims)}.",
        "altered": f"{header}.{_segment({**claims, 'email': 'root@example.com'})}.{signature}",
        "cut": f"{header}.{payload}.{signature[:-8]}",
        "not a token": "a.b.c",
        "nothing": "",
    }
    # the public key as a shared secret: what a verifier that trusts the header's `alg` would take
    unsigned = f"{_segment({'alg': 'HS256', 'kid': 'first', 'typ': 'JWT'})}.{_segment(claims)}"
    import hashlib
    import hmac

    secret = base64.urlsafe_b64encode(hmac.new(public, unsigned.encode(), hashlib.sha256).digest()).rstrip(b"=")
    forged["a shared secret"] = f"{unsigned}.{secret.decode()}"
    assert {name: await verifier.verify(token) for name, token in forged.items()} == dict.fromkeys(forged)
    tell("forged JSON Web Tokens", tried=len(forged), through=0)


async def test_keys_are_fetched_once_for_many_tokens(provider: Provider) -> None:
    import anyio

    verifier, found = verifier_of(provider), []

    async def verify() -> None:
        found.append(await verifier.verify(provider.token(ANA)))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(verify)
    assert found == [Identity(ANA, provider.url)] * 20
    assert provider.asked == 1


async def test_unknown_keys_do_not_make_us_ask_the_provider_each_time(provider: Provider) -> None:
    verifier = verifier_of(provider)
    with serving_keys() as other:
        for number in range(4):
            other.add_key(f"made up {number}")
            assert await verifier.verify(other.token(ANA, f"made up {number}")) is None
    assert provider.asked == 1


async def test_a_new_key_of_the_provider_is_found(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = verifier_of(provider)
    assert await verifier.verify(provider.token(ANA)) is not None
    monkeypatch.setattr(jwts, "ASK_AGAIN_AFTER_S", 0.0)
    provider.add_key("second")
    assert await verifier.verify(provider.token(ANA, "second")) is not None


async def test_a_key_that_the_provider_withdrew_ends(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token = verifier_of(provider), provider.token(ANA)
    assert await verifier.verify(token) is not None
    monkeypatch.setattr(jwts, "ASK_AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(jwts, "KEYS_FRESH_FOR_S", 0.0)
    del provider.keys["first"]
    provider.add_key("second")
    assert await verifier.verify(token) is None


async def test_a_provider_that_is_down_refuses_nobody_it_vouched_for_yet(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, token = verifier_of(provider), provider.token(ANA)
    provider.broken = True
    assert await verifier.verify(token) is None
    assert verifier.keys.problem
    provider.broken = False
    monkeypatch.setattr(jwts, "ASK_AGAIN_AFTER_S", 0.0)
    assert await verifier.verify(token) is not None
    provider.broken = True
    monkeypatch.setattr(jwts, "KEYS_FRESH_FOR_S", 0.0)
    assert await verifier.verify(token) is not None
    assert verifier.keys.problem
    monkeypatch.setattr(jwts, "KEYS_KEPT_FOR_S", 0.0)
    assert await verifier.verify(token) is None


@pytest.mark.parametrize("instead", [b"<html>", b"[]", b'{"keys": 5}', b"[" * 100_000, b"\xff\xfe", b"9" * 10_000])
async def test_a_page_in_place_of_the_keys_is_a_provider_that_is_down(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, instead: bytes
) -> None:
    verifier, token = verifier_of(provider), provider.token(ANA)
    assert await verifier.verify(token) is not None
    provider.instead = instead
    monkeypatch.setattr(jwts, "ASK_AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(jwts, "KEYS_FRESH_FOR_S", 0.0)
    assert await verifier.verify(token) is not None
    assert verifier.keys.problem
