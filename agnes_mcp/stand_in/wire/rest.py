"""The HTTP server: connections, credentials, scripted faults, the log of calls, and the control endpoints.

Beside BigQuery's own paths it answers, without credentials:

    GET /__requests      the calls so far       DELETE /__requests   forget them
    GET /__faults        the scripted faults    POST /__faults       add one, or a list (`faults.Fault` as JSON)
    DELETE /__faults     remove them all        POST /__tokens       {"accept": […], "accept_prefix": [], "expire": []}
    POST /__settings     {"job_latency_s": 0.5}
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from agnes_mcp.stand_in.jobs.queue import Jobs
from agnes_mcp.stand_in.wire.faults import Fault, Faults, Request, Requests
from agnes_mcp.stand_in.wire.replies import ApiError, invalid
from agnes_mcp.stand_in.wire.routes import Call, Json, Routes
from agnes_mcp.stand_in.wire.tokens import Tokens

_PREFIXES = ("/bigquery/v2/", "/")
_GZIP_FROM_BYTES = 1400


class RestServer(ThreadingHTTPServer):
    """Serves `routes` on loopback; every connection has its own thread."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, port: int, routes: Routes, jobs: Jobs, faults: Faults, requests: Requests, tokens: Tokens
    ) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.routes = routes
        self.jobs = jobs
        self.faults = faults
        self.requests = requests
        self.tokens = tokens

    def start(self) -> int:
        threading.Thread(target=self.serve_forever, args=(0.05,), name="bigquery rest", daemon=True).start()
        return int(self.server_address[1])

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RestServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """The log of calls is `requests`; stderr stays quiet."""

    def _serve(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        fault: Fault | None = None
        headers: dict[str, str] = {}
        # what a crash answers: 501, which no client tries again, so that a test fails at once
        status, answer = 501, ApiError(501, "notImplemented", "The stand-in broke; see its stderr").envelope()
        cut = False
        try:
            if split.path.startswith("/__"):
                status, answer = 200, self._control(split.path, _body(raw))
            else:
                fault, answer = self._call(split.path, dict(parse_qsl(split.query, keep_blank_values=True)), raw)
                status = 200
        except ApiError as error:
            status, answer, headers = error.code, error.envelope(), error.headers
        except _CutError:
            cut = True
        finally:
            if cut:
                self._cut()
            else:
                self._send(status, answer, headers, cut_in_body=fault is not None and fault.reset == "body")

    def _call(self, path: str, query: dict[str, str], raw: bytes) -> tuple[Fault | None, Json]:
        found = self._route(path)
        name = found[0] if found else "unknown"
        logged = self.server.requests.add(Request(name, path, _body(raw, self.headers), query))
        try:
            logged.token = self.server.tokens.check(self.headers.get("Authorization"))
            fault = self.server.faults.take(name, path)
            if fault is not None and fault.reset == "before":
                raise _CutError
            if fault is not None and fault.refuses:
                raise fault.error(path)
            if found is None:
                raise ApiError(404, "notFound", "The requested URL was not found on this server.")
            names = {key: unquote(value) for key, value in found[2].items()}
            cells = fault.cells if fault is not None else {}
            answer = found[1](Call(names, query, logged.body, logged.token, cells))
        except ApiError as error:
            logged.status = error.code
            raise
        logged.status = 200
        return fault, answer

    def _route(self, path: str) -> tuple[str, Callable[[Call], Json], dict[str, str]] | None:
        prefix = next(prefix for prefix in _PREFIXES if path.startswith(prefix))
        return self.server.routes.match(self.command, path[len(prefix) :])

    def _control(self, path: str, body: Any) -> Json:
        """The endpoints by which another process scripts this one."""
        server, asked = self.server, (self.command, path)
        if asked == ("POST", "/__faults"):
            for described in body if isinstance(body, list) else [body]:
                server.faults.add_json(described)
        elif asked == ("DELETE", "/__faults"):
            server.faults.clear()
        elif asked == ("DELETE", "/__requests"):
            server.requests.clear()
        elif asked == ("POST", "/__tokens"):
            for verb, act in _token_verbs(server.tokens).items():
                for token in body.get(verb, ()):
                    act(token)
        elif asked == ("POST", "/__settings"):
            server.jobs.latency_s = float(body.get("job_latency_s", server.jobs.latency_s))
        elif self.command != "GET" or path not in ("/__faults", "/__requests"):
            raise ApiError(404, "notFound", f"No control endpoint {self.command} {path}")
        shown = [asdict(request) for request in server.requests] if path == "/__requests" else server.faults.listed()
        return {"requests" if path == "/__requests" else "faults": shown}

    def _send(self, status: int, answer: Json, headers: dict[str, str], cut_in_body: bool) -> None:
        payload = json.dumps(answer).encode()
        sent = {"Content-Type": "application/json; charset=UTF-8"} | headers
        if len(payload) > _GZIP_FROM_BYTES and "gzip" in self.headers.get("Accept-Encoding", ""):
            payload, sent["Content-Encoding"] = gzip.compress(payload, 1), "gzip"
        self.send_response(status)
        for name, value in (sent | {"Content-Length": str(len(payload))}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(payload[: len(payload) // 2] if cut_in_body else payload)
        except ConnectionError:
            self.close_connection = True
        if cut_in_body:
            self._cut()

    def _cut(self) -> None:
        """End the connection with a reset, as a broken network does."""
        self.close_connection = True
        self.wfile.flush()
        # SO_LINGER of zero seconds makes close() send RST
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class _CutError(Exception):
    """The connection is to be cut before an answer."""


def _token_verbs(tokens: Tokens) -> dict[str, Callable[[str], None]]:
    return {"accept": tokens.accept, "accept_prefix": tokens.accept_prefix, "expire": tokens.expire}


def _body(raw: bytes, headers: Any = None) -> Any:
    if not raw:
        return {}
    if headers is not None and headers.get("Content-Encoding") == "gzip":
        raw = gzip.decompress(raw)
    try:
        return json.loads(raw)
    except ValueError:
        raise invalid("Invalid JSON payload received.") from None
