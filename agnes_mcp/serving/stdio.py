"""Serving over stdin and stdout, and leaving when told to.

A client ends a stdio server with SIGINT, then SIGTERM, then SIGKILL, within a fraction of a second, and leaves stdin
open meanwhile: the thread that reads it cannot be joined. So at a signal (or SIGHUP, when a terminal is closed) the
audit lines of the running calls are written before anything else, then their jobs are cancelled for a bounded time, and
the process ends. What a job was billed, where that is not known by then, the next start learns from the books' intents.
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
STOP_CALLS_WITHIN_S = 0.2
CLOSE_WITHIN_S = 0.05
#: Where stdin has ended, nobody kills yet.
LEAVE_WITHIN_S = 1.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else []))


async def serve_stdio(server: AgnesServer, gateway: Gateway, *, legacy: bool = False) -> None:
    """Serve until stdin ends, or end the process at a signal. `legacy`: handshake protocol versions only."""
    async with anyio.create_task_group() as group:
        if sys.platform != "win32":
            await group.start(_leave_on_signal, gateway)
        gateway.attaching.start()
        await server.serve_stdio(legacy=legacy)
        group.cancel_scope.cancel()
    if not await gateway.aclose(LEAVE_WITHIN_S):
        sys.stderr.flush()
        os._exit(0)  # the interpreter would wait for a thread that does not return


async def _leave_on_signal(gateway: Gateway, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            gateway.calls.note_all()
            with anyio.CancelScope(shield=True):
                await gateway.calls.stop_all(STOP_CALLS_WITHIN_S)
                await gateway.aclose(CLOSE_WITHIN_S)
                sys.stderr.flush()
                os._exit(0)
