"""The transport through which google-auth reaches the GCE metadata server: bounded in time and size, never redirected.

google-auth retries for 15 to 30 seconds, follows redirects, takes any body and accepts any JSON. Here one answer costs
at most `ANSWER_TIMEOUT_S`, however slowly it drips, and is checked before google-auth sees it.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import os
import random
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

#: Where GCE answers. The address, not the name, so that no name server is asked outside Google Cloud.
DEFAULT_ADDRESS = "169.254.169.254"
DEFAULT_HOST = "metadata.google.internal"
#: A link-local service answers in a millisecond or is not there.
CONNECT_TIMEOUT_S = 0.5
#: One answer, from the first byte sent to the last byte read. google-auth waits as long for one.
ANSWER_TIMEOUT_S = 3.0
#: All tries together, so that metadata server and fallback fit into ten seconds.
TOTAL_TIMEOUT_S = 5.0
#: Token answers are about 1 KiB.
MAX_BODY_BYTES = 64 * 1024
#: The longest life of an access token that Google issues (12 h, by organisation policy; 1 h is usual).
MAX_LIFETIME_S = 12 * 3600
#: Statuses worth a second try, as google-auth has them.
RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
ATTEMPTS = 3


class MetadataError(Exception):
    """Why the metadata server gave no token. The text holds no part of the answer's body."""


@dataclass
class Answer:
    """What google-auth reads of a response."""

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


def address() -> tuple[str, int, bool]:
    """Host, port, and whether the operator named it: GCE_METADATA_HOST (or _ROOT), GCE_METADATA_IP, then the default.

    Read at every request; google-auth reads them once, at import.
    """
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"):
        if value := os.environ.get(name, "").strip():
            parts = urlsplit(f"//{value}")
            return parts.hostname or "", parts.port or 80, True
    return DEFAULT_ADDRESS, 80, False


def configured() -> bool:
    return address()[2]


class Transport:
    """A `google.auth.transport.Request` that speaks to the metadata server only.

    `expiry_unknown`: the token that it got says nothing of its life.
    """

    def __init__(self) -> None:
        self.expiry_unknown = False

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Answer:
        """Raises `MetadataError`, which google-auth does not retry. `timeout` is google-auth's and has no effect."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if "recursive=true" in parts.query:
            return _account()
        answer = _exchange_with_retries(method, path, body, dict(headers or {}))
        if parts.path.endswith("/token"):
            content = _checked_token(answer.data)
            self.expiry_unknown = content.get("expires_in") is None
            told = json.dumps({**content, "expires_in": content.get("expires_in") or 0})  # google-auth insists on one
            return Answer(200, {"content-type": "application/json"}, told.encode())
        return answer


def _account() -> Answer:
    """What google-auth asks before each token: the account's e-mail and scopes. Unused here, so nobody is asked."""
    content = {"email": "default", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    return Answer(200, {"content-type": "application/json"}, json.dumps(content).encode())


def _exchange_with_retries(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    """The first answer with status 200; only a retryable status is asked again, with jitter."""
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    answer = exchange(method, path, body, headers, deadline)
    for attempt in range(1, ATTEMPTS):
        if answer.status not in RETRYABLE:
            break
        time.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)  # noqa: S311 - jitter, not a secret
        answer = exchange(method, path, body, headers, deadline)
    if 300 <= answer.status < 400:
        raise MetadataError(f"metadata server redirected ({answer.status}); not followed")
    if answer.status == 404:
        raise MetadataError("metadata server answered 404: no service account is attached to this machine")
    if answer.status != 200:
        raise MetadataError(f"metadata server answered {answer.status}")
    if not _googles(answer) and not _googles(exchange("GET", "/", None, {}, deadline)):
        raise MetadataError("metadata server unreachable: what answers at its address is not Google's")
    return answer


def _googles(answer: Answer) -> bool:
    """Google's server puts this header on every answer; some fakes only on the one to `GET /`, as google-auth asks."""
    return answer.status == 200 and answer.headers.get("metadata-flavor") == "Google"


def exchange(method: str, path: str, body: bytes | None, headers: dict[str, str], deadline: float) -> Answer:
    """One request and its whole answer, no later than `deadline` (monotonic). Raises `MetadataError`."""
    host, port, named = address()
    deadline = min(deadline, time.monotonic() + ANSWER_TIMEOUT_S)
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.sendall(_request(method, path, host if named else DEFAULT_HOST, port, body, headers))
            answer = _read(connection, method, deadline)
    except TimeoutError:
        raise MetadataError("metadata server unreachable: no answer in time") from None
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise MetadataError(f"metadata server unreachable: {reason}") from None
    except http.client.HTTPException as error:
        raise MetadataError(f"metadata server unreachable: not an HTTP answer ({type(error).__name__})") from None
    return answer


def _request(method: str, path: str, host: str, port: int, body: bytes | None, headers: dict[str, str]) -> bytes:
    host_header = host if port == 80 else f"{host}:{port}"
    fields = {**headers, "Host": host_header, "Metadata-Flavor": "Google", "Connection": "close"}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("ascii") + b"\r\n" + (body or b"")


def _read(connection: socket.socket, method: str, deadline: float) -> Answer:
    response = http.client.HTTPResponse(_DeadlineSocket(connection, deadline), method=method)  # type: ignore[arg-type] # only makefile is used
    try:
        response.begin()
        content = response.read(MAX_BODY_BYTES + 1)
        missing = response.length
    finally:
        response.close()
    if missing and len(content) <= MAX_BODY_BYTES:
        raise MetadataError("metadata server unreachable: its answer was cut short")
    if len(content) > MAX_BODY_BYTES:
        raise MetadataError(f"metadata response not JSON: longer than {MAX_BODY_BYTES} bytes")
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


class _DeadlineSocket(io.RawIOBase):
    """A socket as a file whose every read waits only as long as is left of one deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _checked_token(body: bytes) -> dict[str, Any]:
    """Raise `MetadataError` unless google-auth may take this answer as it is."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise MetadataError("metadata response not JSON") from None
    if not isinstance(content, dict):
        raise MetadataError("no access_token in response: not a JSON object")
    token = content.get("access_token")
    if not isinstance(token, str) or not token:
        raise MetadataError("no access_token in response")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise MetadataError("no access_token in response: not a bearer token")
    told = content.get("expires_in")
    if told is not None and lifetime_s(told) is None:
        raise MetadataError(
            f"no usable expires_in in response{f': {told:g} seconds' if type(told) in (int, float) else ''}"
        )
    return {**content, "expires_in": lifetime_s(told)}


def lifetime_s(expires_in: object) -> int | None:
    """Seconds for which a token says that it is good, as a number or, as some services write it, its text; None: it
    does not say, or nothing that can be."""
    if isinstance(expires_in, str):
        try:
            expires_in = float(expires_in)
        except ValueError:
            return None
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not math.isfinite(expires_in):
        return None
    return int(expires_in) if 0 < expires_in <= MAX_LIFETIME_S else None
