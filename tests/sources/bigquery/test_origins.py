"""Every way to be somebody at Google: google-auth itself, and real servers on the loopback interface."""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import credentials as oauth2
from support.metadata_server import MetadataServer, json_reply

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.clients import Clients
from agnes_mcp.sources.bigquery.origins import SCOPE, Found, impersonated
from agnes_mcp.sources.bigquery.token_requests import BoundedRequest
from agnes_mcp.sources.bigquery.tokens import TokenSource

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


def name_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: Any) -> Path:
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


KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def service_account(google: Answers) -> dict[str, Any]:
    return {
        "type": "service_account",
        "private_key": KEY.decode(),
        "client_email": "bot@my-project.iam.gserviceaccount.example",
        "token_uri": f"http://{google.host}/token",
    }


@pytest.mark.parametrize("from_file", [True, False])
def test_accounts_pass_on_the_right_to_act(
    from_file: bool, google: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a file of that type, as gcloud writes it, and by the setting; google-auth knows the address of the service."""
    account, between = "bot@my-project.iam.gserviceaccount.com", "between@my-project.iam.gserviceaccount.com"
    google.answers["/token"] = {"access_token": "ya29.first", "expires_in": 3600}
    monkeypatch.setattr(
        "google.auth.iam._IAM_ENDPOINT", f"http://{google.host}/v1/projects/-/serviceAccounts/{{}}:generateAccessToken"
    )
    content = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": f"https://iam.example/v1/{account}:generateAccessToken",
        "source_credentials": service_account(google),
        "delegates": [f"projects/-/serviceAccounts/{between}"],
    }
    name_file(monkeypatch, tmp_path, content if from_file else service_account(google))
    settings = BigQuerySettings(project="my-project", impersonate=f"{between},{account}")
    source = TokenSource(impersonate=None if from_file else settings.impersonate)
    assert source.token() == "ya29.acting"
    _, path, headers, body = google.requests[-1]
    assert path.endswith(f"/{account}:generateAccessToken")
    assert [name.rpartition("/")[2] for name in json.loads(body)["delegates"]] == [between]
    assert headers["authorization"] == "Bearer ya29.first"


def test_a_person_is_billed_for_requests_where_their_login_says(
    google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name_file(monkeypatch, tmp_path, {**azure(google, cloud), "quota_project_id": "quota-project"})
    headers: dict[str, str] = {}
    TokenSource().credentials.before_request(None, "GET", "http://x", headers)
    assert headers["x-goog-user-project"] == "quota-project"


UNKNOWN_LIVES: tuple[Any, ...] = (None, "", "soon", 0, -5, "0", True, [], 1e400, 1e12, "nan", float("nan"))


@pytest.mark.parametrize("expires_in", [3599, "3599", 3599.5, "3599.0", *UNKNOWN_LIVES], ids=repr)
@pytest.mark.parametrize("kind", ["external_account", "service_account", "external_account_authorized_user"])
def test_a_life_is_read_however_it_is_written_and_what_has_none_is_used_once(
    kind: str, expires_in: Any, google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = {"access_token": "ya29.federated", "expires_in": expires_in, "token_type": "Bearer"}
    if expires_in is None:
        del token["expires_in"]
    google.answers["/sts"] = google.answers["/token"] = {**token, "issued_token_type": "x"}
    ways = {
        "external_account": azure(google, cloud),
        "service_account": service_account(google),
        "external_account_authorized_user": {
            "type": kind,
            "audience": "a",
            "client_id": "c",
            "client_secret": "s",
            "refresh_token": "r",
            "token_url": f"http://{google.host}/sts",
        },
    }
    name_file(monkeypatch, tmp_path, ways[kind])
    source = TokenSource()
    assert (source.token(), source.token()) == ("ya29.federated", "ya29.federated")
    assert len(google.requests) == (2 if expires_in in UNKNOWN_LIVES else 1)


def test_a_life_in_text_holds_at_the_metadata_server_too(metadata: MetadataServer) -> None:
    metadata.reply = json_reply({"access_token": "ya29.of-a-pod", "expires_in": "3599"})
    source = TokenSource()
    assert (source.token(), source.token(), metadata.token_requests) == ("ya29.of-a-pod", "ya29.of-a-pod", 1)


@pytest.mark.parametrize("written", ["{host}", "user@{host}", "LOCALHOST:{port}"])
@pytest.mark.parametrize(
    "path", ["/computeMetadata/v1/token", "/ComputeMetadata/v1/token", "/compute%4detadata/v1/token"]
)
def test_no_spelling_of_the_machines_own_token_is_reached(
    written: str, path: str, google: Answers, cloud: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", f"localhost:{cloud.host.rpartition(':')[2]}")
    content = azure(google, cloud)
    host = written.format(host=cloud.host, port=cloud.host.rpartition(":")[2])
    content["credential_source"]["url"] = f"http://{host}{path}"
    name_file(monkeypatch, tmp_path, content)
    with pytest.raises(AgnesError):
        TokenSource().token()
    assert (cloud.requests, google.requests) == ([], [])


FILES: dict[str, tuple[Any, str]] = {
    "a list": ([], "not a JSON object"),
    "null": (None, "not a JSON object"),
    "a number": (7, "not a JSON object"),
    "no type": ({}, "does not have a valid type"),
    "another type": ({"type": "nobody"}, "does not have a valid type"),
    "a type that is a list": ({"type": ["service_account"]}, "does not have a valid type"),
    "a key without its fields": ({"type": "service_account"}, "missing fields"),
    "a login without its fields": ({"type": "authorized_user"}, "missing fields"),
    "acting without a source": ({"type": "impersonated_service_account"}, "not as it should be"),
    "a source that is text": ({"type": "external_account", "credential_source": "url"}, "not as it should be"),
    "a program": (
        {"type": "external_account", "credential_source": {"executable": {"command": "/bin/true"}}},
        "`executable`",
    ),
}


@pytest.mark.parametrize(("content", "wording"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_none_is_told_and_nobody_else_is_asked(
    content: Any, wording: str, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    name_file(monkeypatch, tmp_path, content)
    if isinstance(content, dict) and content.get("type") == "external_account":
        content |= {"audience": "a", "subject_token_type": "t", "token_url": "http://127.0.0.1:1/sts"}
        name_file(monkeypatch, tmp_path, content)
    with pytest.raises(AgnesError) as told:
        TokenSource().token()
    assert told.value.kind == "auth_failed"
    assert wording in told.value.message
    assert str(tmp_path) not in told.value.message
    assert "GOOGLE_APPLICATION_CREDENTIALS" in told.value.hint
    assert metadata.requests == []


@pytest.mark.parametrize("path", ["", "missing.json", " ", "."])
def test_a_name_of_no_file_is_told_without_the_folder(
    path: str, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Empty is not named, as Google's own libraries take it; everything else is, and wins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", path and str(tmp_path / path) if path != " " else path)
    if not path:
        assert TokenSource().health()["origin"] is None
        assert TokenSource().token() == "ya29.canary-1"
        return
    with pytest.raises(AgnesError) as told:
        TokenSource().token()
    assert str(tmp_path) not in told.value.message
    assert metadata.requests == []


def test_an_account_of_another_universe_is_acted_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(self: object, url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        raise requests.ConnectionError("nobody")

    monkeypatch.setattr(BoundedRequest, "__call__", refuse)
    found = Found(oauth2.Credentials("ya29.x"), "metadata", "the machine's service account")
    told = impersonated(found, "bot@my-project.iam.gserviceaccount.com", [SCOPE], "cloud.example")
    assert isinstance(told, str)
    assert asked[0].startswith("https://iamcredentials.cloud.example/")
