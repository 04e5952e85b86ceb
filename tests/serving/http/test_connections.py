"""Strangers before anybody is known: half heads, too many connections, one id twice, a share of the sessions."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from serving.served import ACCEPT, INITIALIZE, Served, bearer, rpc, serve, token_of, user, write_instance
from support.waiting import wait_until

from agnes_mcp.serving.http.connections import KEPT_FILES, most_connections
from agnes_mcp.serving.repeats import Repeats

PATIENCE_S = 30


def address(served: Served) -> tuple[str, int]:
    parts = urlsplit(served.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@contextlib.contextmanager
def half_heads(served: Served, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have sent the beginning of a request and will not send its end."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(address(served), timeout=PATIENCE_S)
            connection.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            opened.append(connection)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def is_closed(connection: socket.socket) -> bool:
    """Waits for the server's word: True once it has closed."""
    connection.settimeout(PATIENCE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_heads_beyond_half_of_the_connections_give_way_to_new_ones(tmp_path: Path) -> None:
    config = write_instance(tmp_path / "i.yaml", server={"max_connections": 20, "head_timeout_seconds": 600})
    with serve(config) as served, half_heads(served, 60) as opened:
        assert served.get("/healthz").json() == {"status": "ok"}
        assert all(is_closed(connection) for connection in opened[:49])
        assert served.get("/readyz").status_code == 200
        assert len(served.log) < 30, "a stranger may not fill the log"


def test_a_head_that_does_not_end_closes_its_connection(tmp_path: Path) -> None:
    config = write_instance(tmp_path / "i.yaml", server={"head_timeout_seconds": 0.5})
    with serve(config) as served, half_heads(served, 3) as opened:
        assert [is_closed(connection) for connection in opened] == [True] * 3
        assert served.get("/healthz").status_code == 200


def test_the_second_head_of_a_connection_has_a_deadline_too(tmp_path: Path) -> None:
    config = write_instance(tmp_path / "i.yaml", server={"head_timeout_seconds": 0.5})
    with serve(config) as served, socket.create_connection(address(served), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(4096)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127")
        assert is_closed(connection)


def test_connections_stay_below_the_limit_of_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert most_connections(200) == 200
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 200 + KEPT_FILES
        assert most_connections(10**9) + KEPT_FILES <= max(hard, 10**9 + KEPT_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_fewer_connections_where_the_hard_limit_is_low() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300));"
        "from agnes_mcp.serving.http.connections import most_connections; print(most_connections(2000))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert int(said.stdout) == 150, said.stderr


@pytest.mark.parametrize("host", ["LOCALHOST", "Localhost:{port}", "127.0.0.1:{port}"])
def test_a_host_has_no_case(tmp_path: Path, host: str) -> None:
    with serve(write_instance(tmp_path / "i.yaml")) as served:
        headers = {**ACCEPT, "Host": host.format(port=address(served)[1])}
        assert served.request("POST", "/mcp", json=INITIALIZE, headers=headers).status_code == 200


def open_session(served: Served, name: str) -> httpx2.Response:
    return served.request("POST", "/mcp", token_of(name), json=INITIALIZE, headers=ACCEPT)


def is_open(served: Served, name: str, opened: httpx2.Response) -> bool:
    headers = {**ACCEPT, "mcp-session-id": opened.headers["mcp-session-id"]}
    answer = served.request("POST", "/mcp", token_of(name), json=rpc("ping", id=7), headers=headers)
    assert answer.status_code in (200, 404)
    return answer.status_code == 200


def test_whoever_holds_every_session_makes_room_for_another_caller(tmp_path: Path) -> None:
    config = write_instance(
        tmp_path / "i.yaml",
        access={"users": [user("ana", "*"), user("ben", "*")]},
        server={"max_sessions": 4},
    )
    with serve(config) as served:
        anas = [open_session(served, "ana") for _ in range(4)]
        assert [opened.status_code for opened in anas] == [200] * 4
        refused = open_session(served, "ana")
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        bens = [open_session(served, "ben") for _ in range(3)]
        assert [opened.status_code for opened in bens] == [200, 200, 503]
        assert [is_open(served, "ana", opened) for opened in anas] == [False, False, True, True]
        assert [is_open(served, "ben", opened) for opened in bens[:2]] == [True, True]
        headers = {**ACCEPT, "mcp-session-id": anas[2].headers["mcp-session-id"]}
        assert served.request("DELETE", "/mcp", token_of("ana"), headers=headers).status_code == 200
        assert open_session(served, "ana").status_code == 200


def test_an_open_stream_gives_way_too(tmp_path: Path) -> None:
    config = write_instance(
        tmp_path / "i.yaml", access={"users": [user("ana", "*"), user("ben", "*")]}, server={"max_sessions": 2}
    )
    with serve(config) as served, contextlib.ExitStack() as streams:
        for _ in range(2):
            stream = httpx2.stream("GET", served.url + "/sse", headers=bearer(token_of("ana")), timeout=PATIENCE_S)
            assert streams.enter_context(stream).status_code == 200
        with httpx2.stream("GET", served.url + "/sse", headers=bearer(token_of("ben")), timeout=PATIENCE_S) as bens:
            assert bens.status_code == 200
            assert next(bens.iter_lines()).startswith("event: endpoint")


def test_who_has_many_requests_under_way_leaves_others_some(tmp_path: Path) -> None:
    """Each holds its connection for as long as it lasts, and a stream lasts for ever."""
    config = write_instance(
        tmp_path / "i.yaml",
        access={"users": [user("ana", "*"), user("ben", "*"), user("eve", "*")]},
        server={"max_connections": 24},
    )
    with serve(config) as served, contextlib.ExitStack() as streams:

        def begin(name: str) -> int:
            stream = httpx2.stream("GET", served.url + "/sse", headers=bearer(token_of(name)), timeout=PATIENCE_S)
            return streams.enter_context(stream).status_code

        assert [begin("ana") for _ in range(14)] == [200] * 12 + [503] * 2
        assert [begin("ben") for _ in range(8)] == [200] * 6 + [503] * 2
        assert open_session(served, "ana").status_code == 503
        assert open_session(served, "eve").status_code == 200
        assert served.get("/healthz").status_code == served.get("/readyz").status_code == 200
        streams.close()
        wait_until(lambda: open_session(served, "ana").status_code == 200)


def test_one_id_twice_at_once_gets_two_answers(tmp_path: Path) -> None:
    """Twelve requests of one id, sent together: each is answered or refused, none waits for ever."""
    with serve(write_instance(tmp_path / "i.yaml")) as served:
        opened = served.request("POST", "/mcp", json=INITIALIZE, headers=ACCEPT)
        headers = {**ACCEPT, "mcp-session-id": opened.headers["mcp-session-id"]}
        served.request("POST", "/mcp", json=rpc("notifications/initialized", id=None), headers=headers)
        query = {"name": "query", "arguments": {"sql": "SELECT sum(i) FROM range(20000000) t(i)"}}
        answers: list[httpx2.Response] = []

        def call(request_id: int | str) -> None:
            message = {**rpc("tools/call", query), "id": request_id}
            answers.append(served.request("POST", "/mcp", json=message, headers=headers))

        threads = [threading.Thread(target=call, args=(9 if n % 2 else "9",)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(answers) == 12
        assert {answer.status_code for answer in answers} <= {200, 400}
        refused = [answer.json()["error"]["code"] for answer in answers if answer.status_code == 400]
        assert set(refused) == {-32600}
        assert len(refused) < 12


def test_log_lines_that_repeat_are_counted() -> None:
    now = [0.0]
    filtered = Repeats(written=3, period_s=60, clock=lambda: now[0])
    written: list[str] = []
    logger = logging.Logger("a-logger")
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(filtered)
    logger.addHandler(handler)

    def complain(number: int) -> None:
        logger.warning("Refused connection %d", number)

    for number in range(500):
        complain(number)
        logger.info("a call")
    now[0] = 61.0
    complain(500)
    warnings = [line for line in written if line != "a call"]
    assert warnings == [
        "Refused connection 0",
        "Refused connection 1",
        "Refused connection 2 (further lines like this one are counted for 60 s)",
        "Refused connection 500 (497 more lines like this one were not written)",
    ]
    assert written.count("a call") == 500


_HEAD = "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n{more}\r\n"
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"
_HELD = {
    "a body that does not end, of nobody": _HEAD.format(path="/mcp", host="x", kind=_JSON, more="Content-Length: 9\r\n")
    + "{",
    "a body in chunks that does not end": _HEAD.format(
        path="/sign-in", host="127.0.0.1", kind=_FORM, more="Transfer-Encoding: chunked\r\n"
    )
    + "3\r\ntok\r\n",
    "a form that does not end": _HEAD.format(
        path="/sign-in", host="127.0.0.1", kind=_FORM, more="Content-Length: 9\r\n"
    )
    + "tok",
    "nothing after an answer": "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "nothing at all": "",
}


@pytest.mark.parametrize("sent", _HELD.values(), ids=_HELD)
def test_who_sends_no_more_gives_way_to_who_does(tmp_path: Path, sent: str) -> None:
    server = {"max_connections": 16, "head_timeout_seconds": 600}
    config = write_instance(tmp_path / "i.yaml", server=server, access={"users": [user("ana", "*")]})
    with serve(config) as served, contextlib.ExitStack() as held:
        for _ in range(40):
            connection = held.enter_context(socket.create_connection(address(served), timeout=PATIENCE_S))
            connection.sendall(sent.encode())
            if sent == _HELD["nothing after an answer"]:  # whoever is being answered gives way to nobody
                assert connection.recv(12) == b"HTTP/1.1 200"
        assert served.get("/healthz").json() == {"status": "ok"}
        assert served.request("POST", "/mcp", token_of("ana"), json=INITIALIZE, headers=ACCEPT).status_code == 200
    assert "Traceback" not in "".join(served.log)


def test_a_body_that_does_not_end_closes_its_connection(tmp_path: Path) -> None:
    config = write_instance(tmp_path / "i.yaml", server={"head_timeout_seconds": 0.2})
    with serve(config) as served, socket.create_connection(address(served), timeout=PATIENCE_S) as connection:
        connection.sendall(_HELD["a form that does not end"].encode())
        assert is_closed(connection)
        assert served.get("/healthz").status_code == 200
    assert "Traceback" not in "".join(served.log)
