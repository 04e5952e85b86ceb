"""An OpenID provider's keys on loopback, and tokens signed with them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE = "agnes"


@dataclass
class Provider:
    """`asked` counts fetches of the keys; `broken` makes them fail; `instead` is what is sent in their place."""

    url: str = ""
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    asked: int = 0
    broken: bool = False
    instead: bytes = b""

    def __post_init__(self) -> None:
        self.add_key("first")

    def add_key(self, key_id: str) -> None:
        self.keys[key_id] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def claims(self, name: str, **more: Any) -> dict[str, Any]:
        return {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "1",
            "email": name,
            "exp": int(time.time()) + 300,
            **more,
        }

    def token(self, name: str, key_id: str = "first", **more: Any) -> str:
        """A token for that user; a claim given as None is left out."""
        claims = {key: value for key, value in self.claims(name, **more).items() if value is not None}
        return jwt.encode(claims, self.keys[key_id], algorithm="RS256", headers={"kid": key_id})

    def jwks(self) -> dict[str, Any]:
        public = [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}
            for key_id, key in self.keys.items()
        ]
        return {"keys": public}


@contextmanager
def serving_keys() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            body = b"broken" if provider.broken else provider.instead or json.dumps(provider.jwks()).encode()
            self.send_response(500 if provider.broken else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
