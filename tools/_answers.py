"""Answers as a client receives them: the same facts as structured content and as one block of compact text.

And the progress of worker threads until then, told at a pace that the client can use; and what may stand for an
argument on the way in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel

from agnes_mcp.answers.fitting import WrittenRows, compact
from agnes_mcp.answers.models import RowsAnswer
from agnes_mcp.models import Progress
from agnes_mcp.serving.server import Serving
from agnes_mcp.untrusted import tidy

T = TypeVar("T")
#: No text can hold it: in one, quotes are escaped.
_NO_ROWS = '"rows":[]'
REPORT_EVERY_S = 0.1
#: The longest list that an argument takes: columns of a wide table.
MOST_LISTED = 2_000

#: Reads what it is allowed to see and changes nothing.
FREE = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
#: Reads, but may bill: repeating it bills again.
BILLED = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
#: Writes a file of the caller's own, and may bill.
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
#: Removes files of the caller's own; doing it again changes nothing more.
DROPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


def empty_for_null(value: object) -> object:
    """null is no text."""
    return "" if value is None else value


def listed(value: object) -> object:
    """One thing is a list of one. A list that is too long for any argument is refused before its elements are looked
    at: each that is wrong would become an error of its own, and all of them a text."""
    if isinstance(value, list) and len(value) > MOST_LISTED:
        raise ValueError(f"a list has at most {MOST_LISTED:,} elements")
    return [value] if isinstance(value, str | dict) else value


def answer(model: BaseModel) -> CallToolResult:
    """The model, structured and as text. Whatever it repeats of others is without hidden characters; those of cells
    have been shown as numbers before they were measured."""
    around = model.model_copy(update={"rows": []}) if isinstance(model, RowsAnswer) else model
    body = around.model_dump(mode="json", exclude_defaults=True)  # as it is measured to fit: `fitting.shown`
    text = compact(body)
    if isinstance(model, RowsAnswer):  # whose rows are JSON already, and many
        rows = model.rows.text if isinstance(model.rows, WrittenRows) else compact(model.rows)
        text = text.replace(_NO_ROWS, f'"rows":{rows}', 1)
        body["rows"] = model.rows
    if not text.isascii():
        text = compact(body := tidy(body))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=body)


async def reported(ctx: Context[Serving], work: Callable[[Callable[[Progress], None]], Awaitable[T]]) -> T:
    """The result of `work`, which is given a function that any thread may call with its progress.

    The newest progress is sent, never backwards, a few times a second; a client that did not ask is told nothing.
    """
    pump = _Pump(ctx)
    try:
        return await work(pump.offer)
    finally:
        await pump.stop()


class _Pump:
    def __init__(self, ctx: Context[Serving]) -> None:
        self._ctx, self._loop = ctx, asyncio.get_running_loop()
        self._newest: Progress | None = None
        self._offered = asyncio.Event()
        self._sent = -1.0
        self._running: asyncio.Task[None] | None = None  # from the first progress on: most calls have none
        self._stopped = False

    def offer(self, progress: Progress) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop has closed, and nobody waits
            self._loop.call_soon_threadsafe(self._take, progress)

    async def stop(self) -> None:
        """Raises why progress could not be sent."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()

    def _take(self, progress: Progress) -> None:
        self._newest = progress
        self._offered.set()
        if self._running is None and not self._stopped:
            self._running = self._loop.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._offered.wait()
            self._offered.clear()
            newest = self._newest
            if newest is not None and newest.done > self._sent:
                self._sent = newest.done
                await self._ctx.report_progress(newest.done, newest.total, newest.message or None)
            await asyncio.sleep(REPORT_EVERY_S)
