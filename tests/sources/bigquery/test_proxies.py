"""The way out through a company's proxy: Google's own clients, and a proxy on the loopback interface."""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from google.cloud.bigquery_storage_v1.types import ReadSession
from support.forward_proxy import BIGQUERY, STORAGE, TOKEN, ForwardProxy, Proxy
from support.metadata_server import MetadataServer, closed_port
from support.waiting import PATIENCE_S

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


def test_a_login_of_gcloud_reaches_google_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metadata: MetadataServer
) -> None:
    """The real token endpoint, whose name google-auth has built in: only a proxy can stand in for it."""
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with StandIn() as bq, ForwardProxy(tmp_path, bq.api_endpoint) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.roots))
        source = TokenSource()
        assert source.token() == TOKEN["access_token"]
        assert source.health()["identity"] == "authorized_user"
        assert proxy.asked == ["oauth2.googleapis.com:443"]
        assert proxy.logins == ["POST /token HTTP/1.1"]
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


class Refusing(Proxy):
    """A proxy that answers every CONNECT with one line, or, for none, not at all."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.url = f"http://user:hunter2@{self.address}"
        self._answer = answer
        self._over = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        super().__exit__(*error)

    def lead(self, client: socket.socket, host: str) -> None:
        if not self._answer:
            self._over.wait(PATIENCE_S)
        client.sendall(self._answer + b"\r\n\r\n")


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


BOTH = [f"{BIGQUERY}:443", f"{STORAGE}:443"]


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
