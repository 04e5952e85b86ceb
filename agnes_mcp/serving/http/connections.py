"""Connections before anybody is known: how many there may be, and how long a request may take to arrive.

A head or a body that never ends costs its sender nothing, nor does a connection on which nothing is asked. So both have
a deadline, connections that wait for their client are at most half of all, and the oldest of them gives way to a new
one; whoever has sent a request keeps the connection until it is answered. Whoever is answered while still sending, a
body that is refused, gets a bounded time and amount to finish: closed at once, the system would throw the answer away.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: How many times as long as a head a body may take: 4 MB in a minute, where heads have ten seconds.
BODY_SHARE = 6
#: Files that the process needs beside connections: libraries, snapshots, child processes, BigQuery's streams.
KEPT_FILES = 256
#: What is read and dropped, in bytes, of what a client still sends after its last answer.
MAX_DROPPED = 64 * 2**20
#: So many pieces a body may come in however small they are, and one more for so many bytes: less than the smallest
#: segment of TCP (536 bytes, RFC 9293), in which those come who write theirs at once.
MAX_SMALL_PIECES = 64
LEAST_PIECE_BYTES = 256
_LEAST_CONNECTIONS = 16
HEAD, BODY = "head", "body"


class Connections:
    """The open connections of one server. `most` is their cap; used on the event loop only."""

    def __init__(self, most: int, head_within_s: float) -> None:
        self.most = most
        self.head_within_s = head_within_s
        self.open = 0
        self.refused = 0
        # Open ones without a whole request, so at most half of `most`.
        self._awaited: OrderedDict[BoundedHttp, tuple[str, asyncio.TimerHandle]] = OrderedDict()

    def admit(self, connection: BoundedHttp) -> None:
        """Count a new connection; where there is no room, the oldest that waits is closed for it, else itself."""
        self.open += 1
        self.wait(connection, HEAD)
        if len(self._awaited) * 2 > self.most or self.open > self.most:
            oldest = next(iter(self._awaited))
            self.refused += 1
            oldest.abort()

    def wait(self, connection: BoundedHttp, part: str) -> None:
        """This part of a request is expected from now on; an expectation of it that exists keeps its deadline, and
        whoever waits already keeps the place among the oldest."""
        known = self._awaited.get(connection)
        if known is not None:
            if known[0] == part:
                return
            known[1].cancel()
        within_s = self.head_within_s * (BODY_SHARE if part == BODY else 1)
        self._awaited[connection] = part, asyncio.get_running_loop().call_later(within_s, connection.abort)

    def arrived(self, connection: BoundedHttp) -> None:
        """Nothing is expected of this connection."""
        _, timer = self._awaited.pop(connection, ("", None))
        if timer is not None:
            timer.cancel()

    def end_waiting(self) -> None:
        """Close every connection whose client has not sent a whole request: the server is leaving."""
        for connection in list(self._awaited):
            connection.abort()

    def forget(self, connection: BoundedHttp) -> None:
        self.open -= 1
        self.arrived(connection)


class _WholePieces(h11.Connection):
    """h11's, that reads no body of very many small pieces: each, a chunk or what came at once, takes as long to read
    as kilobytes do, on the event loop that is everybody's."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER)
        self.refusal = ""  # why what came is not read; "": h11 says so
        self._pieces = self._bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > MAX_SMALL_PIECES + self._bytes // LEAST_PIECE_BYTES:
                self.refusal = "The body comes in too many small pieces: send it as one."
                raise h11.RemoteProtocolError(self.refusal)
        return event


class BoundedHttp(H11Protocol):
    """uvicorn's HTTP/1.1, each connection counted and its requests awaited no longer than allowed."""

    def __init__(self, connections: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn: _WholePieces = _WholePieces()
        self._shared = connections
        self._counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = self._closing = LingeringTransport(transport, self)
        self._counted = True
        self._shared.admit(self)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP: no answer but this one, and whoever waits for the rest of a body need not."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False  # it follows a whole request, whose answer is the last then
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(self.conn.refusal or msg)
        else:
            self.transport.close()
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()

    @property
    def still_sends(self) -> bool:
        """Whether the client has more to send, or has sent more, than what is answered."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR) or bool(self.conn.trailing_data[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self._shared.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is not h11.ERROR:  # after which nothing that comes is read, but would be kept
            super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Whose turn it is to send."""
        part = {h11.IDLE: HEAD, h11.SEND_BODY: BODY}.get(self.conn.their_state)
        if self._closing.lingers:
            part = BODY
        if part is None or not self._counted:
            self._shared.arrived(self)
        else:
            self._shared.wait(self, part)

    def abort(self) -> None:
        """Close at once, without waiting for what was not sent or read."""
        self._shared.arrived(self)
        if self.transport is not None:
            self.transport.abort()


class LingeringTransport(asyncio.Transport):
    """A connection's transport. Closed while its client still sends, it sends what it has and an end, and drops what
    comes until the client has ended too, or `MAX_DROPPED` bytes have, or the time for a body."""

    def __init__(self, transport: asyncio.Transport, connection: BoundedHttp) -> None:
        super().__init__()
        self._transport, self._connection = transport, connection
        self.lingers = False

    def close(self) -> None:
        if self.lingers or self._transport.is_closing() or not self._connection.still_sends:
            self._transport.close()
            return
        self.lingers = True
        self._transport.write_eof()
        self._transport.set_protocol(_Dropping(self._transport, self._connection))
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self.lingers or self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.lingers:
            self._transport.write(data)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()


class _Dropping(asyncio.Protocol):
    """What comes on a connection after its last answer."""

    def __init__(self, transport: asyncio.Transport, connection: BoundedHttp) -> None:
        self._transport, self._connection = transport, connection
        self._left = MAX_DROPPED

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def eof_received(self) -> None:
        """The client has ended too; returning nothing closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


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
