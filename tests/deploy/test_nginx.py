"""MCP through nginx over TLS, with the file as it is shipped but for addresses, ports and the certificate."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from serving.served import Served, bearer, body_of, serve, token_of, user, write_instance
from support import services

pytestmark = pytest.mark.needs("nginx")
SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NAME = "agnes.example.com"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def write_certificate(folder: Path) -> None:
    """A certificate of its own authority, for the name in the file and for loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1)).add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "agnes.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "agnes.key").write_bytes(private)


def placed(folder: Path, upstream: int, plain: int, tls: int) -> Path:
    """The shipped file with this machine's places in it: each must be there to be replaced."""
    text = SHIPPED.read_text("utf-8")
    places = {
        "pid /run/nginx.pid": f"pid {folder}/nginx.pid",
        "error_log /var/log/nginx/error.log": f"error_log {folder}/error.log",
        "server 127.0.0.1:8787": f"server 127.0.0.1:{upstream}",
        "listen 80": f"listen 127.0.0.1:{plain}",
        "listen 443": f"listen 127.0.0.1:{tls}",
        "/etc/nginx/tls/": f"{folder}/",
    }
    for shipped, here in places.items():
        assert shipped in text
        text = text.replace(shipped, here)
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(text.replace("http {\n", "http {\n" + temporary, 1))
    return path


class Proxied:
    def __init__(self, url: str, plain: str, authority: Path, behind: Served) -> None:
        self.url, self.plain, self.behind = url, plain, behind
        self.tls = ssl.create_default_context(cafile=str(authority))

    def http(self, token: str | None = None, **options: Any) -> httpx2.AsyncClient:
        headers = {"Host": NAME, **bearer(token), **options.pop("headers", {})}
        return httpx2.AsyncClient(verify=self.tls, headers=headers, timeout=30, base_url=self.url, **options)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, orders_csv: Path) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    write_certificate(folder)
    instance = write_instance(
        folder / "instance.yaml",
        tables=[{"id": "orders", "path": str(orders_csv)}],
        access={"users": [user("ana", ["orders"])]},
        server={"public_url": f"https://{NAME}"},
    )
    plain, tls = free_port(), free_port()
    with serve(instance) as served:
        config = placed(folder, int(served.url.rsplit(":", 1)[1]), plain, tls)
        nginx = [services.find("nginx"), "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)]
        checked = subprocess.run([*nginx, "-t"], capture_output=True, text=True, timeout=30)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr.replace('"user" directive', "")
        process = subprocess.Popen([*nginx, "-g", "daemon off;"])
        try:
            wait_until_open(tls)
            yield Proxied(f"https://127.0.0.1:{tls}", f"http://127.0.0.1:{plain}", folder / "agnes.crt", served)
        finally:
            process.terminate()
            process.wait(60)


def wait_until_open(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            anyio.run(anyio.sleep, 0.02)
        else:
            return
    raise TimeoutError(port)


@pytest.fixture(scope="module")
def orders_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "orders.csv"
    path.write_text("id,country\n" + "".join(f"{number},CZ\n" for number in range(100)))
    return path


async def test_streamable_http_passes(proxied: Proxied) -> None:
    async with (
        proxied.http(token_of("ana")) as http,
        Client(streamable_http_client(f"{proxied.url}/mcp", http_client=http)) as client,
    ):
        counted = body_of(await client.call_tool("query", {"sql": "SELECT count(*) AS n FROM orders"}))
        assert counted["rows"] == [[100]]
        large = body_of(await client.call_tool("query", {"sql": "SELECT repeat('x', 400) AS t FROM range(90)"}))
        assert large["row_count"] > 50


async def test_events_pass_as_they_come(proxied: Proxied) -> None:
    """An SSE session: its stream stays open while requests go their own way, and nothing is held back by a buffer."""

    def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=proxied.tls, headers={"Host": NAME, **(headers or {})}, timeout=timeout, auth=auth
        )

    with anyio.fail_after(60):
        stream = sse_client(f"{proxied.url}/sse", headers=bearer(token_of("ana")), httpx_client_factory=client)
        async with Client(stream, mode="legacy") as session:
            for _ in range(3):
                tables = body_of(await session.call_tool("catalog", {}))["tables"]
                assert [table["id"] for table in tables] == ["orders"]


async def test_connections_to_the_server_are_kept(proxied: Proxied) -> None:
    """Twenty clients one after another: nginx keeps what it has opened, and needs no twenty."""
    for _ in range(20):
        async with proxied.http() as http:
            assert (await http.get("/healthz")).status_code == 200
    server = psutil.Process(proxied.behind.process.pid)
    opened = [c for c in server.net_connections() if c.status == psutil.CONN_ESTABLISHED]
    assert 1 <= len(opened) <= 8


async def test_plain_http_is_sent_to_tls(proxied: Proxied) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{proxied.plain}/mcp", headers={"Host": NAME})
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{NAME}/mcp")


async def test_strangers_and_large_bodies_stay_outside(proxied: Proxied) -> None:
    async with proxied.http() as http:
        assert (await http.post("/mcp", json={})).status_code == 401
        assert (await http.get("/metrics")).status_code == 404
        assert (await http.post("/mcp", content=b"x" * (2**20 + 1))).status_code == 413
        secure = await http.get("/healthz")
        assert secure.headers["strict-transport-security"] == "max-age=31536000"
        assert "nginx/" not in secure.headers["server"]


async def test_another_name_is_not_served(proxied: Proxied) -> None:
    async with proxied.http(token_of("ana"), headers={"Host": "evil.example"}) as http:
        assert (await http.post("/mcp", json={})).status_code == 421
