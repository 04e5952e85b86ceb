"""What is answered before a client has sent all: the answer can be read, and what is no HTTP harms nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serving.served import Served, serve, token_of, user, write_instance
from support.counts import count, tell
from support.waiting import PATIENCE_S, wait_until

from agnes_mcp.serving.http.connections import LEAST_PIECE_BYTES, MAX_SMALL_PIECES

ANA = token_of("ana")
MIB = 2**20
KNOWN = f"Authorization: Bearer {ANA}\r\n"
JSON = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
LARGE = b" " * (5 * MIB)
CHUNKS = b"".join(b"10000\r\n" + b" " * 65_536 + b"\r\n" for _ in range(80)) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("lingering")
    limits = {"max_body_bytes": MIB, "body_timeout_seconds": 600, "head_timeout_seconds": 600}
    with serve(write_instance(folder / "i.yaml", access={"users": [user("ana", "*")]}, server=limits)) as served:
        yield served


def head(line: str, *fields: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join([line, f"Host: {host}", *fields, "", ""]).encode()


def opened(served: Served) -> socket.socket:
    place = urlsplit(served.url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=PATIENCE_S)


def answer_to(served: Served, sent: bytes, *, ends: bool = False) -> bytes:
    """Everything that comes after all of it was sent, until the server closes. Raises `OSError` at a reset."""
    with closing(opened(served)) as connection:
        connection.sendall(sent)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


SIZE, CHUNKED = f"Content-Length: {len(LARGE)}", "Transfer-Encoding: chunked"
TOKEN, CLOSE = KNOWN.strip(), "Connection: close"
REFUSED: dict[str, tuple[int, bytes]] = {
    "a long body": (413, head("POST /mcp HTTP/1.1", TOKEN, SIZE) + LARGE),
    "a long body, then close": (413, head("POST /mcp HTTP/1.1", TOKEN, SIZE, CLOSE) + LARGE),
    "a long body in HTTP/1.0": (413, head("POST /mcp HTTP/1.0", TOKEN, SIZE) + LARGE),
    "a body that turns out long": (413, head("POST /mcp HTTP/1.1", TOKEN, CHUNKED) + CHUNKS),
    "messages of SSE": (413, head("POST /messages/?session_id=0 HTTP/1.1", TOKEN, SIZE, CLOSE) + LARGE),
    "of a stranger": (401, head("POST /mcp HTTP/1.1", SIZE, CLOSE) + LARGE),
    "to nowhere": (404, head("POST /nothing HTTP/1.1", TOKEN, SIZE, CLOSE) + LARGE),
    "under a foreign name": (421, head("POST /mcp HTTP/1.1", TOKEN, SIZE, CLOSE, host="evil.example") + LARGE),
    "a head without end": (400, head("GET /mcp HTTP/1.1", "X-Long: " + "x" * 5 * MIB)),
    "a line without end": (400, b"x" * 5 * MIB),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_read_by_whoever_sent_all_first(served: Served, name: str) -> None:
    status, sent = REFUSED[name]
    for _ in range(count(3, 50)):
        received = answer_to(served, sent)
        assert received.startswith(f"HTTP/1.1 {status} ".encode()), received[:80]
        assert b"\r\n\r\n" in received
    tell(f"refusals read: {name}", tried=count(3, 50), through=0)


def test_a_client_that_never_stops_sending_is_closed(tmp_path: Path) -> None:
    limits = {"max_body_bytes": 1024, "body_timeout_seconds": 600, "head_timeout_seconds": 600}
    with serve(write_instance(tmp_path / "i.yaml", server=limits)) as served, closing(opened(served)) as connection:
        connection.sendall(head("POST /mcp HTTP/1.1", "Content-Length: 9999999999"))
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(2**29))
        assert served.get("/healthz").status_code == 200


def test_a_client_that_sends_no_more_is_closed(tmp_path: Path) -> None:
    """It was answered, and told that there will be no other answer; it says nothing, and does not go."""
    limits = {"max_body_bytes": 1024, "head_timeout_seconds": 0.2}
    with serve(write_instance(tmp_path / "i.yaml", server=limits)) as served, closing(opened(served)) as connection:
        connection.sendall(head("POST /mcp HTTP/1.1", "Content-Length: 9999999999"))
        while connection.recv(65_536):
            pass

        def is_closed() -> bool:
            try:
                connection.send(b" ")
            except ConnectionError:
                return True
            return False

        wait_until(is_closed)


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
GET = head("GET /healthz HTTP/1.1")
LAST = head("GET /healthz HTTP/1.1", CLOSE)
#: What is sent, and with what the answers begin; where that is nothing, the client ends after its last byte.
ODD: dict[str, tuple[bytes, bytes]] = {
    "two at once": (GET + LAST, b"HTTP/1.1 200"),
    "a hundred at once": (GET * 100 + LAST, b"HTTP/1.1 200"),
    "something after the last": (LAST + b"x" * 200_000, b"HTTP/1.1 200"),
    "something long after a call": (
        head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), f"Content-Length: {len(PING)}")
        + PING
        + b"x" * 200_000,
        b"HTTP/1.1 4",
    ),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", b"HTTP/1.1 200"),
    "HTTP/1.1 without a host": (b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
    "two hosts": (head("GET /healthz HTTP/1.1", "Host: x", CLOSE), b"HTTP/1.1 400"),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 4"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"HTTP/1.1 400"),
    "an upgrade": (
        head("GET /mcp HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade, close", "Sec-WebSocket-Version: 13"),
        b"HTTP/1.1 401",
    ),
    "CONNECT": (head("CONNECT 10.0.0.1:80 HTTP/1.1", CLOSE), b"HTTP/1.1 4"),
    "another's address": (head("GET http://10.0.0.1/healthz HTTP/1.1", CLOSE), b"HTTP/1.1 4"),
    "a length that is none": (head("POST /mcp HTTP/1.1", TOKEN, "Content-Length: -5"), b"HTTP/1.1 400"),
    "a length in letters": (head("POST /mcp HTTP/1.1", TOKEN, "Content-Length: 0x10"), b"HTTP/1.1 400"),
    "two lengths": (
        head("POST /mcp HTTP/1.1", TOKEN, "Content-Length: 5", "Content-Length: 6") + b"12345",
        b"HTTP/1.1 400",
    ),
    "a length and chunks": (
        head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), "Content-Length: 5", CHUNKED, CLOSE)
        + b"0\r\n\r\n",
        b"HTTP/1.1 4",
    ),
    "a length too great": (
        head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), "Content-Length: 500", CLOSE) + PING,
        b"",
    ),
    "a length too small": (
        head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), "Content-Length: 10") + PING,
        b"HTTP/1.1 400",
    ),
    "a digit that is none": (head("POST /mcp HTTP/1.1", TOKEN, "Content-Length: ١٢"), b"HTTP/1.1 400"),
    "a length of thousands of digits": (
        head("POST /mcp HTTP/1.1", TOKEN, f"Content-Length: {'9' * 6_000}"),
        b"HTTP/1.1 4",
    ),
    "chunks without end": (head("POST /mcp HTTP/1.1", TOKEN, CHUNKED) + b"ffffffffffffffff\r\n", b""),
    "a chunk that is none": (head("POST /mcp HTTP/1.1", TOKEN, CHUNKED) + b"zz\r\n", b"HTTP/1.1 400"),
    "a chunk that is none, of a stranger": (head("POST /mcp HTTP/1.1", CHUNKED) + b"1\r\n{\r\nzz\r\n", b"HTTP/1.1 40"),
    "trailers": (
        head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), CHUNKED, CLOSE)
        + b"28\r\n" + PING + b"\r\n0\r\nAuthorization: Bearer x\r\nX: " + b"y" * 1_000 + b"\r\n\r\n",
        b"HTTP/1.1 4",
    ),
    "trailers without end": (
        head("POST /mcp HTTP/1.1", TOKEN, CHUNKED) + b"0\r\nX: " + b"y" * MIB,
        b"HTTP/1.1 400",
    ),
    "a thousand fields": (
        head("GET /healthz HTTP/1.1", *(f"X-{n}: {n}" for n in range(1_000)), CLOSE),
        b"HTTP/1.1 200",
    ),
    "fields of nothing": (head("GET /healthz HTTP/1.1", ": x", CLOSE), b"HTTP/1.1 400"),
    "a folded field": (head("GET /healthz HTTP/1.1", "X: a\r\n b", CLOSE), b"HTTP/1.1 "),
    "bare line feeds": (b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n", b"HTTP/1.1 "),
    "NUL in a field": (head("GET /healthz HTTP/1.1", "X: a\0b", CLOSE), b"HTTP/1.1 400"),
    "an expectation": (
        head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), "Expect: 100-continue", SIZE, CLOSE),
        b"HTTP/1.1 413",
    ),
    "a method of its own": (head("BREW /mcp HTTP/1.1", TOKEN, CLOSE), b"HTTP/1.1 4"),
    "a path outside ASCII": ("GET /caf\u00e9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(), b"HTTP/1.1 400"),
    "a path of escapes": (head("GET /%00%0d%0a%ff%c0%ae HTTP/1.1", CLOSE), b"HTTP/1.1 4"),
    "nothing": (b"\r\n" * 1_000, b""),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_hardly_http_is_answered_or_closed(served: Served, name: str) -> None:
    sent, begins = ODD[name]
    before = len(served.log)
    received = answer_to(served, sent, ends=not begins)
    assert received.startswith(begins), received[:200]
    assert served.get("/healthz").status_code == 200
    assert "Traceback" not in "".join(served.log[before:]), "".join(served.log[before:])
    tell(f"hardly HTTP: {name}", tried=1, through=0)


@pytest.mark.parametrize(("more", "size", "is_read"), [(0, 1, True), (1, 1, False), (100, LEAST_PIECE_BYTES, True)])
def test_a_body_of_very_many_small_chunks_is_refused(served: Served, more: int, size: int, is_read: bool) -> None:
    body = PING.ljust((MAX_SMALL_PIECES + more) * size)
    chunks = (b"%x\r\n%s\r\n" % (size, body[at : at + size]) for at in range(0, len(body), size))
    asked = head("POST /mcp HTTP/1.1", TOKEN, *JSON.strip().split("\r\n"), CHUNKED, CLOSE)
    received = answer_to(served, asked + b"".join(chunks) + b"0\r\n\r\n")
    assert (b"too many small pieces" not in received) is is_read
    assert received.startswith(b"HTTP/1.1 4" if is_read else b"HTTP/1.1 400 "), received[:200]
