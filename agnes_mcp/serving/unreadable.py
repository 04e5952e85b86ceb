"""The messages of a stdio server, read and written by whoever wants to, without a task and a queue in between; and
lines that are no message: each is answered with an error, as JSON-RPC has it, and logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from types import TracebackType
from typing import Any, Self, cast

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from agnes_mcp.serving.wire import Lines, Messages, incoming, outgoing

logger = logging.getLogger(__name__)


class _Stream:
    """What the SDK asks of every stream."""

    async def aclose(self) -> None:
        """Nothing is held: the descriptor stays open until the process is gone."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Received(_Stream):
    """The messages that those lines are, and for a line that is none why it is not."""

    last_context: Context | None = None

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def receive(self) -> SessionMessage | Exception:
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(await anext(self._lines), by_name=False))
        except ValidationError as unread:
            return unread
        except StopAsyncIteration:
            raise anyio.EndOfStream from None


class Sent(_Stream):
    """Messages on their way to the client, each written whole before the next one begins.

    `client_left` is called once nobody reads any more, and `failure` says it.
    """

    def __init__(self, messages: Messages | anyio.AsyncFile[str], client_left: Callable[[], None]) -> None:
        self._messages, self._client_left = messages, client_left
        self._turn = anyio.Lock(fast_acquire=True)
        self.failure: OSError | None = None

    async def send(self, item: SessionMessage) -> None:
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        async with self._turn:
            try:
                await self._messages.write(f"{text}\n")
                await self._messages.flush()
            except OSError as error:
                self.failure = error
                self._client_left()
                raise anyio.BrokenResourceError from None


class Answered(_Stream):
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


@asynccontextmanager
async def stdio_streams() -> AsyncIterator[tuple[Any, Any]]:
    """What arrives on standard input, and what is sent on standard output. Raises OSError at its end where nobody reads
    the answers any more."""
    lines, messages = incoming(), outgoing()
    if lines is None or messages is None:  # a file, or what has been put in its place
        async with stdio_server(*cast("tuple[Any, Any]", (lines, messages))) as (received, sent):
            yield Answered(received, sent), sent
        return
    with anyio.CancelScope() as serving:
        ours = Sent(messages, serving.cancel)
        yield Answered(Received(lines), ours), ours
    if ours.failure is not None:
        raise ours.failure


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
