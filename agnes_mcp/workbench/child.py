"""A worker process: serves one query after another, each in a DuckDB instance of its own.

Started by `calls.processes.worker` as `python -I -m agnes_mcp.workbench.child MEMORY_BYTES THREADS`. Requests come on
standard input, answers leave on what was standard output; SQL that makes the engine print prints into nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from agnes_mcp.calls.processes import confinement, frames

if TYPE_CHECKING:
    from agnes_mcp.workbench.admission import Parser

#: After these many queries a process has served: a bound on whatever a library may leak.
MAX_QUERIES = 100
#: The part of a query's memory that the allocator may keep from the next query; beyond it the process ends.
MAX_KEPT_SHARE = 1 / 8

Admit = Callable[[str, Sequence[str], "Parser"], list[str]]


def main(admit: Admit | None = None) -> None:
    """Serve until the server closes the pipe. `admit` replaces the gate, for tests of what stands behind it."""
    memory_bytes, threads = int(sys.argv[1]), int(sys.argv[2])
    requests, answers = _take_pipes()
    confined = confinement.confine_process()
    from agnes_mcp.workbench import admission, engine, serving

    parser = engine.Parser(memory_bytes)
    instance = engine.open_instance(memory_bytes, threads)
    confined["memory_limited"] = confinement.limit_resources(memory_bytes)
    first_bytes = confinement.address_space_bytes()
    for _ in range(MAX_QUERIES):
        frames.send_json(answers, frames.READY, confined)
        query = serving.Query(requests, answers, instance, parser, admit or admission.admit)
        if not query.serve():
            return
        if query.touched:
            instance.close()
            confinement.release_memory()
            if confinement.address_space_bytes() - first_bytes > MAX_KEPT_SHARE * memory_bytes:
                return
            instance = engine.open_instance(memory_bytes, threads)


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
