"""Listening, and leaving when told to: running calls are stopped and settled, open streams get a bounded time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import uvicorn
from anyio.abc import TaskStatus
from sse_starlette.sse import AppStatus

from agnes_mcp.errors import AgnesError, ConfigError
from agnes_mcp.serving.http.app import Binding, build_app
from agnes_mcp.serving.http.connections import BoundedHttp, Connections, most_connections
from agnes_mcp.serving.http.exposure import check_exposure

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from agnes_mcp.gateway import Gateway
    from agnes_mcp.serving.server import AgnesServer

#: Together below five seconds: a scan is interrupted and settled, then open streams end, then the engine closes.
STOP_CALLS_WITHIN_S = 1.5
END_STREAMS_WITHIN_S = 1
CLOSE_WITHIN_S = 1.5
_BACKLOG = 128
#: How long a worker thread may keep the interpreter while the event loop waits for it; Python's own is five times that.
SWITCH_EVERY_S = 0.001
logger = logging.getLogger(__name__)


async def serve_http(
    gateway: Gateway, host: str, port: int, config_path: Path | None = None, server: AgnesServer | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. Raises `ConfigError` where the address cannot be used or must not be."""
    check_exposure(gateway.settings, host)
    sys.setswitchinterval(SWITCH_EVERY_S)
    listener = listen(host, port)
    binding = Binding(host, listener.getsockname()[1])
    app = build_app(gateway, binding, config_path, server)
    limits = gateway.settings.server
    connections = Connections(most_connections(limits.max_connections), limits.head_timeout_seconds)
    web = _Server(
        gateway,
        app,
        connections,
        uvicorn.Config(
            app,
            http=partial(BoundedHttp, connections),  # type: ignore[arg-type] # a class with its first argument given
            log_config=None,
            proxy_headers=False,
            access_log=False,  # a URL may hold what somebody mistook for a parameter
            server_header=False,
            timeout_graceful_shutdown=END_STREAMS_WITHIN_S,
            ws="none",
        ),
    )
    try:
        async with anyio.create_task_group() as group:
            await group.start(web.stop_on_signal)
            if sys.platform != "win32":
                await group.start(_reload_on_signal, gateway, config_path)
            # not before the signals have their receivers: whoever reads this line may send one
            sys.stderr.write(f"agnes-mcp: serving {binding.url}/mcp (streamable HTTP) and {binding.url}/sse (SSE)\n")
            sys.stderr.flush()
            gateway.attaching.start()
            await web.serve(sockets=[listener])
            group.cancel_scope.cancel()
    finally:
        listener.close()
        AppStatus.should_exit = False  # the SSE library keeps it per process, not per server
        if not await gateway.aclose(CLOSE_WITHIN_S):
            sys.stderr.flush()
            os._exit(0)  # the interpreter would wait for a thread that does not return


async def _reload_on_signal(gateway: Gateway, config_path: Path | None, *, task_status: TaskStatus[None]) -> None:
    """SIGHUP: tables, users, grants and limits as the instance's file has them now; a mistake changes nothing."""
    from agnes_mcp.config.loading import load_settings

    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            try:
                settings = await anyio.to_thread.run_sync(load_settings, config_path)
                await gateway.upkeep.reload(settings)
            except AgnesError as error:
                logger.error("not reloaded: %s %s", error.message, error.hint)
            else:
                logger.warning("reloaded: %d tables, %d users", len(settings.tables), len(settings.access.users))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ConfigError` where the address is taken or not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, because asyncio sends without delay only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would let two servers share the address
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror or type(error).__name__}.",
            "Choose another --host or --port.",
            "server.port",
        ) from None
    return listener


class _Server(uvicorn.Server):
    """uvicorn, except that signals are awaited on the loop and that calls are stopped before streams are."""

    def __init__(self, gateway: Gateway, app: Starlette, connections: Connections, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._connections = connections
        self._app = app

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `stop_on_signal`'s; raising them again afterwards would end the process before it has closed."""
        yield

    async def stop_on_signal(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self.force_exit = self.should_exit
                self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.calls.note_all()
        self._app.state.stopping = True
        AppStatus.should_exit = True
        await self._gateway.calls.stop_all(STOP_CALLS_WITHIN_S)
        self._app.state.end_streams()
        self._connections.end_waiting()
        asyncio.get_running_loop().call_later(END_STREAMS_WITHIN_S / 2, self._abort_open)
        await super().shutdown(sockets)

    def _abort_open(self) -> None:
        """Whoever is still being answered, and does not read: the answer's own task sees that its client has gone, and
        ends before uvicorn would cancel it and log that as a failure."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
