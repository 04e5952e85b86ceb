"""`usage`: whose identity BigQuery sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.instances import bigquery_at, body_of, connected, remote_table
from support.metadata_server import MetadataServer

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.stand_in import StandIn


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MetadataServer]:
    """A machine of Google's, whose metadata server has a token; nobody has named another identity."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with MetadataServer() as metadata:
        monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
        monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
        yield metadata


def key_of(token_server: MetadataServer, path: Path) -> Path:
    """A service account's key, whose tokens come from that server."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "project_id": "my-project", "client_email": "reader@my-project.example"}
    path.write_text(json.dumps({**account, "private_key": pem, "token_uri": f"http://{token_server.host}/token"}))
    return path


async def token_of(bq: StandIn, folder: Path) -> dict[str, Any]:
    """What `usage` says of the token, before and after BigQuery was asked for a table."""
    place = bigquery_at(bq)
    entry = remote_table("t")
    given = {"data_dir": str(folder / "data"), "data_source": {"bigquery": place}, "tables": [entry]}
    async with Gateway(Settings.model_validate(given)) as gateway, connected(gateway, "auto") as client:
        assert "token" not in body_of(await client.call_tool("usage", {}))["bigquery"]
        assert not (await client.call_tool("schema", {"table_id": "t"})).is_error
        answer = body_of(await client.call_tool("usage", {}))
        found: dict[str, Any] = answer["bigquery"]["token"]
        assert "canary" not in json.dumps(answer), "the token itself is nobody's to see"
        return found


@pytest.mark.parametrize("named", [False, True])
async def test_usage_says_which_identity_was_taken(
    machine: MetadataServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Who names a file of credentials does not want the machine's account, which would win otherwise."""
    with StandIn(project="my-project") as bq, MetadataServer("ya29.canary-named") as token_server:
        bq.create_table("my_dataset", "t", schema="id INT64", rows=[{"id": 1}])
        if named:
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_of(token_server, tmp_path / "key.json")))
        told = await token_of(bq, tmp_path)
    taken = ("adc", "service_account") if named else ("metadata", "the machine's service account")
    assert (told["origin"], told["identity"]) == taken
