"""Storage Read over TLS, as with BigQuery itself: the channel carries the token. In a process of its own, because gRPC
reads the certificates that it trusts once."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.metadata_server import MetadataServer

from agnes_mcp.stand_in import StandIn

READER = """
import json, logging, sys
from pathlib import Path
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.sources.warehouse import Warehouse
from support.bigquery import call, read_all, statement, table

rest, storage, folder = sys.argv[1:]
logging.basicConfig(level=logging.DEBUG)
warehouse = Warehouse(memory_limit_bytes=256 * 2**20, threads=1, spill_root=Path(folder))
source = BigQuerySource(
    BigQuerySettings(project="my-project", api_endpoint=rest, storage_endpoint=storage), warehouse
)
of = table("numbers")
rows, receipt = read_all(source, of, statement(of, ["id"]))
print(json.dumps({"rows": rows["id"].to_pylist(), "job_id": receipt.job_id, "health": source.health()}))
warehouse.close()
source.close()
"""


def certificate() -> tuple[bytes, bytes]:
    """A self-signed one for this machine's loopback address: private key and certificate in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def tls_bq(tmp_path: Path, metadata: MetadataServer) -> Iterator[tuple[StandIn, dict[str, str]]]:
    key, chain = certificate()
    (tmp_path / "roots.pem").write_bytes(chain)
    with StandIn(require_token=True, grpc_certificate=(key, chain)) as bq:
        bq.tokens.accept_prefix("ya29.canary-")
        bq.create_table("my_dataset", "numbers", schema="id INT64", sql="SELECT i AS id FROM range(5) t(i)")
        tests = str(Path(__file__).parents[2])
        yield (
            bq,
            {
                **os.environ,
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "roots.pem"),
                "PYTHONPATH": tests,
            },
        )


def test_rows_come_over_tls_with_the_token(tls_bq: tuple[StandIn, dict[str, str]], tmp_path: Path) -> None:
    bq, environment = tls_bq
    arguments = [bq.api_endpoint, f"grpcs://{bq.grpc_target}", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", READER, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["rows"] == [0, 1, 2, 3, 4]
    assert answer["job_id"] is None
    assert answer["health"]["token"]["origin"] == "metadata"
    assert {request.token for request in bq.requests.named("ReadRows")} == {"ya29.canary-1"}
    assert "canary" not in done.stdout + done.stderr
