"""Connections before anybody is known: how many there may be, and how long a request's head may take.

A head that never ends costs its sender nothing. So it has a deadline, connections without a complete head are at most
half of all, and the oldest of them gives way to a new one; whoever has sent a request keeps the connection.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Files that the process needs beside connections: libraries, snapshots, child processes, BigQuery's streams.
KEPT_FILES = 256
_LEAST_CONNECTIONS = 16


class Connections:
    """The open connections of one server. `most` is their cap; used on the event loop only."""

    def __init__(self, most: int, head_within_s: float) -> None:
        self.most = most
        self.head_within_s = head_within_s
        self.open = 0
        self.refused = 0
        self._awaited: OrderedDict[BoundedHttp, asyncio.TimerHandle] = OrderedDict()

    @property
    def without_head(self) -> int:
        return len(self._awaited)

    def admit(self, connection: BoundedHttp) -> None:
        """Count a new connection; where there is no room, the oldest without a head is closed for it, else itself."""
        self.open += 1
        self.await_head(connection)
        if len(self._awaited) * 2 > self.most or self.open > self.most:
            oldest = next(iter(self._awaited))
            self.refused += 1
            oldest.abort()

    def await_head(self, connection: BoundedHttp) -> None:
        """A head is expected from now on; an expectation that exists keeps its deadline."""
        if connection not in self._awaited:
            loop = asyncio.get_running_loop()
            self._awaited[connection] = loop.call_later(self.head_within_s, connection.abort)

    def head_arrived(self, connection: BoundedHttp) -> None:
        timer = self._awaited.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def forget(self, connection: BoundedHttp) -> None:
        self.open -= 1
        self.head_arrived(connection)


class BoundedHttp(H11Protocol):
    """uvicorn's HTTP/1.1, each connection counted and its heads awaited no longer than allowed."""

    def __init__(self, connections: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._shared = connections
        self._counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._counted = True
        self._shared.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self._shared.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            if self._counted:
                self._shared.await_head(self)
        else:
            self._shared.head_arrived(self)

    def abort(self) -> None:
        """Close at once, without waiting for what was not sent or read."""
        self._shared.head_arrived(self)
        if self.transport is not None:
            self.transport.abort()


def most_connections(wanted: int) -> int:
    """How many connections fit: `wanted`, and fewer where the process may not open so many files.

    Raises the soft limit of open files as far as the system allows and `wanted` asks for.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + KEPT_FILES
    if soft != unlimited and soft < needed:
        raised = needed if hard == unlimited else min(needed, hard)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == unlimited or soft >= needed:
        return wanted
    return max(_LEAST_CONNECTIONS, soft - min(KEPT_FILES, soft // 2))
