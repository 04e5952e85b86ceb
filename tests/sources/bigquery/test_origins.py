"""Every way to be somebody at Google: google-auth itself, and real servers on the loopback interface."""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import datetime
import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.cloud.bigquery_storage_v1.types import ReadSession
from support.metadata_server import MetadataServer, closed_port, json_reply

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.clients import Clients
from agnes_mcp.sources.bigquery.origins import SCOPE
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.stand_in import StandIn

DRIVE = "https://www.googleapis.com/auth/drive.readonly"
LATER = "2999-01-01T00:00:00Z"


class Answers:
    """A server that records (method, path, headers, body) and answers by path."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length).decode()
                path = self.path.split("?")[0]
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.requests.append((self.command, self.path, headers, body))
                answer = owner.answers.get(path)
                content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(404 if answer is None else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[Answers]:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def paths(self) -> list[str]:
        return [path.split("?")[0] for _, path, _, _ in self.requests]


@pytest.fixture
def google() -> Iterator[Answers]:
    """Google's token services."""
    answers = {
        "/sts": {
            "access_token": "ya29.federated",
            "expires_in": 3600,
            "token_type": "Bearer",
            "issued_token_type": "x",
        },
        "/v1/projects/-/serviceAccounts/bot@my-project.iam.gserviceaccount.com:generateAccessToken": {
            "accessToken": "ya29.acting",
            "expireTime": LATER,
        },
    }
    with Answers(answers).serving() as google:
        yield google


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Another cloud's metadata server, at the address that is GCE's too."""
    aws = {"AccessKeyId": "AKIA", "SecretAccessKey": "secret", "Token": "session"}
    answers = {
        "/metadata/identity/oauth2/token": {"access_token": "azure-identity"},
        "/latest/meta-data/placement/availability-zone": "eu-west-1b",
        "/latest/meta-data/iam/security-credentials": "my-role",
        "/latest/meta-data/iam/security-credentials/my-role": aws,
        "/latest/api/token": "imds-session",
    }
    with Answers(answers).serving() as cloud:
        monkeypatch.setenv("GCE_METADATA_HOST", cloud.host)
        monkeypatch.setenv("GCE_METADATA_IP", cloud.host)
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        yield cloud


def name_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: dict[str, Any]) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


def federated(google: Answers, source: dict[str, Any], kind: str = "jwt") -> dict[str, Any]:
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": f"urn:ietf:params:{kind}",
        "token_url": f"http://{google.host}/sts",
        "credential_source": source,
    }


def azure(google: Answers, cloud: Answers) -> dict[str, Any]:
    source = {
        "url": f"http://{cloud.host}/metadata/identity/oauth2/token?resource=api://x",
        "headers": {"Metadata": "True"},
        "format": {"type": "json", "subject_token_field_name": "access_token"},
    }
    return federated(google, source, "oauth:token-type:jwt")


def test_a_workload_on_azure_has_its_identity_from_azures_metadata_server(
    google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name_file(monkeypatch, tmp_path, azure(google, cloud))
    source = TokenSource()
    assert source.token() == "ya29.federated"
    assert cloud.paths() == ["/metadata/identity/oauth2/token"]
    assert "subject_token=azure-identity" in google.requests[0][3]
    assert (source.health()["origin"], source.health()["identity"]) == ("adc", "external_account")


def test_a_workload_on_aws_asks_only_what_its_file_names(
    google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = {
        "environment_id": "aws1",
        "region_url": f"http://{cloud.host}/latest/meta-data/placement/availability-zone",
        "url": f"http://{cloud.host}/latest/meta-data/iam/security-credentials",
        "imdsv2_session_token_url": f"http://{cloud.host}/latest/api/token",
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    }
    content = federated(google, source, "aws:token-type:aws4_request")
    name_file(monkeypatch, tmp_path, content)
    assert TokenSource().token() == "ya29.federated"
    assert all(path.startswith("/latest/") for path in cloud.paths())


def test_nothing_else_of_that_address_is_reached(
    google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that names GCE's own token as its source would lend the machine's identity to somebody else's service."""
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    cloud.answers[path] = {"access_token": "ya29.of-the-machine", "expires_in": 3600}
    content = azure(google, cloud)
    content["credential_source"]["url"] = f"http://{cloud.host}{path}"
    name_file(monkeypatch, tmp_path, content)
    with pytest.raises(AgnesError) as told:
        TokenSource().token()
    assert told.value.kind == "auth_failed"
    assert cloud.requests == []
    assert google.requests == []


@pytest.mark.parametrize("from_file", [True, False])
def test_another_account_is_acted_for(
    from_file: bool, google: Answers, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a file of that type, or by the setting over the machine's own account."""
    account = "bot@my-project.iam.gserviceaccount.com"
    url = f"http://{google.host}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    if from_file:
        google.answers["/metadata/identity/oauth2/token"] = {"access_token": "azure-identity"}
        name_file(monkeypatch, tmp_path, {**azure(google, google), "service_account_impersonation_url": url})
        source = TokenSource(scopes=[DRIVE])
    else:
        source = TokenSource(impersonate=account, iam_endpoint=f"http://{google.host}", scopes=[DRIVE])
    assert source.token() == "ya29.acting"
    method, _, headers, body = google.requests[-1]
    assert (method, json.loads(body)["scope"]) == ("POST", [SCOPE, DRIVE])
    assert headers["authorization"].startswith("Bearer ya29.")
    identity = "external_account" if from_file else "impersonated, by the machine's service account"
    assert source.health()["identity"] == identity


def test_an_account_that_may_not_be_acted_for_is_told_without_its_answer(
    google: Answers, metadata: MetadataServer
) -> None:
    google.answers.clear()
    with pytest.raises(AgnesError) as told:
        TokenSource(impersonate="bot@my-project.iam.gserviceaccount.com", iam_endpoint=f"http://{google.host}").token()
    assert "impersonation of the configured service account" in told.value.message
    assert "canary" not in f"{told.value.message}{told.value.hint}"


def test_scopes_reach_the_metadata_server(metadata: MetadataServer) -> None:
    TokenSource(scopes=[DRIVE]).token()
    assert "drive.readonly" in metadata.requests[-1][0]
    assert "cloud-platform" in metadata.requests[-1][0]


def test_gke_answers_like_a_machine_of_its_own(metadata: MetadataServer) -> None:
    """GKE's metadata server knows fewer paths and calls itself otherwise; the token's is the same."""
    metadata.root_reply = json_reply({"error": "not found"}, status=404)
    metadata.reply = json_reply(
        {"access_token": "ya29.of-a-pod", "expires_in": 3599, "token_type": "Bearer"},
        headers={"Server": "GKE Metadata Server", "Metadata-Flavor": "Google"},
    )
    source = TokenSource()
    assert (source.token(), source.token()) == ("ya29.of-a-pod", "ya29.of-a-pod")
    assert metadata.token_requests == 1


def test_a_token_without_an_expiry_is_used_once_and_not_kept(metadata: MetadataServer) -> None:
    metadata.reply = json_reply({"access_token": "ya29.nobody-knows", "token_type": "Bearer"})
    source = TokenSource()
    assert (source.token(), source.token()) == ("ya29.nobody-knows", "ya29.nobody-knows")
    assert metadata.token_requests == 2
    headers: dict[str, str] = {}
    source.credentials.before_request(None, "GET", "http://x", headers)
    assert headers["authorization"] == "Bearer ya29.nobody-knows"


def test_credentials_of_another_universe_are_not_sent_to_this_one(
    google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name_file(monkeypatch, tmp_path, {**azure(google, cloud), "universe_domain": "cloud.example"})
    with pytest.raises(AgnesError, match="universe_domain"):
        TokenSource().token()
    assert TokenSource(universe_domain="cloud.example").token() == "ya29.federated"


def test_both_clients_speak_to_the_universe_that_is_configured() -> None:
    clients = Clients(BigQuerySettings(project="my-project", universe_domain="cloud.example", auth="metadata"))
    assert clients.rest._connection.API_BASE_URL == "https://bigquery.cloud.example"
    assert clients.storage.api_endpoint == "bigquerystorage.cloud.example"
    clients.close()


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
    name_file(monkeypatch, tmp_path, user)
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
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
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
