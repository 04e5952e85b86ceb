"""Tokens over the wire: google-auth itself refreshes through a metadata server on the loopback interface."""

# google-auth annotates only a part of itself:
# mypy: disable-error-code="no-untyped-call, attr-defined"

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.transport.requests import AuthorizedSession
from support.metadata_server import MetadataServer, Reply, closed_port, json_reply
from support.waiting import soon

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.tokens import TokenSource
from agnes_mcp.untrusted import redact, remember

TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"


def failure(source: TokenSource) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        source.token()
    assert caught.value.kind == "auth_failed"
    return caught.value


def test_a_token_comes_from_the_metadata_server_with_its_header_and_nothing_else_is_asked(
    metadata: MetadataServer,
) -> None:
    assert TokenSource().token() == "ya29.canary-1"
    ((path, headers),) = metadata.requests
    assert path.split("?")[0] == TOKEN_PATH
    assert headers["metadata-flavor"] == "Google"


def test_a_token_is_reused_while_it_is_good(metadata: MetadataServer) -> None:
    source = TokenSource()
    assert {source.token() for _ in range(20)} == {"ya29.canary-1"}
    assert metadata.token_requests == 1


def test_a_discarded_token_is_fetched_again_and_a_newer_one_is_kept(metadata: MetadataServer) -> None:
    source = TokenSource()
    first = source.token()
    source.discard(first)
    second = source.token()
    source.discard(first)
    assert (second, source.token()) == ("ya29.canary-2", "ya29.canary-2")


def test_a_token_is_replaced_shortly_before_it_expires(
    metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TokenSource()
    source.token()
    started = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: started + 3600 - 230)
    assert source.token() == "ya29.canary-1"
    monkeypatch.setattr(time, "monotonic", lambda: started + 3600 - 220)
    assert source.token() == "ya29.canary-2"


def test_a_wall_clock_set_back_does_not_prolong_a_token(
    metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agnes_mcp.sources.bigquery import tokens

    source = TokenSource()
    source.token()
    started, hour_ago = time.monotonic(), tokens.utcnow().replace(year=2001)
    monkeypatch.setattr(tokens, "utcnow", lambda: hour_ago)
    monkeypatch.setattr(time, "monotonic", lambda: started + 3601)
    assert source.token() == "ya29.canary-2"


def test_a_short_lived_token_is_used_for_half_of_its_life(metadata: MetadataServer) -> None:
    """A token younger than the margin would otherwise be fetched for every call."""
    metadata.expires_in = 60
    source = TokenSource()
    assert source.token() == source.token() == "ya29.canary-1"


def test_a_hundred_cold_callers_make_one_token_request(metadata: MetadataServer) -> None:
    metadata.reply = Reply(delay_s=0.2)
    source, barrier, tokens = TokenSource(), threading.Barrier(100), []

    def ask() -> None:
        barrier.wait(60)
        tokens.append(source.token())

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tokens == ["ya29.canary-1"] * 100
    assert metadata.token_requests == 1


def test_a_hundred_callers_share_one_failure(metadata: MetadataServer) -> None:
    metadata.reply = Reply(status=404, body=b"", delay_s=1.0)
    source, barrier, errors = TokenSource("metadata"), threading.Barrier(100), []

    def ask() -> None:
        barrier.wait(60)
        errors.append(failure(source))

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 100
    assert metadata.token_requests < 10  # a caller that comes after the failure may try again


FAULTS = {
    "refuses": (None, "metadata server unreachable"),
    "silent": (Reply(silent=True), "metadata server unreachable"),
    "slow": (Reply(delay_s=3600), "metadata server unreachable"),
    "dripping": (Reply(drip_s=0.2), "metadata server unreachable"),
    "404": (Reply(status=404, body=b"no account"), "answered 404"),
    "429": (Reply(status=429, body=b"", headers={"Retry-After": "60"}), "answered 429"),
    "500": (Reply(status=500, body=b"ya29.canary-leak"), "answered 500"),
    "503": (Reply(status=503, body=b""), "answered 503"),
    "redirect": (Reply(status=302, body=b"", headers={"Location": "http://127.0.0.1:1/"}), "redirected (302)"),
    "not JSON": (Reply(body=b"<html>ya29.canary-leak</html>"), "metadata response not JSON"),
    "HTML type": (Reply(body=b"<html>", content_type="text/html"), "metadata response not JSON"),
    "deep JSON": (Reply(body=b"[" * 60_000), "metadata response not JSON"),
    "not UTF-8": (Reply(body=b"\xff\xfe\xfa"), "metadata response not JSON"),
    "list": (json_reply([]), "no access_token in response"),
    "null": (json_reply(None), "no access_token in response"),
    "no token": (json_reply({"expires_in": 3600}), "no access_token in response"),
    "empty token": (json_reply({"access_token": "", "expires_in": 3600}), "no access_token in response"),
    "token a number": (json_reply({"access_token": 5, "expires_in": 3600}), "no access_token in response"),
    "token with a newline": (
        json_reply({"access_token": "a\r\nX: y", "expires_in": 60}),
        "no access_token in response",
    ),
    "expires_in 0": (json_reply({"access_token": "ya29.canary-leak", "expires_in": 0}), "no usable expires_in"),
    "expires_in -1": (json_reply({"access_token": "ya29.canary-leak", "expires_in": -1}), "no usable expires_in"),
    "expires_in 1e12": (json_reply({"access_token": "ya29.canary-leak", "expires_in": 1e12}), "no usable expires_in"),
    "expires_in text": (json_reply({"access_token": "ya29.canary-leak", "expires_in": "soon"}), "no usable expires_in"),
    "expires_in true": (json_reply({"access_token": "ya29.canary-leak", "expires_in": True}), "no usable expires_in"),
    "not Google's": (Reply(headers={"Metadata-Flavor": "Other"}), "not Google's"),
    "10 MB": (Reply(body=b" " * 10_000_000), "metadata response not JSON"),
    "cut short": (Reply(headers={"Content-Length": "9"}, body=b"short"), "metadata server unreachable"),
}


@pytest.mark.parametrize(("reply", "wording"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_of_the_metadata_server_is_one_coded_error_in_the_end(
    metadata: MetadataServer, reply: Reply | None, wording: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if reply is None:
        metadata.stop()
    else:
        metadata.reply = reply
    source = TokenSource()
    with soon():
        error = failure(source)
    assert wording in error.message
    assert error.message.startswith("No BigQuery access token. GCE metadata: ")
    assert "; ADC fallback: no Application Default Credentials were found" in error.message
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "canary" not in "".join(traceback.format_exception(error)) + repr(error) + caplog.text
    if reply is None:
        metadata.start_again()
    metadata.reply = Reply()
    assert source.token() == metadata.issued[-1]  # at once after it heals


def test_the_flavour_may_be_on_the_root_alone(metadata: MetadataServer) -> None:
    """It is there that google-auth asks for it."""
    metadata.reply = Reply(headers={"Metadata-Flavor": ""})
    metadata.root_reply = Reply(body=b"")
    assert TokenSource("metadata").token() == "ya29.canary-1"


def test_a_good_token_is_used_while_the_metadata_server_is_down(metadata: MetadataServer) -> None:
    source = TokenSource()
    source.token()
    metadata.stop()
    assert source.token() == "ya29.canary-1"
    metadata.start_again()


def test_a_passing_503_is_tried_again(metadata: MetadataServer) -> None:
    metadata.first = [Reply(status=503, body=b"")]
    assert TokenSource("metadata").token() == "ya29.canary-1"


def test_off_google_cloud_the_metadata_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "192.0.2.1")  # TEST-NET-1: no route, or packets dropped
    with soon():
        error = failure(TokenSource())
    assert "metadata server unreachable" in error.message


def test_no_token_in_repr_or_health(metadata: MetadataServer) -> None:
    source = TokenSource()
    source.token()
    shown = repr(source) + repr(source.credentials) + json.dumps(source.health()) + repr(source.current())
    assert "canary" not in shown
    assert source.health()["origin"] == "metadata"


def test_the_client_library_refreshes_once_on_a_401_and_threads_share_the_refresh(metadata: MetadataServer) -> None:
    """Each thread says which token it sent, so that a late 401 does not drop the new token."""
    source = TokenSource()
    headers: dict[str, str] = {}
    source.credentials.before_request(None, "GET", "http://x", headers)
    assert headers["authorization"] == "Bearer ya29.canary-1"
    sent, go = threading.Barrier(9), threading.Barrier(9)

    def use() -> None:
        source.credentials.before_request(None, "GET", "http://x", {})
        sent.wait(60)
        go.wait(60)
        source.credentials.refresh(None)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    sent.wait(60)
    go.wait(60)
    for thread in threads:
        thread.join(60)
    assert metadata.token_requests == 2
    assert source.token() == "ya29.canary-2"
    AuthorizedSession(source.credentials).close()


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: MetadataServer) -> Path:
    """A service-account key whose token endpoint is the loopback server; nothing listens as metadata server."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    content = {
        "type": "service_account",
        "project_id": "my-project",
        "client_email": "reader@my-project.example",
        "private_key": pem,
        "token_uri": f"http://{metadata.host}/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
    return path


def test_adc_serves_where_there_is_no_metadata_server(key_file: Path, metadata: MetadataServer) -> None:
    source = TokenSource()
    assert source.token() == "ya29.canary-1"
    assert source.health()["origin"] == "adc"


def test_while_adc_works_the_metadata_server_is_not_asked_each_time(
    key_file: Path, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A login of gcloud, which nobody has named: the machine's account comes first again once it is there."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    key_file.rename(tmp_path / "application_default_credentials.json")
    source = TokenSource()
    source.discard(source.token())
    with MetadataServer("ya29.other") as appears:
        monkeypatch.setenv("GCE_METADATA_HOST", appears.host)
        assert source.token() == "ya29.canary-2"
        assert appears.requests == []
        started = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: started + 301)
        source.discard("ya29.canary-2")
        assert source.token() == "ya29.other-1"


def test_adc_can_be_forced_and_the_metadata_server_too(
    key_file: Path, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MetadataServer("ya29.other") as vm:
        monkeypatch.setenv("GCE_METADATA_HOST", vm.host)
        assert TokenSource("adc").token() == "ya29.canary-1"
        assert TokenSource("metadata").token() == "ya29.other-1"
        named = TokenSource("auto")
        assert named.token() == "ya29.canary-2", "who names an identity does not want the machine's"
        assert (named.health()["origin"], named.health()["identity"]) == ("adc", "service_account")


def test_adc_never_falls_through_to_the_metadata_server(metadata: MetadataServer) -> None:
    error = failure(TokenSource("adc"))
    assert "no Application Default Credentials" in error.message
    assert metadata.requests == []


ADC_FAULTS = {
    "missing file": "GOOGLE_APPLICATION_CREDENTIALS",
    "not JSON": "GOOGLE_APPLICATION_CREDENTIALS",
    "refused": "TransportError",
    "denied": "invalid_grant",
    "no token": "access",
}


@pytest.mark.parametrize(("fault", "wording"), ADC_FAULTS.items(), ids=ADC_FAULTS.keys())
def test_every_fault_of_adc_is_told_without_the_path_or_the_key(
    fault: str, wording: str, key_file: Path, metadata: MetadataServer
) -> None:
    if fault == "missing file":
        key_file.unlink()
    elif fault == "not JSON":
        key_file.write_text("ya29.canary-leak")
    elif fault == "refused":
        with closed_port() as port:
            key_file.write_text(key_file.read_text().replace(metadata.host, f"127.0.0.1:{port}"))
    elif fault == "denied":
        metadata.reply = json_reply({"error": "invalid_grant", "access_token": "ya29.canary-leak"}, status=400)
    else:
        metadata.reply = json_reply({"token_type": "ya29.canary-leak"})
    error = failure(TokenSource())
    assert wording in error.message.split("ADC fallback: ")[1]
    assert str(key_file.parent) not in error.message
    assert "canary" not in "".join(traceback.format_exception(error))
    assert "PRIVATE KEY" not in error.message


REDACTIONS = {
    "Authorization: Bearer abc.def-1_ghi": "Authorization: Bearer [redacted]",
    "token ya29.a0Af_x-y.z failed": "token [redacted] failed",
    '{"access_token": "opaque", "n": 1}': '{"access_token[redacted]", "n": 1}',
    "eyJhbGciOi.eyJzdWIiOi.c2ln": "[redacted]",
    "CREATE SECRET s (ACCESS_TOKEN 'opaque')": "CREATE SECRET s (ACCESS_TOKEN[redacted]')",
    "not a bearer token; no access_token in response": "not a bearer token; no access_token in response",
    "Syntax error: Unexpected token: 'x' at [1:5]": "Syntax error: Unexpected token: 'x' at [1:5]",
    "plain text, kept: my-project.my_dataset": "plain text, kept: my-project.my_dataset",
}


@pytest.mark.parametrize(("text", "shown"), REDACTIONS.items())
def test_text_is_shown_without_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_known_secrets_are_removed_whatever_their_shape() -> None:
    remember("hunter2-of-this-test")
    assert redact("say hunter2-of-this-test now") == "say [redacted] now"
