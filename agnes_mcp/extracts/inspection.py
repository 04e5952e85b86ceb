"""What a DuckDB file of somebody else's holds, found out in a process that can neither write, nor connect, nor last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agnes_mcp.calls.call import Call
from agnes_mcp.extracts.attachment import RemoteAttach
from agnes_mcp.extracts.layout import wal_of

CHILD = ("-I", "-B", "-m", "agnes_mcp.extracts.child")
TIMEOUT_S = 30.0
#: Ten thousand tables with their descriptions.
MAX_ANSWER_BYTES = 64 * 2**20


class UnreadableExtract(Exception):  # noqa: N818 - what it is
    """The file cannot be read now; the text says why, without a path."""


@dataclass(frozen=True)
class Offer:
    """A row of `_meta`. `rows` and `size_bytes` are what the file says, None where it says nothing."""

    name: str
    description: str
    query_mode: str
    rows: int | None
    size_bytes: int | None


@dataclass(frozen=True)
class Contents:
    """What the file holds. `tables`: whether each stored table is only stored, no column of it computed.

    `views`: what each plain view reads, as a `table` of three parts or a `function` of constants; None for any other.
    `openings`: what keeps each view from reading tables of its own file only, "" where it does.
    `macros` are the names, in lower case, that would hide DuckDB's own functions.
    """

    offers: list[Offer] = field(default_factory=list)
    attach: list[RemoteAttach] = field(default_factory=list)
    places: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    tables: Mapping[str, bool] = field(default_factory=dict)
    views: Mapping[str, dict[str, Any] | None] = field(default_factory=dict)
    openings: Mapping[str, str] = field(default_factory=dict)
    macros: frozenset[str] = frozenset()


def inspect_extract(file: Path, call: Call) -> Contents:
    """Blocking. Raises `UnreadableExtract`, and what ends the call."""
    if _size(wal_of(file)):
        raise UnreadableExtract("it is being written, or its writer was killed: a write-ahead log lies beside it")
    found = _ask(file, call)
    if found.get("problem"):
        raise UnreadableExtract("it is damaged, half written, or locked by whoever writes it")
    if found["meta"] is None:
        raise UnreadableExtract("it has no table `_meta`, so it says nothing of what it holds")
    return _contents(found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _ask(file: Path, call: Call) -> dict[str, Any]:
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, *CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("SYSTEMROOT", "SYSTEMDRIVE", "LD_LIBRARY_PATH") if name in os.environ},
        cwd=os.path.abspath(os.sep),
    )
    left_s = call.remaining_s
    alarm = threading.Timer(TIMEOUT_S if left_s is None else min(left_s, TIMEOUT_S), process.kill)
    alarm.start()
    try:
        with call.interruptible(process.kill):
            answer = _converse(process, json.dumps({"path": str(file)}).encode())
    finally:
        alarm.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    call.check()
    return answer


def _converse(process: subprocess.Popen[bytes], question: bytes) -> dict[str, Any]:
    assert process.stdin is not None  # noqa: S101 - pipes were asked for
    assert process.stdout is not None  # noqa: S101 - as above
    try:
        process.stdin.write(question)
        process.stdin.close()
        answer: dict[str, Any] = json.loads(process.stdout.read(MAX_ANSWER_BYTES))
    except (OSError, ValueError):
        return {"problem": "crashed"}
    return answer


def _contents(found: dict[str, Any]) -> Contents:
    return Contents(
        offers=[
            Offer(
                name=row["table_name"] or "",
                description=row["description"] or "",
                query_mode=(row["query_mode"] or "local").lower(),
                rows=_number(row["rows"]),
                size_bytes=_number(row["size_bytes"]),
            )
            for row in found["meta"]
        ],
        attach=[RemoteAttach(*(row[name] or "" for name in RemoteAttach._fields)) for row in found["attach"] or ()],
        places={
            row["table_name"]: (row["project"] or "", row["dataset"] or "", row["source_table"] or "")
            for row in found["places"] or ()
        },
        tables=found["tables"],
        views=found["views"],
        openings=found["openings"],
        macros=frozenset(found["macros"]),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
