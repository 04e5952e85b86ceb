"""A server that is told to leave while others hold it up: a person, BigQuery, a hung process, a slow reader."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import duckdb
import httpx2
import psutil
import pytest
import yaml
from serving.served import (
    ACCEPT,
    AGNES_MCP,
    INITIALIZE,
    STOP_WITHIN_S,
    await_serving,
    bearer,
    environment,
    rpc,
    token_of,
    user,
    write_instance,
)
from support.counts import soaking, tell
from support.instances import bigquery_at, remote_table, table, write
from support.metadata_server import MetadataServer
from support.mirrored import TOKEN, Fault, mirrored
from support.waiting import until_a_child_works, wait_until

from agnes_mcp.stand_in import Fault as BigQueryFault
from agnes_mcp.stand_in import StandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX"),
]
HOUR_S = 3600.0
#: Ends what nothing else ends, in these tests: far longer than they wait.
LONG = {"api": {"scan": {"request_timeout_seconds": HOUR_S, "confirm_above_bytes": 100_000}}}
HELLO = {**INITIALIZE, "params": {**INITIALIZE["params"], "capabilities": {"elicitation": {}}}}
READY = rpc("notifications/initialized", id=None)
Way = Literal["http", "stdio", "end of input"]
WAYS: tuple[Way, ...] = ("http", "stdio", "end of input")


def tried(states: Iterable[str], *usual: tuple[Way, str]) -> pytest.MarkDecorator:
    """Every state in every way; a few of them where there is not the time for all."""
    every = [(way, state) for way in WAYS for state in states]
    return pytest.mark.parametrize(("way", "state"), every if soaking() else usual)


@dataclass
class Talk:
    """A server process, and a client of it that reads what comes; `heard` is every message so far."""

    process: subprocess.Popen[Any]
    url: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)

    def in_background(self, work: Callable[..., None], *arguments: Any) -> None:
        self.readers.append(threading.Thread(target=work, args=arguments, daemon=True))
        self.readers[-1].start()

    def begin(self, tool: str, arguments: dict[str, Any]) -> None:
        """Call it, and do not wait."""
        asked = rpc("tools/call", {"name": tool, "arguments": arguments}, id=2)
        if self.url:
            self.in_background(self._post, asked)
        else:
            self._write(asked)

    def open(self) -> None:
        if self.url:
            headers = {**ACCEPT, **bearer(token_of("ana"))}
            with httpx2.Client(headers=headers, timeout=60) as http:
                opened = http.post(f"{self.url}/mcp", json=HELLO)
                self.session = {**headers, "mcp-session-id": opened.headers["mcp-session-id"]}
                http.post(f"{self.url}/mcp", json=READY, headers=self.session)
        else:
            self.in_background(self._read)
            self._write(HELLO)
            self._write(READY)

    def told(self, method: str) -> bool:
        return any(message.get("method") == method for message in self.heard)

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.heard.append(json.loads(line))

    def _post(self, asked: dict[str, Any]) -> None:
        with (
            suppress(httpx2.HTTPError),  # however its end looks
            httpx2.stream("POST", f"{self.url}/mcp", json=asked, headers=self.session, timeout=None) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.heard.append(json.loads(line.removeprefix("data: ")))


@contextmanager
def talking(config: Path, way: Way, command: tuple[str, ...] = (AGNES_MCP,), **env: str) -> Iterator[Talk]:
    """A server of that instance with one client; killed at the end where it still is."""
    asked = [*command, "serve", "--config", str(config)]
    if way == "http":
        asked += ["--transport", "http", "--port", "0"]
        process: subprocess.Popen[Any] = subprocess.Popen(
            asked, stderr=subprocess.PIPE, text=True, env=environment(**env)
        )
    else:
        pipe = subprocess.PIPE
        process = subprocess.Popen(asked, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(**env))
    talk = Talk(process)
    try:
        if way == "http":
            served = await_serving(process)
            talk.url, talk.log = served.url, served.log
        else:
            talk.in_background(lambda: talk.log.extend(map(bytes.decode, process.stderr or ())))
        talk.open()
        yield talk
    finally:
        process.kill()
        process.wait()
        for reader in talk.readers:
            reader.join()
        for held in (process.stdin, process.stdout, process.stderr):
            if held is not None:
                with suppress(BrokenPipeError):
                    held.close()


def leave(talk: Talk, way: Way, state: str) -> None:
    told = time.monotonic()
    if way == "end of input":
        assert talk.process.stdin
        talk.process.stdin.close()
    else:
        talk.process.send_signal(signal.SIGTERM)
    assert talk.process.wait(STOP_WITHIN_S) == 0
    taken_s = time.monotonic() - told
    assert "Traceback" not in "".join(talk.log)
    tell(f"left with {state}, {way}", tried=1, through=0, note=f"in {taken_s:.1f} s")


def children(talk: Talk, part: str) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(talk.process.pid).children(recursive=True)
        return [child for child in found if part in " ".join(child.cmdline())]
    return []


@pytest.fixture
def bq() -> Iterator[StandIn]:
    with StandIn(project="my-project") as stand_in:
        rows = [{"id": i, "pad": "x" * 300} for i in range(1000)]
        stand_in.create_table("my_dataset", "remote", schema="id INT64, pad STRING", rows=rows)
        yield stand_in


@pytest.fixture
def remote(bq: StandIn, tmp_path: Path) -> Path:
    bigquery = bigquery_at(bq)
    entry = remote_table("remote")
    return write_instance(
        tmp_path / "instance.yaml",
        data_source={"bigquery": bigquery},
        tables=[entry],
        access={"users": [user("ana", "*")]},
        **LONG,
    )


@pytest.fixture
def local(tmp_path: Path) -> Path:
    select = "SELECT i, md5(i::VARCHAR) || md5((i * 7)::VARCHAR) AS note FROM range(400000) AS r(i)"
    return write_instance(
        tmp_path / "instance.yaml",
        tables=[table("big", write(tmp_path, "big.parquet", select))],
        access={"users": [user("ana", "*")]},
        engine={"query_timeout_seconds": HOUR_S},
        **LONG,
    )


@pytest.mark.parametrize("way", WAYS)
def test_while_a_person_is_asked(bq: StandIn, remote: Path, way: Way) -> None:
    with talking(remote, way) as talk:
        talk.begin("scan", {"table_id": "remote", "select": ["pad"], "limit": 2})
        wait_until(lambda: talk.told("elicitation/create"))
        leave(talk, way, "a question open")
    assert not bq.query_jobs(), "nobody said yes"


#: What BigQuery does not answer, by what was asked of it.
SILENT: dict[str, tuple[str, dict[str, Any]]] = {
    "tables.get": ("schema", {"table_id": "remote"}),
    "tables.get of a catalog, read in the background": ("catalog", {}),
    "jobs.insert": ("scan", {"table_id": "remote", "select": ["id"], "limit": 1, "where": "id > 5"}),
    "ReadRows": ("fetch", {"table_id": "remote", "select": ["id"]}),
    "CreateReadSession": ("fetch", {"table_id": "remote", "select": ["id"]}),
}


@tried(SILENT, ("http", "tables.get of a catalog, read in the background"), ("stdio", "ReadRows"))
def test_while_bigquery_does_not_answer(bq: StandIn, remote: Path, way: Way, state: str) -> None:
    call = state.partition(" ")[0]
    streams = call == "ReadRows"
    bq.faults.add(BigQueryFault(call, times=None, stall_s=HOUR_S * streams, delay_s=HOUR_S * (not streams)))
    tool, arguments = SILENT[state]
    with talking(remote, way) as talk:
        talk.begin(tool, arguments)
        wait_until(lambda: bq.requests.named(call))
        leave(talk, way, f"{call} without an answer")


#: Work in a process that has stopped in the middle of it.
HUNG: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a query": ("processes.child", "query", {"sql": "SELECT max(hash(a.i * b.i)) FROM big AS a, big AS b"}),
    "a scan apart": ("processes.child", "scan", {"table_id": "big", "where": f"note ILIKE '{'%a' * 12}Z'", "limit": 1}),
    "a fetch apart": ("processes.child", "fetch", {"table_id": "big", "where": f"note ILIKE '{'%a' * 12}Z'"}),
    "a chart": ("charts.child", "chart", {"sql": "SELECT i, i % 7 AS n FROM big", "mark": "point", "x": "i", "y": "n"}),
}


@tried(HUNG, ("http", "a query"), ("stdio", "a chart"))
def test_while_a_process_hangs(local: Path, way: Way, state: str) -> None:
    part, tool, arguments = HUNG[state]
    with talking(local, way) as talk, ExitStack() as ending:
        talk.begin(tool, arguments)
        if part == "charts.child":
            wait_until(lambda: children(talk, part))
        else:
            until_a_child_works(talk.process.pid)
        stopped = children(talk, part)
        for child in stopped:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGSTOP)
                ending.callback(kill, child)
        leave(talk, way, f"{state} hung")
        wait_until(lambda: not any(child.is_running() for child in stopped))


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


#: A server whose attached extension is the double of the tests, which stops in the middle of the rows for an hour.
ATTACHED = """
import os
from pathlib import Path
from support.attached_double import COMMAND, FileStatements
from agnes_mcp.cli import main
from agnes_mcp.sources.bigquery import attached
def double(settings, tokens, *, memory_bytes, threads):
    statements = FileStatements(settings, Path(os.environ["BIGQUERY_FILE"]), "stall", 1000)
    return attached.Attached(statements, tokens, memory_bytes=memory_bytes, threads=threads, command=COMMAND)
attached.make_attached = double
main()
"""


@pytest.mark.parametrize("way", WAYS if soaking() else ("stdio",))
def test_while_the_attached_extension_hangs(bq: StandIn, remote: Path, tmp_path: Path, way: Way) -> None:
    """No extension is to be had here: a DuckDB file stands in for BigQuery, in the real process of its own."""
    file, tests = tmp_path / "bigquery.duckdb", Path(__file__).parents[1]
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA my_dataset")
        connection.execute("CREATE TABLE my_dataset.remote AS SELECT i AS id, 'x' AS pad FROM range(1000) t(i)")
    settings = yaml.safe_load(remote.read_text())
    settings["data_source"]["bigquery"] |= {"direct_reads": "attached", "attach": "eager"}
    settings["api"]["scan"]["confirm_above_bytes"] = 10**9
    remote.write_text(yaml.safe_dump(settings))
    with MetadataServer() as metadata:
        env = {"GCE_METADATA_HOST": metadata.host, "GCE_METADATA_IP": metadata.host, "PYTHONPATH": str(tests)}
        program = (sys.executable, "-c", ATTACHED)
        with talking(remote, way, program, BIGQUERY_FILE=str(file), **env) as talk:
            talk.begin("fetch", {"table_id": "remote"})
            wait_until(lambda: reading(talk))
            stopped = children(talk, "attached_double")
            leave(talk, way, "the attached extension hung")
            wait_until(lambda: not any(child.is_running() for child in stopped))
    audited = [json.loads(line) for line in (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()]
    assert [line["status"] for line in audited if line["tool"] == "fetch"] == ["cancelled"]


def reading(talk: Talk) -> bool:
    """Whether the extension's process has been asked for its rows, which is when another stands by."""
    return len(children(talk, "attached_double")) > 1


#: More than the sockets between the two hold.
DOWNLOAD = b"GET /tables/big.parquet HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n"


def test_while_somebody_downloads_and_does_not_read(local: Path) -> None:
    with talking(local, "http") as talk, socket.socket() as slow:
        place = urlsplit(talk.url)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((place.hostname, place.port))
        slow.sendall(DOWNLOAD % (place.netloc.encode(), token_of("ana").encode()))
        assert slow.recv(12) == b"HTTP/1.1 200"
        leave(talk, "http", "a download that nobody reads")


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_while_streams_are_half_open(local: Path, path: str) -> None:
    """The client has ended its side of the connection, and keeps the other."""
    with talking(local, "http") as talk, ExitStack() as opened:
        place = urlsplit(talk.url)
        for _ in range(5):
            stream = opened.enter_context(socket.create_connection((place.hostname or "", place.port or 0), 60))
            fields = {**talk.session, "Host": place.netloc, "Accept": "text/event-stream"}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            stream.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            stream.recv(12)
            stream.shutdown(socket.SHUT_WR)
        leave(talk, "http", f"half-open streams of {path}")


def test_a_mirror_leaves_while_its_server_sends_nothing(tmp_path: Path) -> None:
    """`agnes-mcp sync`, told to stop in the middle of a table: an exit code of its own, and nothing half written."""
    asked, released = threading.Event(), threading.Event()

    def stall() -> None:
        asked.set()
        released.wait(HOUR_S)

    config = write_instance(tmp_path / "instance.yaml")
    with mirrored() as server:
        server.tables = {"big": b"PAR1" + bytes(100_000)}
        server.faults = {"big": [Fault(then=stall)]}
        folder = tmp_path / "mirror"
        command = [AGNES_MCP, "sync", "--from", server.url, "--into", str(folder), "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(AGNES_TOKEN=TOKEN)) as process:
            try:
                wait_until(asked.is_set)
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=STOP_WITHIN_S)
            finally:
                process.kill()
                released.set()
    assert process.returncode not in (0, 1), said
    assert b"Traceback" not in said
    assert not list(folder.rglob("*.parquet"))
