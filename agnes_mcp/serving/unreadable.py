"""Lines of standard input that are no message: each is answered with an error, as JSON-RPC has it, and logged."""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import Context
from types import TracebackType
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

logger = logging.getLogger(__name__)


class Answered:
    """The stream of what the client sends, without what could not be read: that is answered on `outgoing`."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    @property
    def last_context(self) -> Context | None:
        context: Context | None = self._incoming.last_context
        return context

    async def receive(self) -> SessionMessage:
        while True:
            item: SessionMessage | Exception = await self._incoming.receive()
            if not isinstance(item, Exception):
                return item
            error = _error_for(item)
            if error is not None:
                logger.warning("a line that cannot be read: %s", error.error.message)
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                    await self._outgoing.send(SessionMessage(error))

    async def aclose(self) -> None:
        await self._incoming.aclose()

    def __aiter__(self) -> Answered:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Answered:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _error_for(unread: Exception) -> JSONRPCError | None:
    """What to answer; None: an empty line. Nothing of the line is repeated but the id of the request that it was."""
    mistakes = unread.errors(include_url=False) if isinstance(unread, ValidationError) else []
    if mistakes and mistakes[0]["type"] != "json_invalid":
        error = ErrorData(code=INVALID_REQUEST, message="This is JSON, but no message of JSON-RPC 2.0.")
        return JSONRPCError(jsonrpc="2.0", id=_id_among([mistake["input"] for mistake in mistakes]), error=error)
    if mistakes and not str(mistakes[0]["input"]).strip():
        return None
    message = "This is no JSON. A message is one line of JSON in UTF-8, without line breaks in it."
    return JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=PARSE_ERROR, message=message))


def _id_among(inputs: list[Any]) -> int | str | None:
    """The id of the message, where one of these is the message and has one."""
    ids = (given.get("id") for given in inputs if isinstance(given, dict) and "jsonrpc" in given)
    return next((one for one in ids if isinstance(one, int | str) and not isinstance(one, bool)), None)
