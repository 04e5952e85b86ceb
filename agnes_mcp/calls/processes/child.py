"""A worker process: one question after another, each answered by the job that it names.

Started by `worker` as `python -I -m agnes_mcp.calls.processes.child MEMORY_BYTES THREADS NAME=MODULE:CLASS…`: it is
handed its jobs, and knows none. Questions come on standard input, answers leave on what was standard output; whatever
prints while a job runs prints into nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, BinaryIO, Protocol

from agnes_mcp.calls.processes import confinement, frames
from agnes_mcp.errors import AgnesError

#: After these many questions a process has served: a bound on whatever a library may leak.
MAX_QUESTIONS = 100
#: The part of a question's memory that the allocator may keep from the next one; beyond it the process ends.
MAX_KEPT_SHARE = 1 / 8


class Channel:
    """The server, as a job sees it. Every method raises frames.ClosedError once the server has gone."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers

    def need(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the server for what the job found out it needs. Raises AgnesError: the server refuses it, and waits for
        the job to say that it has failed."""
        frames.send_json(self._answers, frames.NEEDS, content)
        kind, given = frames.receive(self._requests)
        message: dict[str, Any] = json.loads(given)
        if kind == frames.REFUSE:
            raise AgnesError(**message)
        if kind != frames.GRANT:
            raise frames.ClosedError
        return message

    def send_piece(self, piece: bytes) -> None:
        """A piece of the one Arrow stream of the answer; it leaves with the next large one, or with the end."""
        frames.queue(self._answers, frames.ARROW, piece)

    def flush(self) -> None:
        self._answers.flush()

    def end(self, content: Mapping[str, Any]) -> None:
        frames.send_json(self._answers, frames.DONE, content)

    def fail(self, message: Mapping[str, Any]) -> None:
        frames.send_json(self._answers, frames.FAILED, message)


class Job(Protocol):
    """Made once in a process, with what one question may use: bytes of memory, and threads."""

    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        """Answer one question to its end. False: the process should not be asked again."""
        ...

    def renew(self) -> bool:
        """Put away what the last question left. False: there was nothing to put away."""
        ...


MakeJob = Callable[[int, int], Job]


def main(makers: Mapping[str, MakeJob] | None = None, *, networked: bool = False) -> None:
    """Serve until the server closes the pipe. `makers` replaces the jobs of the command line; `networked`: they work
    elsewhere (see `confinement`)."""
    memory_bytes, threads = int(sys.argv[1]), int(sys.argv[2])
    requests, answers = _take_pipes()
    confined = confinement.confine_process(networked=networked)
    jobs = {name: make(memory_bytes, threads) for name, make in (makers or _named(sys.argv[3:])).items()}
    confined["memory_limited"] = confinement.limit_resources(memory_bytes, writes=networked)
    first_bytes = confinement.address_space_bytes()
    channel = Channel(requests, answers)
    for _ in range(MAX_QUESTIONS):
        frames.send_json(answers, frames.READY, confined)
        question = frames.receive_json(requests, frames.ASK)
        confinement.limit_cpu(question["cpu_s"])
        job = jobs[question["job"]]
        if not job.answer(question, channel):
            return
        if job.renew():
            confinement.release_memory()
            if confinement.address_space_bytes() - first_bytes > MAX_KEPT_SHARE * memory_bytes:
                return


def _named(arguments: list[str]) -> dict[str, MakeJob]:
    """`NAME=MODULE:CLASS` each."""
    makers: dict[str, MakeJob] = {}
    for argument in arguments:
        name, _, place = argument.partition("=")
        module, _, attribute = place.partition(":")
        makers[name] = getattr(import_module(module), attribute)
    return makers


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes to the server, away from the descriptors that an engine may read or print to."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    return requests, answers


if __name__ == "__main__":
    with contextlib.suppress(frames.ClosedError):  # the server has gone, or wants this process to go
        main()
