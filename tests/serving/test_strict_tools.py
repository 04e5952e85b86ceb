"""The list of tools as sessions get it."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from mcp import Client
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from support.instances import ERAS

from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server


async def test_every_session_is_given_the_same_list(gateway: Gateway) -> None:
    """Each session holds on to what it was last answered: the same in all of them, not as many copies. A version of the
    protocol has a form of its own."""
    server = await anyio.to_thread.run_sync(build_server, gateway)
    sent: dict[str, list[Any]] = {mode: [] for mode in ERAS}

    def noting(mode: str) -> Any:
        async def note(ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
            result = await call_next(ctx)
            if ctx.method == "tools/list":
                assert isinstance(result, dict)
                sent[mode].append(result)
            return result

        return note

    for _ in range(2):
        for mode in ERAS:
            server.lowlevel.middleware.insert(0, noting(mode))
            async with Client(server, mode=mode) as first, Client(server, mode=mode) as second:
                listed = [(await client.list_tools()).tools for client in (first, second)]
            assert listed[0] == listed[1] == await server.list_tools()
            server.lowlevel.middleware.pop(0)
    for results in sent.values():
        assert len(results) == 4
        assert len({id(result["tools"]) for result in results}) == 1
        assert len({id(result) for result in results}) == 4
