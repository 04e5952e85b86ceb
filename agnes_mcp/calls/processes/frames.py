"""What passes between the server and a worker process: a kind of one byte, a length of eight, the content."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from agnes_mcp.errors import AgnesError

# From the worker.
READY = b"R"  # it waits for a question; content: what confines the process
NEEDS = b"N"  # what the job has to be told before it can go on
ARROW = b"A"  # the next piece of one Arrow IPC stream
DONE = b"D"  # the end; content: what the job says of its answer
FAILED = b"F"  # the end; content: an AgnesError
# To the worker.
ASK = b"Q"  # the job's name, its question, and the CPU time it may use
GRANT = b"G"  # what was needed
REFUSE = b"X"  # that it is not to be had; content: an AgnesError

_HEAD = struct.Struct("<cQ")


class ClosedError(Exception):
    """The other side has gone."""


def send(stream: BinaryIO, kind: bytes, content: bytes) -> None:
    """Write one frame, and everything queued before it. Raises ClosedError."""
    queue(stream, kind, content)
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        raise ClosedError from error


def queue(stream: BinaryIO, kind: bytes, content: bytes) -> None:
    """Write one frame into the buffer of the stream; a small answer then wakes its reader once. Raises ClosedError."""
    try:
        stream.write(_HEAD.pack(kind, len(content)))
        stream.write(content)
    except (OSError, ValueError) as error:
        raise ClosedError from error


def send_json(stream: BinaryIO, kind: bytes, content: Mapping[str, Any]) -> None:
    send(stream, kind, json.dumps(content).encode())


def receive(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The next frame: kind and content. Raises ClosedError."""
    kind, length = _HEAD.unpack(_exactly(stream, _HEAD.size))
    return kind, _exactly(stream, length)


def receive_json(stream: BinaryIO, expected: bytes) -> dict[str, Any]:
    """The content of the next frame, which has to be of that kind. Raises ClosedError."""
    kind, content = receive(stream)
    if kind != expected:
        raise ClosedError
    message: dict[str, Any] = json.loads(content)
    return message


def as_message(error: AgnesError) -> dict[str, Any]:
    """An error as it travels, JSON-ready."""
    return {"kind": error.kind, "message": error.message, "hint": error.hint, "details": error.details}


def _exactly(stream: BinaryIO, length: int) -> bytes:
    try:
        content = stream.read(length)
    except (OSError, ValueError) as error:
        raise ClosedError from error
    if content is None or len(content) < length:
        raise ClosedError
    return content
