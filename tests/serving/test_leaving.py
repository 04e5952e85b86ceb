"""A server that is told to leave does so in every state: with 0, without a traceback, every call in the audit."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from serving.served import (
    ACCEPT,
    AGNES_MCP,
    INITIALIZE,
    STOP_WITHIN_S,
    Served,
    bearer,
    environment,
    rpc,
    serve,
    token_of,
    user,
    write_instance,
)
from support.counts import count, tell
from support.instances import table, write
from support.waiting import until_a_child_works, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX"),
]
ENDLESS = "SELECT max(hash(a.i * b.i * c.i)) FROM big AS a, big AS b, big AS c"
PATTERN = f"note ILIKE '{'%a' * 12}Z'"
#: Calls that do not end before their deadline, of an hour.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "a query": ("query", {"sql": ENDLESS}),
    "a pattern in a scan": ("scan", {"table_id": "big", "where": PATTERN, "limit": 1}),
    "a pattern in a fetch": ("fetch", {"table_id": "big", "where": PATTERN}),
    "a chart of a query": ("chart", {"sql": ENDLESS, "mark": "bar", "x": "a", "y": "b"}),
}
HELD: dict[str, str] = {
    "half heads": "POST /mcp HTTP/1.1\r\nHost: 127",
    "half bodies": "POST /sign-in HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n\r\ntok",
    "streams that nobody reads": "GET /sse HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n",
}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    select = "SELECT i, repeat('a', 300) AS note FROM range(300000) AS r(i)"
    return write(tmp_path_factory.mktemp("big"), "big.parquet", select)


@pytest.fixture
def config(tmp_path: Path, big: Path) -> Path:
    return write_instance(
        tmp_path / "instance.yaml",
        tables=[table("big", big)],
        access={"users": [user("ana", "*")]},
        api={"scan": {"request_timeout_seconds": 3600}},
        engine={"query_timeout_seconds": 3600},
    )


@pytest.fixture
def served(config: Path) -> Iterator[Served]:
    with serve(config) as served:
        yield served


def leave(process: subprocess.Popen[Any]) -> float:
    """Tell it to; how long it took."""
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_WITHIN_S) == 0
    return time.monotonic() - told


def call(served: Served, tool: str, arguments: dict[str, Any]) -> None:
    headers = {**ACCEPT, **bearer(token_of("ana"))}
    with suppress(httpx2.HTTPError), httpx2.Client(headers=headers, timeout=None) as http:  # however its end looks
        opened = http.post(f"{served.url}/mcp", json=INITIALIZE)
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        http.post(f"{served.url}/mcp", json=rpc("notifications/initialized", id=None), headers=session)
        params = {"name": tool, "arguments": arguments}
        http.post(f"{served.url}/mcp", json=rpc("tools/call", params, id=2), headers=session)


def statuses(config: Path) -> dict[str, str]:
    audit = (config.parent / "data" / "audit" / "audit.jsonl").read_text()
    return {line["tool"]: line["status"] for line in map(json.loads, audit.splitlines())}


@pytest.mark.parametrize("state", CALLS)
def test_it_leaves_while_a_call_works_in_a_child(config: Path, served: Served, state: str) -> None:
    tool, arguments = CALLS[state]
    caller = threading.Thread(target=call, args=(served, tool, arguments))
    caller.start()
    until_a_child_works(served.process.pid)
    taken_s = leave(served.process)
    caller.join()
    assert statuses(config)[tool] == "cancelled"
    assert "Traceback" not in "".join(served.log)
    tell(f"left with {state}", tried=1, through=0, note=f"in {taken_s:.1f} s")


@pytest.mark.parametrize("state", ["nothing", *HELD])
def test_it_leaves_whatever_strangers_hold(served: Served, state: str) -> None:
    host, port = urlsplit(served.url).netloc, urlsplit(served.url).port or 0
    sent = HELD.get(state, "").format(host=host, token=token_of("ana")).encode()
    with ExitStack() as held:
        for _ in range(20 if sent else 0):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(sent)
        assert served.get("/healthz").status_code == 200
        taken_s = leave(served.process)
    assert "Traceback" not in "".join(served.log)
    tell(f"left with {state}", tried=1, through=0, note=f"in {taken_s:.1f} s")


@contextmanager
def started_over(transport: str, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Killed at the end, where it still is."""
    command = [AGNES_MCP, "serve", "--transport", transport, "--port", "0", "--config", str(config)]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="how far it has come is told by what it has mapped")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_it_leaves_while_it_starts(config: Path, transport: str, sent: signal.Signals) -> None:
    """Wherever the signal finds it, in an import or before its receivers: no traceback, and no process is left."""
    for number in range(count(3, 40)):
        with started_over(transport, config) as process:
            until_it_has_used(process, number * 0.06 % 0.9)
            process.send_signal(sent)
            _, said = process.communicate(timeout=STOP_WITHIN_S)
        assert b"Traceback" not in said, said.decode()
        assert process.returncode in (0, 130, -sent)
    tell(f"left while it started, {transport}", tried=count(3, 40), through=0)


@pytest.mark.parametrize(("words", "ends_at_once"), [(["serve"], True), (["catalog"], False), ([], False)])
def test_an_interrupt_of_a_server_that_starts_is_never_an_exception(words: list[str], ends_at_once: bool) -> None:
    """There is no moment between being read and receiving signals in which a library could lose it."""
    asking = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.argv[:] = ['agnes-mcp', *sys.argv[1:]]; from agnes_mcp import cli;"
        "raised = [signal.getsignal(signal.SIGINT) is signal.default_int_handler]; cli.app_for(sys.argv[1:]);"
        "print([*raised, signal.getsignal(signal.SIGINT) is signal.default_int_handler])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asking, *words], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.strip() == str([not ends_at_once] * 2)


def until_it_has_used(process: subprocess.Popen[bytes], cpu_s: float) -> None:
    """Until it reads libraries, which Python alone does not, and then for so much processor time; or it waits."""
    found = psutil.Process(process.pid)
    wait_until(lambda: any("pydantic_core" in mapped.path for mapped in found.memory_maps()))
    began, used = sum(found.cpu_times()[:2]), list[float]()

    def came() -> bool:
        used.append(sum(found.cpu_times()[:2]) - began)
        return used[-1] >= cpu_s or used[-200:].count(used[-1]) == 200

    wait_until(came)


@pytest.mark.parametrize("state", ["nothing", *CALLS])
def test_the_end_of_input_ends_it(config: Path, state: str) -> None:
    with started_over("stdio", config) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        messages = [INITIALIZE, rpc("notifications/initialized", id=None)]
        if state in CALLS:
            tool, arguments = CALLS[state]
            messages.append(rpc("tools/call", {"name": tool, "arguments": arguments}, id=2))
        for message in messages:
            process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        if state in CALLS:
            until_a_child_works(process.pid)
        _, said = process.communicate(timeout=STOP_WITHIN_S)  # closes its input
        assert process.returncode == 0
    assert b"Traceback" not in said
