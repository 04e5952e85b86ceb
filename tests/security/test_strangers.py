"""What strangers send over HTTP to be taken for somebody, or to fill memory: none of it is let in."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator

import httpx2
import psutil
import pytest
from serving.served import ACCEPT, INITIALIZE, Served, bearer, serve, token_of, user, write_instance
from support.counts import tell

from agnes_mcp.access.grants import digest_token

TOKEN = token_of("ana")
_NO_KEY = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
_CLAIMS = base64.urlsafe_b64encode(b'{"sub":"ana","email":"ana@example.com"}').decode().rstrip("=")
FORGED = [
    "", "Bearer", "Bearer -", "bearer null", "Bearer undefined", f"Basic {TOKEN}", f"Token {TOKEN}", TOKEN,
    f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", f"Bearer x {TOKEN}", f"Bearer {TOKEN},x",
    f'Bearer "{TOKEN}"', f"Bearer {digest_token(TOKEN)}", "Bearer ana", "Bearer *", "Bearer %", "Bearer ' OR '1'='1",
    f"Bearer {_NO_KEY}.{_CLAIMS}.", f"Bearer {_NO_KEY}.{_CLAIMS}.{_CLAIMS}", f"Bearer {'.' * 2_000}",
    f"Bearer {'a' * 30_000}", "Basic " + base64.b64encode(f"ana:{TOKEN}".encode()).decode(),
]  # fmt: skip
MIB = 2**20


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("strangers")
    with serve(write_instance(folder / "instance.yaml", access={"users": [user("ana", "*")]})) as server:
        yield server


def test_forged_tokens(served: Served) -> None:
    through = []
    for forged in FORGED:
        headers = {**ACCEPT, "Authorization": forged}
        answer = httpx2.post(f"{served.url}/mcp", json=INITIALIZE, headers=headers, timeout=60)
        if answer.status_code not in (400, 401, 431):
            through.append(forged[:80])
    places = [
        f"/mcp?token={TOKEN}",
        f"/mcp?access_token={TOKEN}",
        f"/manifest?token={TOKEN}",
        f"/metrics?token={TOKEN}",
    ]
    through += [place for place in places if served.get(place).status_code < 400]
    cookies = {"Cookie": f"agnes={TOKEN}; token={TOKEN}; session={TOKEN}"}
    answer = served.request("POST", "/mcp", json=INITIALIZE, headers={**ACCEPT, **cookies})
    through += ["cookie"] * (answer.status_code < 400)
    assert through == []
    assert served.request("POST", "/mcp", TOKEN, json=INITIALIZE, headers=ACCEPT).status_code == 200
    tell("forged tokens", tried=len(FORGED) + len(places) + 1, through=0)


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Bodies by their coding: a megabyte here is a gigabyte there."""
    zeros = b"0" * (200 * MIB)
    return {"gzip": gzip.compress(zeros), "deflate": zlib.compress(zeros), "br": b"\x5b\xff\xff\xff" * 1_000}


@pytest.mark.parametrize("known", [False, True], ids=["a stranger", "a caller"])
def test_packed_bodies_are_not_unpacked(served: Served, bombs: dict[str, bytes], known: bool) -> None:
    process = psutil.Process(served.process.pid)
    before = process.memory_info().rss
    plain = {**ACCEPT, "Content-Type": "application/json", **bearer(TOKEN if known else None)}
    for coding, body in bombs.items():
        headers = {**plain, "Content-Encoding": coding}
        answer = httpx2.post(f"{served.url}/mcp", content=body, headers=headers, timeout=60)
        assert 400 <= answer.status_code < 500
        assert "Traceback" not in answer.text
    packed = gzip.compress(json.dumps(INITIALIZE).encode())
    answer = httpx2.post(f"{served.url}/mcp", content=packed, headers={**plain, "Content-Encoding": "gzip"}, timeout=60)
    assert 400 <= answer.status_code < 500
    assert process.memory_info().rss - before < 100 * MIB, "two hundred of them would have been unpacked"
    tell("packed bodies", tried=len(bombs) + 1, through=0)
