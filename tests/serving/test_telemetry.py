"""Traces as a collector receives them over HTTP: which spans, below which, and nobody's data in any of them."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import mcp.types as t
import pytest
from mcp import Client, StdioServerParameters
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from serving.served import AGNES_MCP, ERAS, Era, environment, write_instance
from support.instances import ME, bigquery_at, settings_of, table, write

from agnes_mcp.calls.call import UNTRACED, Call
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal, ScanRequest
from agnes_mcp.serving import telemetry
from agnes_mcp.serving.server import build_server
from agnes_mcp.serving.telemetry import trace_calls
from agnes_mcp.stand_in import StandIn

SECRET = "canary-value"
REMOTE_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """An OTLP endpoint on loopback. `silent` takes requests and answers none until it ends."""

    def __init__(self, silent: bool = False) -> None:
        self.payloads: list[bytes] = []
        self.asked, self.over = threading.Event(), threading.Event()
        collector = self

        class Post(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                assert self.path == "/v1/traces"
                collector.payloads.append(body)
                collector.asked.set()
                if silent:
                    collector.over.wait(60)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
                """Nothing on standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Post)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(payload) for payload in self.payloads]
        return [
            span for request in requests for of in request.resource_spans for s in of.scope_spans for span in s.spans
        ]

    def named(self, name: str) -> Span:
        (span,) = [span for span in self.spans if span.name == name]
        return span


@contextmanager
def collecting(silent: bool = False) -> Iterator[Collector]:
    collector = Collector(silent)
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.over.set()
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setattr(telemetry, "SEND_WITHIN_S", 60.0)  # a busy machine loses no span
        yield collector


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A table of BigQuery with canaries in its name, its columns and its rows; and a local one."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    with StandIn(project="my-project") as bq:
        bq.create_table("my_dataset", "notes", "id INT64, canary STRING", rows=[{"id": 1, "canary": SECRET}])
        bigquery = bigquery_at(bq)
        notes = {"id": "canary_notes", "source_type": "bigquery", "bucket": "my_dataset", "source_table": "notes"}
        local = table("local", write(tmp_path, "local.parquet", f"SELECT 1 AS id, '{SECRET}' AS canary"))
        yield settings_of(tmp_path / "state", [notes, local], data_source={"bigquery": bigquery})


def traced(settings: Settings) -> Gateway:
    gateway = Gateway(settings)
    trace_calls(gateway.calls)
    assert gateway.calls.tracer is not None
    return gateway


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in span.attributes}


def tree(spans: list[Span]) -> dict[str, str]:
    """Of each span, by name, the name of the one above it."""
    names = {span.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent_span_id, "") for span in spans}


async def test_a_scan_is_a_trace_of_its_steps(collector: Collector, remote: Settings) -> None:
    asked = {"table_id": "canary_notes", "select": ["canary"], "where": f"canary = '{SECRET}'"}
    async with traced(remote) as gateway, Client(build_server(gateway, lambda: ME)) as client:
        assert (await client.call_tool("scan", asked)).structured_content["rows"] == [[SECRET]]
    assert tree(collector.spans) == {
        "tools/call scan": "",
        "agnes scan": "tools/call scan",
        "authorise": "agnes scan",
        "price": "agnes scan",
        "approve": "reserve",
        "reserve": "agnes scan",
        "read": "agnes scan",
        "shape": "read",
    }
    assert len({span.trace_id for span in collector.spans}) == 1
    told = attributes(collector.named("agnes scan"))
    assert told["agnes.bytes_billed"] == 10 * 2**20
    assert (told["agnes.tool"], told["agnes.status"], told["agnes.result_rows"]) == ("scan", "ok", 1)
    audited = (remote.data_dir / "audit" / "audit.jsonl").read_text()
    assert told["agnes.request_id"] in audited
    assert told["agnes.job_id"] in audited
    sent = b"".join(collector.payloads).lower()
    for foreign in ("canary", "my_dataset", "my-project", "select ", str(remote.data_dir)):
        assert foreign.encode() not in sent, foreign
    assert b"agnes-mcp" in sent


def asking(settings: Settings) -> Settings:
    settings.api.scan.confirm_above_bytes = 1
    return settings


COSTLY = {"table_id": "canary_notes", "select": ["canary"]}
ANSWERS = [
    (t.ElicitResult(action="accept", content={"approve": True}), None),
    (t.ElicitResult(action="decline"), "approval_declined"),
    (t.ElicitResult(action="cancel"), "approval_cancelled"),
]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("answer", "kind"), ANSWERS, ids=lambda value: str(value)[:20])
async def test_the_time_in_which_a_person_thought_is_a_step(
    collector: Collector, remote: Settings, era: Era, answer: t.ElicitResult, kind: str | None
) -> None:
    """It holds the whole of it, in whichever way the protocol carries the question."""
    thought: list[int] = []

    async def person(context: Any, params: Any) -> t.ElicitResult:
        thought.append(time.time_ns())
        await anyio.sleep(0.05)
        thought.append(time.time_ns())
        return answer

    async with (
        traced(asking(remote)) as gateway,
        Client(build_server(gateway, lambda: ME), mode=era, elicitation_callback=person) as client,
    ):
        assert (await client.call_tool("scan", COSTLY)).is_error == (kind is not None)
    approve = collector.named("approve")
    assert approve.start_time_unix_nano <= thought[0]
    assert approve.end_time_unix_nano >= thought[1]
    assert attributes(approve).get("error.type") == kind
    requests = [span for span in collector.spans if span.name == "tools/call scan"]
    assert approve.parent_span_id in {span.span_id for span in requests}
    assert approve.trace_id == max(requests, key=lambda span: span.start_time_unix_nano).trace_id
    ran = [span for span in collector.spans if span.name == "read"]
    assert len(ran) == (kind is None)
    assert all(span.start_time_unix_nano >= approve.end_time_unix_nano for span in ran)
    assert b"canary" not in b"".join(collector.payloads)


async def test_a_question_that_nobody_answers_ends_with_its_request(collector: Collector, remote: Settings) -> None:
    shown = anyio.Event()

    async def person(context: Any, params: Any) -> t.ElicitResult:
        shown.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with (
        traced(asking(remote)) as gateway,
        Client(build_server(gateway, lambda: ME), mode="legacy", elicitation_callback=person) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(client.call_tool, "scan", COSTLY)
        await shown.wait()
        group.cancel_scope.cancel()
    assert attributes(collector.named("approve"))["error.type"] == "cancelled"
    assert tree(collector.spans)["approve"] == "tools/call scan"
    assert "read" not in {span.name for span in collector.spans}


async def test_an_answer_that_is_none_is_told_as_one(collector: Collector, remote: Settings) -> None:
    async def person(context: Any, params: Any) -> t.ElicitResult:
        return t.ElicitResult(action="accept", content={"approve": "perhaps, canary"})

    async with (
        traced(asking(remote)) as gateway,
        Client(build_server(gateway, lambda: ME), mode="legacy", elicitation_callback=person) as client,
    ):
        assert (await client.call_tool("scan", COSTLY)).is_error
    assert attributes(collector.named("approve"))["error.type"] == "approval_cancelled"
    assert b"canary" not in b"".join(collector.payloads)


async def test_a_query_and_a_fetch_are_traced_too(collector: Collector, remote: Settings) -> None:
    async with traced(remote) as gateway:
        await gateway.fetches.fetch(ME, ScanRequest(table_id="canary_notes"), name="canary_kept")
        await gateway.queries.query(ME, f"SELECT '{SECRET}' FROM canary_kept")
    names = {span.name for span in collector.spans}
    assert {"agnes fetch", "agnes query", "authorise", "price", "reserve", "read", "shape"} <= names
    assert b"canary" not in b"".join(collector.payloads)


async def test_a_refusal_tells_its_kind_and_not_what_was_written(collector: Collector, remote: Settings) -> None:
    async with traced(remote) as gateway, Client(build_server(gateway, lambda: ME)) as client:
        await client.call_tool("scan", {"table_id": "local", "where": f"canary = '{SECRET}' OR nope = 1"})
        await client.call_tool("scan", {"table_id": "canary_gone"})
        await client.call_tool("canary_tool", {"canary": SECRET})
        await client.call_tool("scan", {"canary": SECRET})
        with pytest.raises(Exception, match="resource"):
            await client.read_resource(f"agnes://{SECRET}")
    kinds = sorted(str(attributes(span).get("error.type")) for span in collector.spans if span.name == "agnes scan")
    assert kinds == ["table_not_found", "unknown_argument", "unknown_column"]
    failed = [span for span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert len(failed) >= 5
    assert {span.status.message for span in collector.spans} == {""}
    assert [event for span in collector.spans for event in span.events] == []
    assert b"canary" not in b"".join(collector.payloads)


async def test_a_trace_goes_on_where_the_client_began_it(collector: Collector, remote: Settings) -> None:
    async with traced(remote) as gateway, Client(build_server(gateway, lambda: ME)) as client:
        sent: Any = {"traceparent": REMOTE_PARENT}  # beside what the SDK's type knows
        await client.call_tool("usage", {}, meta=sent)
    request = collector.named("tools/call usage")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == tuple(REMOTE_PARENT.split("-")[1:3])


async def test_calls_at_once_are_traces_of_their_own(collector: Collector, remote: Settings) -> None:
    async with (
        traced(remote) as gateway,
        Client(build_server(gateway, lambda: ME)) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(5):
            group.start_soon(client.call_tool, "scan", {"table_id": "local"})
    by_trace: dict[bytes, list[Span]] = {}
    for span in collector.spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    assert len(by_trace) == 5
    for spans in by_trace.values():
        assert sorted(span.name for span in spans) == [
            "agnes scan", "approve", "authorise", "price", "read", "reserve", "shape", "tools/call scan",
        ]  # fmt: skip
    ids = [attributes(span)["agnes.request_id"] for span in collector.spans if span.name == "agnes scan"]
    assert len(set(ids)) == 5


OFF = [
    {},
    {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "  "},
]


@pytest.mark.parametrize("environ", OFF, ids=str)
def test_without_being_asked_for_nothing_is_traced(environ: dict[str, str], settings: Settings) -> None:
    gateway = Gateway(settings)
    trace_calls(gateway.calls, environ)
    assert gateway.calls.tracer is None
    assert gateway.calls.request("scan") is UNTRACED
    assert Call("scan", Principal("x")).step("read") is UNTRACED


def test_the_library_is_not_loaded_where_nobody_traces() -> None:
    code = (
        "import sys; from agnes_mcp.serving.telemetry import trace_calls; trace_calls(None)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    kept = {name: value for name, value in environment().items() if not name.startswith("OTEL_")}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=kept)
    assert (shown.stdout, shown.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROT"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "agnes-data-mcp[otel]"),
    ],
)
def test_what_cannot_be_had_is_said_and_stops_nothing(
    environ: dict[str, str],
    said: str,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    gateway = Gateway(settings)
    trace_calls(gateway.calls, environ)
    assert gateway.calls.tracer is None
    assert said in caplog.text


async def test_a_collector_that_is_silent_holds_nobody_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting(silent=True) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        async with traced(settings) as gateway:
            for _ in range(20):
                await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))
            await anyio.to_thread.run_sync(collector.asked.wait, 30)
        assert not collector.over.is_set()


async def test_a_served_instance_sends_its_traces(collector: Collector, tmp_path: Path) -> None:
    config = write_instance(tmp_path / "instance.yaml")
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_RESOURCE_ATTRIBUTES="service.name=shop",
        OTEL_BSP_SCHEDULE_DELAY="20",
    )
    parameters = StdioServerParameters(command=AGNES_MCP, args=["serve", "--config", str(config)], env=env)
    async with Client(parameters) as client:
        await client.call_tool("query", {"sql": "SELECT 1"})
        with anyio.fail_after(60):
            while not {"tools/call query", "agnes query", "read"} <= {span.name for span in collector.spans}:
                await anyio.sleep(0.02)
    assert b"shop" in b"".join(collector.payloads)


async def test_an_error_of_a_step_is_told_as_its_kind(collector: Collector, settings: Settings) -> None:
    async with traced(settings) as gateway:
        with pytest.raises(AgnesError):
            await gateway.queries.query(ME, "SELECT * FROM gone")
    assert attributes(collector.named("read"))["error.type"] == "table_not_found"
