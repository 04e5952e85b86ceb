"""A company's forward proxy on loopback: CONNECT for a few of Google's names, with certificates of its own authority.

What a client sends to Google's BigQuery reaches a stand-in, what it sends to Google's login is answered here, and what
speaks HTTP/2, as gRPC does, is cut. Nothing leaves this machine.
"""

from __future__ import annotations

import datetime
import json
import socket
import socketserver
import ssl
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOGIN, BIGQUERY, STORAGE = "oauth2.googleapis.com", "bigquery.googleapis.com", "bigquerystorage.googleapis.com"
TOKEN = {"access_token": "ya29.of-a-person", "expires_in": 3600, "token_type": "Bearer"}


class Proxy(ABC):
    """A proxy in a thread while its block runs. `asked` has the `host:port` of every CONNECT, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            rbufsize = 0  # what follows the head belongs to TLS

            def handle(self) -> None:
                target = self.rfile.readline(4096).decode().split()[1]
                owner.asked.append(target)
                while self.rfile.readline(4096) not in (b"\r\n", b""):
                    continue
                owner.lead(self.connection, target.rpartition(":")[0])

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that has left is nobody's error."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @abstractmethod
    def lead(self, client: socket.socket, host: str) -> None:
        """Answer the client, which has asked for that host; the connection ends with the return."""


class ForwardProxy(Proxy):
    """`api` is the address of the stand-in; `logins` has the first line of every request for a token."""

    def __init__(self, folder: Path, api: str) -> None:
        super().__init__()
        self.roots = folder / "company.pem"
        self.logins: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(_certificate(folder, self.roots))
        self._context.set_alpn_protocols(["http/1.1"])
        self._upstream = urlsplit(api)

    def lead(self, client: socket.socket, host: str) -> None:
        if host not in (LOGIN, BIGQUERY):
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with self._context.wrap_socket(client, server_side=True) as secured:
            if host == LOGIN:
                _log_in(secured, self.logins)
            else:
                _tunnel(secured, (str(self._upstream.hostname), int(self._upstream.port or 80)))


def _log_in(client: ssl.SSLSocket, logins: list[str]) -> None:
    """Every request is one for a token; its first line is in `logins` before the answer is sent."""
    received = b""
    while b"grant_type=refresh_token" not in received:
        piece = client.recv(4096)
        if not piece:
            return
        received += piece
    body = json.dumps(TOKEN).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    logins.append(received.decode().splitlines()[0])
    client.sendall(head % len(body) + body)


def _tunnel(client: ssl.SSLSocket, address: tuple[str, int]) -> None:
    """Both ways until either side has ended."""
    with socket.create_connection(address) as server:
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        server.shutdown(socket.SHUT_WR)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    while piece := source.recv(65_536):
        target.sendall(piece)


def _certificate(folder: Path, roots: Path) -> Path:
    """Key and certificate for those names in one file, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "company")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in (LOGIN, BIGQUERY, STORAGE)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    roots.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    both = folder / "company-key.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + roots.read_bytes())
    return both
