"""What is refused before the protocol is spoken, on both HTTP transports."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from serving.served import ACCEPT, INITIALIZE, Served, bearer, rpc, token_of

from agnes_mcp.serving.http.guards import holds_more_values, is_allowed

ANA, BOB = token_of("ana"), token_of("bob")
JSON = {"Content-Type": "application/json", **ACCEPT}


@contextmanager
def open_sse(served: Served, token: str = ANA) -> Iterator[str]:
    """An open SSE session; gives the path of its messages."""
    with (
        httpx2.Client(headers=bearer(token), timeout=60) as client,
        client.stream("GET", f"{served.url}/sse") as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        path = next(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        yield path


@pytest.fixture(params=["/mcp", "/messages"])
def endpoint(request: pytest.FixtureRequest, served: Served) -> Iterator[str]:
    """Where each HTTP transport takes its messages."""
    if request.param == "/mcp":
        yield "/mcp"
        return
    with open_sse(served) as path:
        yield path


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Host", "evil.example", 421),
        ("Host", "127.0.0.1.evil.example:80", 421),
        ("Host", "localhost.evil.example", 421),
        ("Host", "", 421),
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://localhost.evil.example:3000", 403),
        ("Origin", "http://127.0.0.1:1@evil.example", 403),
        ("Origin", "https://evil.example:443", 403),
        ("Content-Type", "text/plain", 400),
        ("Content-Type", "application/x-www-form-urlencoded", 400),
    ],
)
def test_a_page_of_another_site_cannot_call(
    served: Served, endpoint: str, header: str, value: str, status: int
) -> None:
    headers = {**JSON, header: value}
    assert served.request("POST", endpoint, ANA, headers=headers, json=INITIALIZE).status_code == status


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/metrics", "/nothing"])
@pytest.mark.parametrize(
    ("header", "value", "status"), [("Host", "evil.example", 421), ("Origin", "http://evil.example", 403)]
)
def test_every_endpoint_checks_host_and_origin(served: Served, path: str, header: str, value: str, status: int) -> None:
    assert served.get(path, ANA, headers={header: value}).status_code == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_ask_by_any_name_but_no_page_may(served: Served, path: str) -> None:
    assert served.get(path, headers={"Host": "10.0.0.7:8787"}).status_code == 200
    assert served.get(path, headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:80"])
def test_a_page_of_this_machine_may_call(served: Served, origin: str) -> None:
    response = served.request("POST", "/mcp", ANA, headers={**JSON, "Origin": origin}, json=INITIALIZE)
    assert response.status_code == 200


def test_a_body_that_is_too_large_is_refused(served: Served, endpoint: str) -> None:
    large = rpc("ping", {"padding": "x" * 60_000})
    assert served.request("POST", endpoint, ANA, headers=JSON, json=large).status_code == 413


def test_a_body_that_only_turns_out_too_large_is_refused(served: Served, endpoint: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            yield b" " * 1_000

    assert served.request("POST", endpoint, ANA, headers=JSON, content=pieces()).status_code == 413


def test_a_body_of_very_many_values_is_refused(served: Served, endpoint: str) -> None:
    """However they are arranged: whoever reads a message makes something of each of them, on the event loop."""
    bodies: list[Any] = [[1] * 6_000, [[]] * 6_000, {str(n): 1 for n in range(5_100)}]
    for many in bodies:
        message = json.dumps(rpc("ping", {"_meta": {"many": many}}), separators=(",", ":"))
        answer = served.request("POST", endpoint, ANA, headers=JSON, content=message)
        assert (answer.status_code, "values" in answer.json()["error"]) == (413, True)
    assert served.request("POST", endpoint, ANA, headers=JSON, content="[" + "1," * 6_000).status_code == 413


VALUES: dict[str, tuple[Any, bool]] = {
    "elements": ([0] * 101, True),
    "as many as may be": ([0] * 100, False),
    "objects": ([{"a": 1}] * 60, True),
    "lists in lists": ([[[]]] * 50, True),
    "keys": ({str(n): n for n in range(120)}, True),
    "texts": (["a", "b"] * 60, True),
    "text with commas": ({"a": "," * 1_000, "b": "[{" * 500}, False),
    "quotes in text": ({"a": '",' * 1_000, '",[': "\\"}, False),
    "backslashes in text": ({"a": "\\," * 1_000, "b": '\\",' * 1_000}, False),
    "after quotes in text": ({"a": '"\\"', "b": [0] * 200}, True),
    "many short texts": ({"a": [["x" + str(n)] for n in range(300)]}, True),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_counted_and_what_is_written_in_texts_is_not(name: str) -> None:
    given, more = VALUES[name]
    for ascii_only in (True, False):
        assert holds_more_values(json.dumps(given, ensure_ascii=ascii_only).encode(), 100) is more


@pytest.mark.parametrize("body", [b'"', b"\\", b'"' * 1_001, b'"\\', b'\\"' * 1_000 + b'","', b""])
def test_what_is_no_json_is_looked_through_as_well(body: bytes) -> None:
    assert holds_more_values(body + b"," * 101, 100) in (True, False)
    assert holds_more_values(b"," * 101 + body, 100)


def test_a_body_that_does_not_arrive_is_not_waited_for(served: Served, endpoint: str) -> None:
    head = (
        f"POST {endpoint} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ANA}\r\n"
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 500\r\n\r\n"
    )
    answer = _send_and_read(served, head.encode() + b'{"jsonrpc"')
    assert answer.startswith(b"HTTP/1.1 408"), answer[:100]


def _send_and_read(served: Served, sent: bytes) -> bytes:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65_536):
            received += part
    return received


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/?session_id=00000000000000000000000000000000"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {ANA}"},
        {"Authorization": ANA},
        {"Authorization": "Bearer " + "x" * 9_000},
        {"Authorization": "Bearer caf\u00e9\u0161"},
    ],
    ids=["none", "unknown", "empty", "basic", "bare", "long", "not-ascii"],
)
def test_an_unknown_caller_is_refused(served: Served, path: str, headers: dict[str, str]) -> None:
    method = "GET" if path == "/sse" else "POST"
    encoded = [(name.encode(), value.encode("utf-8")) for name, value in {**JSON, **headers}.items()]
    response = httpx2.request(method, served.url + path, headers=encoded, content=b"{}", timeout=60)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer ")


def test_two_credentials_are_none(served: Served) -> None:
    headers = [*JSON.items(), ("Authorization", f"Bearer {ANA}"), ("Authorization", f"Bearer {BOB}")]
    response = httpx2.request("POST", f"{served.url}/mcp", headers=headers, json=INITIALIZE, timeout=60)
    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
@pytest.mark.parametrize("parameter", ["token", "access_token", "bearer"])
def test_a_token_in_the_address_counts_for_nothing(served: Served, path: str, parameter: str) -> None:
    method = "GET" if path == "/sse" else "POST"
    response = served.request(method, f"{path}?{parameter}={ANA}", headers=JSON, content=b"{}")
    assert response.status_code == 401


def test_a_session_answers_to_its_own_user_only(served: Served) -> None:
    opened = served.request("POST", "/mcp", ANA, headers=JSON, json=INITIALIZE)
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-11-25"}
    ping = rpc("ping")
    assert served.request("POST", "/mcp", ANA, headers={**JSON, **session}, json=ping).status_code == 200
    assert served.request("POST", "/mcp", BOB, headers={**JSON, **session}, json=ping).status_code == 404
    assert served.request("POST", "/mcp", headers={**JSON, **session}, json=ping).status_code == 401
    assert served.request("DELETE", "/mcp", BOB, headers={**JSON, **session}).status_code == 404


def test_an_sse_session_answers_to_its_own_user_only(served: Served) -> None:
    with open_sse(served, ANA) as path:
        assert served.request("POST", path, BOB, headers=JSON, json=INITIALIZE).status_code == 404
        assert served.request("POST", path, headers=JSON, json=INITIALIZE).status_code == 401
        assert served.request("POST", path, ANA, headers=JSON, json=INITIALIZE).status_code == 202


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_paths_are_answered_with_and_without_a_trailing_slash(served: Served, path: str) -> None:
    assert served.get(path).status_code == served.get(f"{path}/").status_code != 404


def test_the_transports_are_answered_with_a_trailing_slash_without_a_detour(served: Served) -> None:
    assert served.request("POST", "/mcp/", ANA, headers=JSON, json=INITIALIZE).status_code == 200
    with open_sse(served) as path:
        bare = path.replace("/messages/", "/messages")
        assert served.request("POST", bare, ANA, headers=JSON, json=INITIALIZE).status_code == 202


def test_an_event_leaves_as_soon_as_it_is_there(served: Served) -> None:
    """The stream's first event arrives although the response has no end; nothing compresses it."""
    with (
        httpx2.Client(headers={**bearer(ANA), "Accept-Encoding": "gzip"}, timeout=60) as client,
        client.stream("GET", f"{served.url}/sse/") as response,
    ):
        assert "content-encoding" not in response.headers
        assert response.headers["cache-control"] == "no-store"
        assert next(response.iter_lines()) == "event: endpoint"


def test_slow_callers_do_not_hold_up_others(served: Served) -> None:
    """Forty connections that begin a request and say no more."""
    address = urlsplit(served.url)
    idle = [socket.create_connection((address.hostname or "", address.port or 0), timeout=60) for _ in range(40)]
    try:
        for connection in idle:
            connection.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n")
        answered = threading.Event()

        def ask() -> None:
            if served.get("/healthz").status_code == 200:
                answered.set()

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        assert answered.wait(60)
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    ("value", "allowed", "expected"),
    [
        ("localhost:80", ["localhost:*"], True),
        ("LOCALHOST:80", ["localhost:*"], True),
        ("localhost", ["localhost:*"], False),
        ("localhost:", ["localhost:*"], False),
        ("localhost:80.evil.example", ["localhost:*"], False),
        ("localhost:8x", ["localhost:*"], False),
        ("[::1]:80", ["[::1]:*"], True),
        ("agnes.example.com", ["agnes.example.com"], True),
        ("agnes.example.com:443", ["agnes.example.com"], False),
        ("", ["localhost:*"], False),
        ("\u0661", ["localhost:*"], False),
        ("localhost:\u0661", ["localhost:*"], False),
    ],
)
def test_names_are_compared_whole(value: str, allowed: list[str], expected: bool) -> None:
    assert is_allowed(value, allowed) is expected
