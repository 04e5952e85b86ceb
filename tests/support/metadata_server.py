"""A GCE metadata server on the loopback interface that hands out tokens, counts who asks, and fails on demand."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


@dataclass
class Reply:
    """What the token path answers. `silent`: accept and say nothing; `delay_s`: pause before the first byte; `drip_s`:
    before each."""

    status: int = 200
    body: bytes | None = None  # None: a good token
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    silent: bool = False
    delay_s: float = 0.0
    drip_s: float = 0.0


def json_reply(content: object, **more: Any) -> Reply:
    return Reply(body=json.dumps(content).encode(), **more)


class MetadataServer:
    """`url` requests are recorded in `requests` as (path, headers). Tokens are `<prefix>-1`, `<prefix>-2`, …"""

    def __init__(self, prefix: str = "ya29.canary", expires_in: float = 3600) -> None:
        self.prefix = prefix
        self.expires_in = expires_in
        self.reply = Reply()
        self.first: list[Reply] = []  # what the first requests for a token are answered, before `reply`
        self.root_reply: Reply | None = None  # what `GET /` answers, where that differs
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.issued: list[str] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = self._bind(0)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def token_requests(self) -> int:
        return sum("/token" in path for path, _ in self.requests)

    def __enter__(self) -> MetadataServer:
        self._serve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.stop()

    def stop(self) -> None:
        """Refuse connections, as a machine on which the server has died."""
        self._server.shutdown()
        self._server.server_close()

    def start_again(self) -> None:
        self._server = self._bind(self.port)
        self._serve()

    def _bind(self, port: int) -> socketserver.ThreadingTCPServer:
        owner = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                owner.answer(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 256

        return Server(("127.0.0.1", port), Connection)

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        path, headers = _request_head(connection)
        if not path:
            return
        with self._lock:
            self.requests.append((path, headers))
            reply = self.first.pop(0) if self.first and "/token" in path else self.reply
        if path == "/" and self.root_reply:
            reply = self.root_reply
        if reply.silent:
            self.closing.wait(3600)
            return
        self.closing.wait(reply.delay_s)
        try:
            self._send(connection, self._render(reply), reply.drip_s)
        except OSError:
            return  # the client has hung up, as a bounded one does

    def _render(self, reply: Reply) -> bytes:
        body = reply.body if reply.body is not None else self._token()
        head = {"Metadata-Flavor": "Google", "Content-Type": reply.content_type, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**head, **reply.headers}.items())
        return f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + body

    def _send(self, connection: socket.socket, payload: bytes, drip_s: float) -> None:
        if not drip_s:
            connection.sendall(payload)
            return
        for index in range(len(payload)):
            connection.sendall(payload[index : index + 1])
            if self.closing.wait(drip_s):
                return

    def _token(self) -> bytes:
        with self._lock:
            token = f"{self.prefix}-{len(self.issued) + 1}"
            self.issued.append(token)
        return json.dumps({"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"}).encode()


def _request_head(connection: socket.socket) -> tuple[str, dict[str, str]]:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return "", {}
        received += part
    first, *lines = received.split(b"\r\n\r\n")[0].decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return first.split(" ")[1], {name.lower(): value for name, value in fields.items()}


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of the loopback interface on which nothing listens, kept from being given to anyone else."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
