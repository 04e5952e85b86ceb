"""Figures for Prometheus: requests, bytes billed, latency, running scans, the age of BigQuery's token.

A label is one of our own names or a configured user's; what a caller may invent is never a label.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import anyio
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from agnes_mcp.access.grants import os_user
from agnes_mcp.calls.call import PROCESS, Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Principal
from agnes_mcp.spending.line import SLOT

CONTENT_TYPE = CONTENT_TYPE_LATEST
#: From a cached catalog to a scan at its time limit, in seconds.
_LATENCY_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

#: How often the lag of the event loop is taken.
_LAG_EVERY_S = 0.05
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    def __init__(self, gateway: Gateway, tools: Collection[str]) -> None:
        self._registry = CollectorRegistry()
        self._tools = frozenset(tools)
        self._requests = Counter(
            "agnes_requests", "Calls, by how they ended.", ["tool", "status", "principal"], registry=self._registry
        )
        self._bytes = Counter(
            "agnes_bytes_billed", "Bytes that BigQuery billed.", ["principal"], registry=self._registry
        )
        self._latency = Histogram(
            "agnes_request_seconds", "How long calls took.", ["tool"], registry=self._registry, buckets=_LATENCY_BUCKETS
        )
        self._waits = Histogram(
            "agnes_wait_seconds",
            "How long calls stood in line for a thread, a process or a slot.",
            ["queue"],
            registry=self._registry,
            buckets=_LATENCY_BUCKETS,
        )
        self.loop_lag = Histogram(
            "agnes_event_loop_lag_seconds",
            "How late the event loop ran.",
            registry=self._registry,
            buckets=_LAG_BUCKETS,
        )
        self._registry.register(_Standing(gateway))
        gateway.calls.observers.append(self.record)

    def record(self, call: Call) -> None:
        line = call.line
        tool = line.tool if line.tool in self._tools else "other"
        self._requests.labels(tool, line.status, line.principal).inc()
        self._latency.labels(tool).observe((line.latency_ms or 0) / 1000)
        if line.bytes_billed:
            self._bytes.labels(line.principal).inc(line.bytes_billed)
        for what, waited_s in call.waits.items():
            self._waits.labels(what).observe(waited_s)

    def render(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Standing(Collector):
    """Figures that are read when they are asked for."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily("agnes_running_scans", "Scans that hold a slot.", labels=["principal"])
        with suppress(AgnesError):  # books that cannot be asked: no figure, rather than a wrong one
            for principal in self._principals():
                left = self._gateway.accounts.left_now(principal)
                running.add_metric([principal.name], left.running_scans)
        yield running
        age = self._gateway.sources.health("bigquery").get("token", {}).get("token_age_s")
        if age is not None:
            yield GaugeMetricFamily("agnes_token_age_seconds", "Age of the BigQuery token in use.", value=age)
        yield GaugeMetricFamily(
            "agnes_audit_failures", "Audit lines that could not be written.", value=self._gateway.calls.audit.failures
        )

        yield GaugeMetricFamily("agnes_busy_threads", "Threads that work.", value=self._gateway.calls.busy)
        yield GaugeMetricFamily(
            "agnes_stuck_threads", "Threads that outlast their calls.", value=self._gateway.calls.stuck
        )
        waiting = GaugeMetricFamily("agnes_waiting_calls", "Calls that stand in line, by what for.", labels=["queue"])
        lengths = {**self._gateway.calls.waiting, SLOT: self._gateway.accounts.waiting}
        lengths[PROCESS] += self._gateway.processes.pool.waiting  # of calls that have the thread to wait in
        for queue, length in lengths.items():
            waiting.add_metric([queue], length)
        yield waiting
        yield self._lookups()
        pool = self._gateway.processes.pool
        yield GaugeMetricFamily("agnes_busy_processes", "Worker processes that work.", value=pool.busy)
        yield CounterMetricFamily(
            "agnes_processes_started", "Worker processes, the first of each place included.", value=pool.started
        )
        yield CounterMetricFamily(
            "agnes_processes_replaced", "Worker processes that took the place of one that ended.", value=pool.replaced
        )

    def _lookups(self) -> Metric:
        lookups = CounterMetricFamily(
            "agnes_cache_lookups", "Times that something kept was asked for.", labels=["cache", "result"]
        )
        tables = self._gateway.tables
        for name, cache in (("schemas", tables.schemas), ("samples", tables.samples)):
            lookups.add_metric([name, "hit"], cache.hits)
            lookups.add_metric([name, "miss"], cache.misses)
        return lookups

    def _principals(self) -> list[Principal]:
        names = self._gateway.access.names
        return [Principal(name) for name in names] or [os_user()]


async def watch_loop(record: Callable[[float], None]) -> None:
    """Report how late the event loop runs, in seconds, until cancelled: the time by which a short sleep is overslept.

    Blocking work on the loop shows here.
    """
    while True:
        before = time.monotonic()
        await anyio.sleep(_LAG_EVERY_S)
        record(max(0.0, time.monotonic() - before - _LAG_EVERY_S))
