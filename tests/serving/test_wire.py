"""The ends of a stdio server: lines as they arrive, messages as there is room, over pipes and over sockets."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest
from pydantic import ValidationError

from agnes_mcp.serving.unreadable import Received, Sent
from agnes_mcp.serving.wire import Lines, Messages

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there the SDK reads and writes in threads")
Ends = tuple[int, int]
LONG = "ž" * 1_000_000


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """What is read from, and what is written to."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    yield reading, writing
    for descriptor in (reading, writing):
        with suppress(OSError):  # the test has closed it
            os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


async def arrived(reading: int, write: Callable[[], None]) -> list[str]:
    """The lines that come of what `write` does in a thread."""
    lines = list[str]()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, write)
        lines += [line async for line in Lines(reading)]
    return lines


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([], []),
        ([b"one\n"], ["one"]),
        ([b"one\ntwo\n\nthree"], ["one", "two", "", "three"]),
        ([b"o", b"n", b"e\nt", b"wo\n"], ["one", "two"]),
        ([b"a\r\n", b"\xc5", b"\xbe\n"], ["a\r", "ž"]),
        ([b"\xff\n", b"\xc5"], ["\ufffd", "\ufffd"]),
        ([LONG.encode() + b"\nshort\n", b"\n" * 3], [LONG, "short", "", "", ""]),
    ],
)
async def test_lines_come_whole_in_whichever_pieces_they_arrive(
    ends: Ends, pieces: list[bytes], lines: list[str]
) -> None:
    reading, writing = ends

    def write() -> None:
        for piece in pieces:
            write_all(writing, piece)
        os.close(writing)

    assert await arrived(reading, write) == lines


async def test_a_descriptor_that_somebody_made_nonblocking_is_read_and_written(ends: Ends) -> None:
    reading, writing = ends
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    messages = Messages(writing)

    async def write() -> None:
        for text in ("one\n", f"{LONG}\n", "two\n"):
            await messages.write(text)
            await messages.flush()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        lines = Lines(reading)
        assert [await anext(lines) for _ in range(3)] == ["one", LONG, "two"]


async def test_messages_are_written_whole_and_in_order_to_whoever_reads_late(ends: Ends) -> None:
    """There is room for the first ones at once; a long one waits in a thread, without holding the loop."""
    reading, writing = ends
    texts = [f"{number}\n" for number in range(50)] + [f"{LONG}\n", "after\n"]
    messages, read = Messages(writing), list[str]()

    async def write() -> None:
        for text in texts:
            await messages.write(text[:1])
            await messages.write(text[1:])
            await messages.flush()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        lines = Lines(reading)
        while len(read) < len(texts):
            read.append(await anext(lines) + "\n")
    assert read == texts


async def test_whoever_has_left_is_an_error(ends: Ends) -> None:
    reading, writing = ends
    os.close(reading)
    messages = Messages(writing)
    await messages.write("anybody?\n")
    with pytest.raises(OSError, match="pipe"):
        await messages.flush()


async def test_a_client_that_has_left_is_noticed_by_the_next_message(ends: Ends) -> None:
    reading, writing = ends
    left, hello = list[str](), SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="notifications/hello"))
    sent = Sent(Messages(writing), lambda: left.append("left"))
    await sent.send(hello)
    received = Received(Lines(reading))
    assert await received.receive() == hello
    os.close(reading)
    with pytest.raises(anyio.BrokenResourceError):
        await sent.send(hello)
    assert left == ["left"]
    assert isinstance(sent.failure, OSError)


async def test_messages_are_received_in_order_and_what_is_none_says_why(ends: Ends) -> None:
    reading, writing = ends
    write_all(writing, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n{"jsonrpc":"2.0","id":\n[]\n')
    os.close(writing)
    received = Received(Lines(reading))
    assert await received.receive() == SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=1, method="ping"))
    unread = [await received.receive() for _ in range(2)]
    assert [isinstance(one, ValidationError) for one in unread] == [True, True]
    with pytest.raises(anyio.EndOfStream):
        await received.receive()


async def test_a_message_that_has_begun_is_written_to_its_end_by_whoever_is_stopped(ends: Ends) -> None:
    """Half a line, and the next one after it, would be no protocol."""
    reading, writing = ends
    messages, begun = Messages(writing), anyio.Event()

    async def write() -> None:
        await messages.write(f"{LONG}\n")
        begun.set()
        await messages.flush()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await begun.wait()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            assert await anext(Lines(reading)) == LONG


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe does not tell how much it holds")
async def test_an_answer_goes_into_an_empty_pipe_whole_before_anybody_reads() -> None:
    """Piece by piece its reader would be woken for each. What is there already is followed by as much as there is room
    for, and the rest waits."""
    import fcntl

    reading, writing = os.pipe()
    try:
        messages = Messages(writing)
        answer = "x" * (fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) - 1) + "\n"
        await messages.write(answer)
        await messages.flush()  # would wait for ever, for nobody reads
        lines = Lines(reading)
        assert await anext(lines) + "\n" == answer
        await messages.write("short\n")
        await messages.flush()
        async with anyio.create_task_group() as group:
            await messages.write(answer)
            group.start_soon(messages.flush)
            assert [await anext(lines), await anext(lines) + "\n"] == ["short", answer]
    finally:
        os.close(reading)
        os.close(writing)
