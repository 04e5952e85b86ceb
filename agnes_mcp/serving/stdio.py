"""Serving over stdin and stdout, and leaving when told to.

A client ends a stdio server with SIGINT, then SIGTERM, then SIGKILL, within a fraction of a second, and leaves stdin
open meanwhile: the thread that reads it cannot be joined. So a signal stops the calls, gives the engine a bounded time
to clean up, and ends the process.
"""

from __future__ import annotations

import os
import signal
import sys

import anyio
from anyio.abc import TaskStatus

from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import AgnesServer

#: Together below the 0.35 s after which a client kills.
STOP_CALLS_WITHIN_S = 0.1
CLOSE_WITHIN_S = 0.1
#: Where stdin has ended, nobody kills yet.
LEAVE_WITHIN_S = 1.5


async def serve_stdio(server: AgnesServer, gateway: Gateway, *, legacy: bool = False) -> None:
    """Serve until stdin ends, or end the process at SIGINT or SIGTERM. `legacy`: handshake protocol versions only."""
    async with anyio.create_task_group() as group:
        if sys.platform != "win32":
            await group.start(_leave_on_signal, gateway)
        await server.serve_stdio(legacy=legacy)
        group.cancel_scope.cancel()
    if not await gateway.aclose(LEAVE_WITHIN_S):
        sys.stderr.flush()
        os._exit(0)  # the interpreter would wait for a thread that does not return


async def _leave_on_signal(gateway: Gateway, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            with anyio.CancelScope(shield=True):
                await gateway.calls.stop_all(STOP_CALLS_WITHIN_S)
                await gateway.aclose(CLOSE_WITHIN_S)
                sys.stderr.flush()
                os._exit(0)
