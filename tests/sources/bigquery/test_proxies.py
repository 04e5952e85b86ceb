"""The way out through a company's proxy: Google's own clients, and a proxy on the loopback interface."""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import datetime
import json
import socketserver
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.cloud.bigquery_storage_v1.types import ReadSession
from support.metadata_server import MetadataServer, closed_port

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.sources.bigquery.clients import Clients
from agnes_mcp.sources.bigquery.errors import FOREIGN, read_complaint, translate
from agnes_mcp.sources.bigquery.proxies import is_beside_us, proxy_for
from agnes_mcp.sources.bigquery.requests import NO_RETRY
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.stand_in import StandIn

PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
NO_PROXY_NAMES = ("NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_NAMES, *NO_PROXY_NAMES):
        monkeypatch.delenv(name, raising=False)


class Proxy:
    """A forward proxy that answers CONNECT for every host itself, with a certificate for it: nothing leaves here."""

    def __init__(self, folder: Path, answer: bytes) -> None:
        key, chain = _certificate("oauth2.googleapis.com")
        self.bundle = folder / "roots.pem"
        self.bundle.write_bytes(chain)
        (folder / "both.pem").write_bytes(key + chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "both.pem")
        self.asked: list[str] = []
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                owner.asked.append(self.rfile.readline().decode().strip())
                while self.rfile.readline() not in (b"\r\n", b""):
                    continue
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                with context.wrap_socket(self.connection, server_side=True) as secured:
                    received = b""
                    while b"refresh_token" not in received:
                        received += secured.recv(4096)
                    owner.asked.append(received.decode().splitlines()[0])
                    secured.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer)
                    )

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _certificate(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, made.public_bytes(serialization.Encoding.PEM)


def test_a_login_of_gcloud_reaches_google_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metadata: MetadataServer
) -> None:
    """The real token endpoint, whose name google-auth has built in: only a proxy can stand in for it."""
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    answer = json.dumps({"access_token": "ya29.of-a-person", "expires_in": 3600}).encode()
    with Proxy(tmp_path, answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.bundle))
        source = TokenSource()
        assert source.token() == "ya29.of-a-person"
        assert source.health()["identity"] == "authorized_user"
        assert [line.rpartition(" ")[0] for line in proxy.asked] == ["CONNECT oauth2.googleapis.com:443", "POST /token"]
        assert metadata.requests == []


def test_a_proxy_is_not_asked_for_what_answers_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer
) -> None:
    with StandIn() as bq, closed_port() as nobody:
        bq.create_table("my_dataset", "numbers", schema="id INT64", sql="SELECT i AS id FROM range(5) t(i)")
        for name in PROXY_NAMES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
        clients = Clients(
            BigQuerySettings(
                project="my-project", api_endpoint=bq.api_endpoint, storage_endpoint=f"grpc://{bq.grpc_target}"
            )
        )
        found = clients.rest.get_table("my-project.my_dataset.numbers")
        assert found.num_rows == 5
        session = clients.storage.create_read_session(
            parent="projects/my-project",
            read_session=ReadSession(
                table="projects/my-project/datasets/my_dataset/tables/numbers", data_format="ARROW"
            ),
            metadata=clients.storage_metadata(),
        )
        assert session.streams
        clients.close()


class Refusing:
    """A proxy that answers every CONNECT with one line, or, for none, not at all."""

    def __init__(self, answer: bytes) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode().strip()
                while self.rfile.readline() not in (b"\r\n", b""):
                    continue
                owner.asked.append(line.rpartition(" ")[0])
                if not answer:
                    owner.over.wait(60)
                self.wfile.write(answer + b"\r\n\r\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://user:hunter2@127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Refusing:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def complaints(timeout_s: float = 30.0) -> list[Exception]:
    """What both of Google's clients raise on the way to Google itself, REST first."""
    clients = Clients(BigQuerySettings(project="my-project", auth="metadata"))
    session = ReadSession(table="projects/my-project/datasets/my_dataset/tables/numbers")
    found = []
    for ask in (
        lambda: clients.rest.get_table("my-project.my_dataset.numbers", retry=NO_RETRY, timeout=timeout_s),
        lambda: clients.storage.create_read_session(
            parent="projects/my-project", read_session=session, retry=None, timeout=timeout_s
        ),
    ):
        try:
            ask()
        except FOREIGN as error:
            found.append(error)
    clients.close()
    return found


BOTH = ["CONNECT bigquery.googleapis.com:443", "CONNECT bigquerystorage.googleapis.com:443"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_both_clients_take_the_proxy_however_it_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer
) -> None:
    with Refusing(b"HTTP/1.1 502 Bad Gateway") as proxy:
        monkeypatch.setenv(name, proxy.url)
        assert len(complaints()) == 2
        assert sorted(set(proxy.asked)) == BOTH


@pytest.mark.parametrize(("status", "passing"), [(407, False), (403, False), (502, True), (503, True)])
def test_a_proxy_that_does_not_lead_on_is_told_as_one(
    status: int, passing: bool, monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer
) -> None:
    with Refusing(b"HTTP/1.1 %d No" % status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        for raised in complaints():
            error = translate(raised, "reading the schema")
            assert (error.kind, read_complaint(raised).passing) == ("bq_unreachable", passing)
            assert f"the proxy answered {status}" in error.message
            assert "HTTPS_PROXY" in error.hint
            assert "hunter2" not in error.message


def test_a_proxy_that_says_nothing_costs_the_time_of_one_request(
    monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer
) -> None:
    with Refusing(b"") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert all(read_complaint(raised).passing for raised in complaints(0.5))


def test_a_proxy_that_is_not_there_or_speaks_socks_is_told(
    monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer
) -> None:
    with closed_port() as nobody:
        for url, wording in (
            (f"http://u:hunter2@127.0.0.1:{nobody}", "proxy"),
            (f"socks5://127.0.0.1:{nobody}", "SOCKS"),
        ):
            monkeypatch.setenv("HTTPS_PROXY", url)
            error = translate(complaints(5)[0])
            assert (error.kind, "hunter2" in error.message) == ("bq_unreachable", False)
            assert wording in error.message


@pytest.mark.parametrize("name", NO_PROXY_NAMES)
def test_what_needs_no_proxy_is_asked_directly_by_both(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert proxy_for("bigquery.googleapis.com") == "http://proxy.example:3128"
    monkeypatch.setenv(name, "other.example,.googleapis.com")
    assert proxy_for("bigquery.googleapis.com") is None
    assert proxy_for("bigquery.cloud.example") == "http://proxy.example:3128"


BESIDE_US = (
    "127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST.", "db.localhost", "::1", "[::1]", "::ffff:127.0.0.1", "::",
    "169.254.169.254", "fe80::1", "fd00:ec2::254", "metadata.google.internal", "metadata.google.internal.", "metadata",
)  # fmt: skip


@pytest.mark.parametrize("host", BESIDE_US)
def test_no_proxy_reaches_this_machine_or_a_metadata_server_for_us(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_NAMES:
        monkeypatch.setenv(name, "http://proxy.example:3128")
    assert is_beside_us(host)
    assert proxy_for(host) is None


@pytest.mark.parametrize(
    "host", ["bigquery.googleapis.com", "10.0.0.1", "localhost.example", "notlocalhost", "", "fd00::1"]
)
def test_everybody_else_is_elsewhere(host: str) -> None:
    assert not is_beside_us(host)
