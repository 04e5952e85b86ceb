"""A server of tables that cuts, corrupts, refuses and changes on demand, over real HTTP."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "agnes_canary-of-the-mirror"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass
class Fault:
    """What happens to the next answer for a table. `cut_at`: bytes of the body after which the connection closes."""

    status: int = 200
    cut_at: int | None = None
    stall_at: int | None = None  # bytes after which nothing comes until the server is released
    corrupt: bool = False
    ignore_range: bool = False
    wrong_range: bool = False
    packed: bool = False
    headers: dict[str, str] = field(default_factory=dict)  # of a refusal
    location: str = "http://elsewhere.example.com/"
    then: Callable[[], None] | None = None


@dataclass
class MirroredServer:
    tables: dict[str, bytes] = field(default_factory=dict)
    remote: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    manifest: Any = None  # instead of the true one
    with_hashes: bool = True
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    release: threading.Event = field(default_factory=threading.Event)

    def described(self) -> dict[str, Any]:
        local = {
            name: {"hash": md5(content) if self.with_hashes else "", "query_mode": "local", "rows": 1, "new_key": 1}
            for name, content in self.tables.items()
        }
        return {"tables": {**local, **{name: {"hash": "", "query_mode": "remote"} for name in self.remote}}}

    def asked(self, name: str) -> list[dict[str, str]]:
        return [headers for path, headers in self.requests if path == f"/tables/{name}.parquet"]


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing on stderr."""

    def do_GET(self) -> None:
        owner = self.server.owner
        owner.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        name = self.path.removeprefix("/tables/").removesuffix(".parquet") if "/tables/" in self.path else self.path
        waiting = owner.faults.get(name, [])
        fault = waiting.pop(0) if waiting else Fault()
        if fault.then is not None:
            fault.then()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, b"{}")
        elif fault.status != 200:
            self._answer(fault.status, b"{}", {"Location": fault.location, **fault.headers})
        elif self.path == "/manifest":
            said = owner.manifest if owner.manifest is not None else owner.described()
            self._answer(200, said if isinstance(said, bytes) else json.dumps(said).encode(), fault=fault)
        elif name in owner.tables:
            self._send_table(owner.tables[name], fault)
        else:
            self._answer(404, b"{}")

    def _send_table(self, content: bytes, fault: Fault) -> None:
        tag = f'"{md5(content)}"'
        wanted = self.headers.get("Range", "")
        headers = {"ETag": tag} if self.server.owner.with_hashes else {}
        if fault.corrupt:
            content = bytes(len(content))
        if wanted and not fault.ignore_range and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self._answer(416, b"")
                return
            first = start + 1 if fault.wrong_range else start
            encoding = {"Content-Encoding": "gzip"} if fault.packed else {}
            span = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._answer(206, content[start:], {**headers, **encoding, "Content-Range": span}, fault)
        elif fault.packed:  # as a proxy does it: the tag made weak, the length another one
            weak = {"ETag": f"W/{tag}", "Content-Encoding": "gzip"}
            self._answer(200, gzip.compress(content), weak, fault)
        else:
            self._answer(200, content, headers, fault)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault is not None and fault.stall_at is not None:
            self.wfile.write(body[: fault.stall_at])
            self.wfile.flush()
            body = body[fault.stall_at :]
            self.server.owner.release.wait(60)
        cut_at = fault.cut_at if fault else None
        self.wfile.write(body if cut_at is None else body[:cut_at])
        if cut_at is not None:
            self.wfile.flush()
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: MirroredServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def mirrored() -> Iterator[MirroredServer]:
    owner = MirroredServer()
    server = _Server(("127.0.0.1", 0), _Exchange)
    server.owner = owner
    owner.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        owner.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
