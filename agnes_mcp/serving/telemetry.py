"""Traces of calls for OpenTelemetry, where the standard OTEL_* variables ask for them: off by default.

    tools/call scan         all that one request makes, below the client's own span where it sends one
      approve               from the question about the price to the person's answer, where a person was asked
      agnes scan            the call: its request_id, how it ended, what it billed
        authorise, price, reserve (in it approve, where nobody was asked), read (in it shape)

A question that the protocol carries in two requests began before the second one, in whose trace it stands.

A span says which tool, how long, how it ended and how many bytes; never a name or a value of anybody's data, nor who
asked: that is in the audit, under the same request_id. The tracing is this module's own and not the process's, so that
what libraries trace by themselves, statements and addresses among it, goes nowhere.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agnes_mcp import __version__
from agnes_mcp.calls.audit import AuditLine
from agnes_mcp.calls.call import Call, Step, Tracer
from agnes_mcp.calls.frame import Calls
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE = "agnes-mcp"
#: Any of these asks for traces.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
#: How long an end waits for a collector; after that what was not sent is lost.
SEND_WITHIN_S = 1.0
_PROTOCOL = "http/protobuf"
logger = logging.getLogger(__name__)


def trace_calls(calls: Calls, environ: Mapping[str, str] = os.environ) -> None:
    """Trace these calls if the environment asks for it; what it asks for and cannot be had is logged, and no error."""
    if not _is_wanted(environ):
        return
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "").strip() not in ("", _PROTOCOL):
            logger.warning("no traces: %s is not %s, which is what this server speaks", name, _PROTOCOL)
            return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("no traces: OTEL_* asks for them, and `pip install 'agnes-data-mcp[otel]'` is what sends them")
        return
    told = {"service.version": __version__}
    if "OTEL_SERVICE_NAME" not in environ and "service.name" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        told["service.name"] = SERVICE
    provider = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    calls.tracer = Spans(provider)


def _is_wanted(environ: Mapping[str, str]) -> bool:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = {name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "").lower().split(",")} - {""}
    return "otlp" in exporters if exporters else any(environ.get(name, "").strip() for name in ENDPOINTS)


@dataclass
class _Question:
    """What a person is asked within one request; `since_ns` None: nothing, or it is answered."""

    since_ns: int | None = None


_QUESTION: ContextVar[_Question | None] = ContextVar("question of this request", default=None)


class Spans(Tracer):
    """Calls as spans of that provider."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind

        self._provider = provider
        self._tracer = provider.get_tracer("agnes_mcp", __version__)
        self._of_requests = SpanKind.SERVER

    @contextmanager
    def request(self, tool: str) -> Iterator[None]:
        attributes = {"agnes.tool": tool}
        mark = _QUESTION.set(_Question())
        try:
            with self._tracer.start_as_current_span(
                f"tools/call {tool}", kind=self._of_requests, attributes=attributes, record_exception=False,
                set_status_on_exception=False,
            ):  # fmt: skip
                try:
                    yield
                except BaseException:  # the client left, or took the request back, while the person thought
                    self.answered("cancelled")
                    raise
        finally:
            _QUESTION.reset(mark)

    def asked(self, since_ns: int) -> None:
        question = _QUESTION.get()
        if question is not None:
            question.since_ns = since_ns

    def answered(self, error_kind: str | None = None) -> None:
        question = _QUESTION.get()
        if question is None or question.since_ns is None:
            return
        span = self._tracer.start_span("approve", start_time=question.since_ns)
        question.since_ns = None
        if error_kind is not None:
            _fail(span, error_kind)
        span.end()

    @contextmanager
    def call(self, call: Call) -> Iterator[None]:
        with self._span("agnes call") as span:
            try:
                yield
            finally:
                if call.line.error_kind != "unknown_tool":  # whose name the caller made up
                    span.update_name(f"agnes {call.tool}")
                    span.set_attribute("agnes.tool", call.tool)
                _tell(span, call.line)
                span.set_attribute("agnes.waited_ms", round(call.waited_s * 1000))

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        with self._span(step) as span:
            try:
                yield
            except AgnesError as error:
                _fail(span, error.kind)
                raise
            except BaseException as error:
                _fail(span, "internal_error" if isinstance(error, Exception) else "cancelled")
                raise

    def close(self) -> None:
        sending = threading.Thread(target=self._provider.shutdown, name="telemetry-end", daemon=True)
        sending.start()
        sending.join(SEND_WITHIN_S)

    def _span(self, name: str) -> AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)


def _tell(span: Span, line: AuditLine) -> None:
    """What became of a call: figures and kinds, nothing that a caller wrote."""
    figures = {
        "agnes.request_id": line.request_id,
        "agnes.status": line.status,
        "agnes.estimated_scan_bytes": line.estimated_scan_bytes,
        "agnes.bytes_billed": line.bytes_billed,
        "agnes.result_rows": line.actual_result_rows,
        "agnes.result_bytes": line.actual_result_bytes,
        "agnes.job_id": line.job_id,
    }
    span.set_attributes({name: value for name, value in figures.items() if value is not None})
    if line.error_kind is not None:
        _fail(span, line.error_kind)


def _fail(span: Span, kind: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)  # without a description: a message may quote what was written
