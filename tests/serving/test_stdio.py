"""A real server process on its pipes: nothing but protocol on stdout, and out at once when told to leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import duckdb
import psutil
import pytest
import yaml
from mcp import Client, StdioServerParameters
from support.instances import ERAS, ONE_PROCESS, body_of, table
from support.waiting import until_a_child_works

COMMAND = str(Path(sys.executable).with_name("agnes-mcp"))
INITIALIZE = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
CANARY = "canary-cell-value"
#: What burns a processor until it is ended burns one.
ENGINE = {**ONE_PROCESS, "threads": 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instance")
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute(f"CREATE TABLE people AS SELECT i AS id, '{CANARY} ' || i AS name FROM range(20) AS r(i)")
        connection.execute("CREATE VIEW endless AS SELECT hash(i) AS h FROM range(1000000000000) AS r(i)")
    tables = [table("people", "shop.duckdb"), table("endless", "shop.duckdb")]
    (folder / "instance.yaml").write_text(yaml.safe_dump({"data_dir": "state", "tables": tables, "engine": ENGINE}))
    return folder / "instance.yaml"


class Server:
    """The real process, spoken to line by line."""

    def __init__(self, config: Path, *more: str, command: Sequence[str] = (COMMAND, "serve"), **env: str) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "PYTHONPATH")
        }
        self.process = subprocess.Popen(
            [*command, "--config", str(config), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=inherited | env,
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []

    def send_raw(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, message: dict[str, Any]) -> None:
        self.send_raw(json.dumps(message).encode())

    def call(self, number: int, tool: str, arguments: dict[str, Any]) -> None:
        params = {"name": tool, "arguments": arguments}
        self.send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    def answer(self, number: int) -> dict[str, Any]:
        """Read until the answer to that request; every line on the way is protocol."""
        assert self.process.stdout
        while True:
            line = self.process.stdout.readline()
            assert line, "the server ended"
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == number and "method" not in message:
                return dict(message)

    def greet(self) -> None:
        self.send(INITIALIZE)
        assert self.answer(0)["result"]["serverInfo"]["name"] == "agnes"
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def leave(self) -> tuple[int, str, str]:
        """End of input; the exit code and what was left on both pipes."""
        if self.process.stdin:
            self.process.stdin.close()
            self.process.stdin = None
        out, errors = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), errors.decode()


@pytest.fixture
def server(config: Path) -> Iterator[Server]:
    server = Server(config)
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture
def wide(config: Path) -> Iterator[Server]:
    """With a process for each of three calls."""
    server = Server(config, AGNES_ENGINE__QUERY_WORKERS=str(len(ENDLESS)))
    yield server
    server.process.kill()
    server.process.communicate()


def audit_of(config: Path) -> list[dict[str, Any]]:
    path = config.parent / "state" / "audit" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("mode", ERAS)
async def test_the_sdk_s_client_over_real_pipes(config: Path, mode: Any) -> None:
    parameters = StdioServerParameters(command=COMMAND, args=["serve", "--config", str(config)], cwd="/")
    with anyio.fail_after(60):
        async with Client(parameters, mode=mode) as client:
            assert len((await client.list_tools()).tools) >= 14
            rows = body_of(await client.call_tool("sample", {"table_id": "people", "n": 1}))["rows"]
            assert rows == [[0, f"{CANARY} 0"]]
            assert (await client.call_tool("schema", {"table_id": "nothing"})).is_error


def test_the_end_of_input_ends_the_process(server: Server) -> None:
    server.greet()
    server.call(1, "usage", {})
    server.answer(1)
    code, out, errors = server.leave()
    assert (code, out, errors) == (0, "", "")


ENDLESS: dict[str, dict[str, Any]] = {
    "scan": {"table_id": "endless", "aggregates": [{"function": "max", "column": "h"}]},
    "describe": {"table_id": "endless", "profile": True},
    "fetch": {"table_id": "endless", "aggregates": [{"function": "max", "column": "h"}]},
}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_running_calls_and_the_process_while_input_stays_open(
    config: Path, wide: Server, sent: signal.Signals
) -> None:
    """Each of them in a process of its own, which works."""
    wide.greet()
    before = len(audit_of(config))
    for number, (tool, arguments) in enumerate(ENDLESS.items()):
        wide.call(1 + number, tool, arguments)
    until_a_child_works(wide.process.pid, len(ENDLESS))
    wide.process.send_signal(sent)
    assert wide.process.wait(timeout=60) == 0
    lines = audit_of(config)[before:]
    assert sorted((line["tool"], line["status"]) for line in lines) == sorted((tool, "cancelled") for tool in ENDLESS)
    assert wide.process.stderr
    assert b"Traceback" not in wide.process.stderr.read()


def test_two_signals_in_a_row_do_no_harm(server: Server) -> None:
    server.greet()
    server.process.send_signal(signal.SIGINT)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0


MALFORMED = [
    b"", b" ", b"not json", b"{", b"[]", b"null", b"0", b'"text"', b"\xff\xfe\x00", b'{"jsonrpc": "2.0"}',
    b'{"jsonrpc": "1.0", "id": 5, "method": "ping"}', b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": 6, "method": 7}', b'{"jsonrpc": "2.0", "id": 7, "result": {}}',
    b'{"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": "x"}', b'{"a":' * 3000,
]  # fmt: skip


def test_malformed_lines_are_survived(server: Server) -> None:
    server.greet()
    for number, line in enumerate(MALFORMED):
        server.send_raw(line)
        server.call(100 + number, "usage", {})
        assert not server.answer(100 + number)["result"]["isError"]


def test_lines_that_are_no_message_are_answered_and_logged_without_their_text(server: Server) -> None:
    server.greet()
    for line in (*MALFORMED, b'{"jsonrpc": "2.0", "id": true, "method": ["secret-of-the-line"]}'):
        server.send_raw(line)
    code, out, errors = server.leave()
    told = [(answer["id"], answer["error"]["code"]) for answer in map(json.loads, out.splitlines())]
    assert code == 0
    assert told.count((None, -32700)) == 4
    assert [number for number, _ in told if number is not None] == [5, 6, 8]
    assert len(told) == len(MALFORMED) - 4 + 1  # two are empty, one answers nothing, one with no such id only tells
    assert "cannot be read" in errors
    assert "further lines like this one are counted" in errors
    assert "secret-of-the-line" not in out + errors


@pytest.mark.parametrize("tool", ["query", "catalog"])
def test_input_that_ends_while_a_child_starts_ends_everything_quietly(config: Path, server: Server, tool: str) -> None:
    server.greet()
    server.call(1, tool, {"sql": "SELECT count(*) FROM endless"} if tool == "query" else {})
    code, _, errors = server.leave()
    assert (code, errors) == (0, "")
    assert not psutil.pid_exists(server.process.pid)


def test_logs_are_json_lines_without_values(config: Path) -> None:
    server = Server(config, "--log-level", "debug")
    server.greet()
    server.call(1, "scan", {"table_id": "people", "where": f"name = '{CANARY} 3'"})
    assert CANARY in json.dumps(server.answer(1))
    server.call(2, "scan", {"table_id": "people", "where": "CAST(name AS BIGINT) = 1"})
    assert server.answer(2)["result"]["isError"]
    code, out, errors = server.leave()
    assert (code, out) == (0, "")
    for line in errors.splitlines():
        assert set(json.loads(line)) >= {"time", "level", "logger", "message"}
    assert CANARY not in errors


def test_an_unknown_log_level_is_a_mistake_not_a_crash(config: Path) -> None:
    ended = subprocess.run(
        [COMMAND, "serve", "--config", str(config), "--log-level", "loud"],
        input="", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


NOISY = """
import atexit, ctypes, os, subprocess, sys, threading
import anyio
from agnes_mcp.cli import main
from agnes_mcp.serving.server import AgnesServer

async def noisy(ctx=None) -> str:
    "Call to make noise."
    print("printed")
    print("without an end", end="")
    sys.stdout.buffer.write(b"bytes")
    sys.__stdout__.write("the first stdout")
    os.write(1, b"written\\n")
    os.system("echo from a child")
    subprocess.Popen(["sh", "-c", "sleep 0.2; echo from a late child"])
    if sys.platform != "win32":
        ctypes.CDLL(None).printf(b"from C\\n")
    atexit.register(print, "at the end")
    return "quiet"

load = AgnesServer.serve_stdio
async def serve(self, **options):
    self.add_tool(noisy)
    await load(self, **options)
    print("after serving")
AgnesServer.serve_stdio = serve
print("before serving")
sys.argv[1:1] = ["serve"]
main()
"""
SAID = ("printed", "without an end", "bytes", "the first stdout", "written", "from a child")
SAID_LATE = ("from a late child", "from C", "at the end", "after serving", "before serving")


def noisy_server(config: Path, **env: str) -> Server:
    server = Server(config, command=(sys.executable, "-c", NOISY), **env)
    server.greet()
    server.call(1, "noisy", {})
    assert "quiet" in json.dumps(server.answer(1))
    return server


def test_what_anything_writes_misses_the_wire_until_the_process_is_gone(config: Path) -> None:
    """Also what Python and C hold back until the end, and what a child says that outlives the server."""
    code, out, errors = noisy_server(config).leave()
    assert (code, out) == (0, "")
    assert [said for said in SAID + SAID_LATE if said not in errors] == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_what_was_held_back_misses_the_wire_after_a_signal_too(config: Path, sent: signal.Signals) -> None:
    server = noisy_server(config)
    server.process.send_signal(sent)
    out, errors = server.process.communicate(timeout=60)
    assert (server.process.returncode, out) == (0, b"")
    assert [said for said in (b"printed\n", b"written\n", b"from a child\n") if said not in errors] == []


def test_an_error_before_serving_is_not_on_the_wire(config: Path) -> None:
    server = Server(config.with_name("missing.yaml"))
    code, out, errors = server.leave()
    assert code != 0
    assert out == ""
    assert "Error: " in errors
    assert "Traceback" not in errors


def test_a_server_without_standard_error_still_speaks(config: Path) -> None:
    """Some hosts close it: descriptor 2 may be missing, and its number must not become the wire's."""
    silent = ("sh", "-c", 'exec "$@" 2>&-', "sh", COMMAND, "serve")
    for sent in (None, signal.SIGTERM):
        server = Server(config, command=silent)
        server.greet()
        server.call(1, "usage", {})
        server.answer(1)
        if sent:
            server.process.send_signal(sent)
            server.process.wait(timeout=60)
        assert server.leave()[:2] == (0, "")
