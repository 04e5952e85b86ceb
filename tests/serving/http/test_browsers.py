"""Pages of allowed origins call the server from a browser; a stranger is told how to become known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.served import INITIALIZE, Served, serve, token_of, user, write_instance

ORIGIN = "https://app.example.com"
ASKING = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,mcp-protocol-version,mcp-session-id,mcp-method",
}
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("browsers")
    instance = write_instance(
        folder / "instance.yaml", access={"users": [user("ana", [])]}, server={"allowed_origins": [ORIGIN]}
    )
    with serve(instance) as server:
        yield server


def names_of(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",")}


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/"])
@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:6274", "http://127.0.0.1"])
def test_a_page_may_ask_before_it_calls(served: Served, path: str, origin: str) -> None:
    answer = served.request("OPTIONS", path, headers={**ASKING, "Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert names_of(ASKING["Access-Control-Request-Headers"]) <= names_of(
        answer.headers["access-control-allow-headers"]
    )
    assert names_of(answer.headers["access-control-allow-methods"]) == {"get", "post", "delete"}
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "null",
        "http://localhost.evil.example",
        "http://localhost:1x",
        "https://app.example.com:1",
    ],
)
def test_other_pages_may_not(served: Served, origin: str) -> None:
    answer = served.request("OPTIONS", "/mcp", headers={**ASKING, "Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_reads_its_session_and_why_it_was_refused(served: Served) -> None:
    opened = served.request("POST", "/mcp", token_of("ana"), headers={**JSON, "Origin": ORIGIN}, json=INITIALIZE)
    assert opened.status_code == 200
    assert opened.headers["access-control-allow-origin"] == ORIGIN
    assert {"mcp-session-id", "www-authenticate"} <= names_of(opened.headers["access-control-expose-headers"])
    refused = served.request("POST", "/mcp", headers={**JSON, "Origin": ORIGIN}, json=INITIALIZE)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)


@pytest.mark.parametrize(
    ("headers", "said", "challenge"),
    [
        ({}, "No token was sent.", 'Bearer realm="agnes"'),
        (
            {"Authorization": "Bearer agnes_wrong"},
            "The token is not one of this instance.",
            'Bearer error="invalid_token"',
        ),
    ],
)
def test_a_stranger_is_told_how_to_become_known(
    served: Served, headers: dict[str, str], said: str, challenge: str
) -> None:
    """Which header, where a token comes from; and no way to a provider, because there is none here."""
    refused = served.request("POST", "/mcp", headers={**JSON, **headers}, json=INITIALIZE)
    body: dict[str, Any] = refused.json()
    assert (refused.status_code, body["error_description"]) == (401, said)
    assert "Authorization: Bearer" in body["hint"]
    assert "agnes-mcp token new" in body["hint"]
    assert refused.headers["www-authenticate"].startswith(challenge)
    assert "resource_metadata" not in refused.headers["www-authenticate"]
    assert "agnes_wrong" not in refused.text
    assert served.get("/.well-known/oauth-protected-resource/mcp").status_code == 404


def test_the_file_of_the_instance_is_not_named(served: Served, tmp_path: Path) -> None:
    assert "instance.yaml" not in served.request("POST", "/mcp", headers=JSON, json=INITIALIZE).text
