"""Telling clients that what they may read has changed: each principal of its own snapshots, nobody of another's."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST, SubscriptionsListenRequestParams, SubscriptionsListenResult
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from agnes_mcp.models import Principal

SNAPSHOT_URI = "agnes://snapshots/{name}"
USAGE_URI = "agnes://usage"
#: Streams of one principal: a host opens one for each of its sessions.
MOST_STREAMS = 256


class AnnouncementBus:
    """The SDK's seam for change events, with one bus per principal; `identify` names who is listening."""

    def __init__(self, identify: Callable[[], Principal]) -> None:
        self._identify = identify
        # One a caller who has proved who it is; nobody else can make one.
        self._buses: dict[str, InMemorySubscriptionBus] = {}

    async def publish(self, event: ServerEvent) -> None:
        """Everybody's business."""
        for bus in list(self._buses.values()):
            await bus.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self._bus(self._identify().name).subscribe(listener)

    async def announce(self, principal: str, events: list[ServerEvent]) -> None:
        """One principal's business."""
        bus = self._bus(principal)
        for event in events:
            await bus.publish(event)

    def _bus(self, principal: str) -> InMemorySubscriptionBus:
        return self._buses.setdefault(principal, InMemorySubscriptionBus())


class Listening(ListenHandler):
    """Streams of change events, so many for each principal: the SDK counts all of them together, and one caller would
    take every one. How many principals there are is bounded by who is configured."""

    def __init__(self, bus: AnnouncementBus, identify: Callable[[], Principal]) -> None:
        super().__init__(bus, max_subscriptions=sys.maxsize)
        self._identify = identify
        self._open = Counter[str]()  # by principal, of those who have any

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        name = self._identify().name
        if self._open[name] >= MOST_STREAMS:
            raise MCPError(INVALID_REQUEST, f"You have {MOST_STREAMS} streams of events open; close one of them.")
        self._open[name] += 1
        try:
            return await super().__call__(ctx, params)
        finally:
            self._open[name] -= 1
            self._open += Counter()  # leaves out who has none


def events_of(tool: str, body: Mapping[str, Any]) -> list[ServerEvent]:
    """What a tool's answer says that it changed: snapshots that appeared, disappeared or have other rows; usage."""
    events: list[ServerEvent] = []
    if _appeared_or_went(tool, body):
        events.append(ResourcesListChanged())
    if tool in ("fetch", "snapshot_refresh") and body.get("snapshot"):
        events.append(ResourceUpdated(uri=SNAPSHOT_URI.format(name=body["snapshot"]["name"])))
    if body.get("bytes_billed"):
        events.append(ResourceUpdated(uri=USAGE_URI))
    return events


def _appeared_or_went(tool: str, body: Mapping[str, Any]) -> bool:
    if tool == "snapshot_prune":
        return bool(body.get("dropped")) and not body.get("dry_run")
    return tool == "snapshot_drop" or (tool in ("fetch", "scan") and bool(body.get("snapshot")))


async def tell_older_client(context: Context[Any, Any]) -> None:
    """The protocol versions with a handshake have no subscription: the client's own session is told."""
    if context.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS:
        await context.session.send_resource_list_changed()
