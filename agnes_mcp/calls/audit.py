"""One line per call, refused ones too, as JSON Lines under the data directory.

A line holds who called what, what it cost and how it ended; of a predicate only a digest, of the rows nothing. A line
that cannot be written is counted and logged; the call goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import PrivateAttr

from agnes_mcp.models import Model

logger = logging.getLogger(__name__)

Status = Literal["ok", "rejected", "quota_exceeded", "truncated", "cancelled", "error"]
ROTATE_AT_BYTES = 16 * 2**20
LOCK_WAIT_S = 2.0
APPEND_WAIT_S = 0.2
#: Names that one line holds of what was removed.
MAX_REMOVED = 100
#: ASCII, so that a line that a crash has cut is still text.
_COMPACT = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
#: The `tool` of a line that says what an earlier call was billed, whose own line could not say it.
RECOVERY = "recovery"


class AuditLine(Model):
    """One call. Sizes are bytes; None is not known or not applicable."""

    time: str = ""
    request_id: str
    tool: str
    principal: str
    client: str | None = None
    table_id: str | None = None
    tables: list[str] | None = None
    place: str | None = None
    snapshot: str | None = None
    select: list[str] | None = None
    where_hash: str | None = None
    sql_hash: str | None = None
    places: list[str] | None = None
    limit: int | None = None
    estimated_scan_bytes: int | None = None
    bytes_billed: int | None = None
    reserved_bytes: int | None = None
    job_id: str | None = None
    actual_result_rows: int | None = None
    actual_result_bytes: int | None = None
    removed: list[str] | None = None
    latency_ms: int | None = None
    status: Status = "ok"
    error_kind: str | None = None
    _written: bool = PrivateAttr(default=False)


def hash_predicate(where: str) -> str:
    """What stands for a predicate in the audit: enough to see that two calls used the same one, and no more."""
    return hashlib.sha256(where.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Audit:
    """Appends to `<folder>/audit.jsonl`, which is renamed once it has `rotate_at_bytes`. Nothing is removed but by
    `retire`."""

    def __init__(self, folder: Path, rotate_at_bytes: int = ROTATE_AT_BYTES) -> None:
        self._folder = folder
        self._path = folder / "audit.jsonl"
        self._rotate_at_bytes = rotate_at_bytes
        self._lock = threading.Lock()
        self._rotating = threading.Lock()
        self.failures = 0

    def write(self, line: AuditLine, *, urgent: bool = False) -> None:
        """Append the line, once: a second time nothing happens. Never raises for a disk that does not let it.

        `urgent`: the process is about to end. Then nothing is waited for but a line that is just being written.
        """
        try:
            if not urgent:
                with self._rotating:
                    self._rotate()
            with self._lock:
                if not line._written:
                    self._append(line)
                    line._written = True
        except OSError as error:  # a lock that is not free in time is a TimeoutError
            self.failures += 1
            logger.error("audit line not written: %s (%d so far)", type(error).__name__, self.failures)

    def billed_today(self, today: datetime) -> dict[str, int]:
        """Bytes billed per principal since 00:00 UTC, from the lines on disk. Where a bill is not known: what was set
        aside for it, unless a later line of the same request has the figure."""
        billed: dict[str, int] = defaultdict(int)
        unknown: dict[str, tuple[str, int]] = {}  # request → principal and bytes
        prefix = today.date().isoformat()
        for line in self._lines():
            if not str(line.get("time", "")).startswith(prefix):
                continue
            principal, request = str(line.get("principal", "")), str(line.get("request_id", ""))
            if line.get("tool") == RECOVERY:
                unknown.pop(request, None)
            if isinstance(line.get("reserved_bytes"), int):
                unknown[request] = (principal, line["reserved_bytes"])
            if isinstance(line.get("bytes_billed"), int):
                billed[principal] += line["bytes_billed"]
        for principal, reserved in unknown.values():
            billed[principal] += reserved
        return dict(billed)

    def retire(
        self, keep_for: timedelta | None, most_bytes: int | None, now: datetime | None = None
    ) -> list[tuple[str, int]]:
        """Remove renamed files that are older, and the oldest while all together take more; what went, with its bytes.

        Never one of today, and none that is called otherwise. With `keep_for`, a file of an earlier day is renamed
        first. Blocking. What the disk refuses is logged.
        """
        from filelock import FileLock

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._rotating, FileLock(self._folder / ".rotate.lock", timeout=LOCK_WAIT_S):
                return self._retire(keep_for, most_bytes, now or datetime.now(UTC))
        except OSError as error:  # a lock that is not free in time is a TimeoutError
            logger.error("old files of the audit not removed: %s", error.strerror or type(error).__name__)
            return []

    @property
    def size_bytes(self) -> int:
        """What all its files take. Blocking."""
        total = 0
        for path in self._folder.glob("audit*.jsonl"):
            with suppress(OSError):  # renamed or removed since it was listed
                total += path.stat().st_size
        return total

    def recent(self, most: int, principal: str | None = None) -> list[dict[str, Any]]:
        """The newest lines of one principal, or of all; the newest first. Of the file that is being written alone."""
        with suppress(OSError):
            found: deque[dict[str, Any]] = deque(maxlen=most)
            for line in _parse(self._path):
                if principal is None or line.get("principal") == principal:
                    found.append(line)
            return list(reversed(found))
        return []

    def _append(self, line: AuditLine) -> None:
        line.time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = (_COMPACT(line.model_dump()) + "\n").encode("ascii")
        descriptor = self._open_or_make()
        try:
            if not _is_alone(descriptor) or _is_torn(descriptor):
                record = b"\n" + record  # an empty line is no loss, a line that is glued to a torn one would be
            while record:
                record = record[os.write(descriptor, record) :]
        finally:
            os.close(descriptor)  # and with it the lock

    def _open_or_make(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        try:
            return os.open(self._path, flags, 0o600)
        except FileNotFoundError:  # its folder is not there yet, or no more
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, flags, 0o600)

    def _rotate(self) -> None:
        with suppress(FileNotFoundError):
            if self._path.stat().st_size < self._rotate_at_bytes:
                return
            from filelock import FileLock

            with FileLock(self._folder / ".rotate.lock", timeout=LOCK_WAIT_S):
                if self._path.stat().st_size >= self._rotate_at_bytes:  # another process may have been faster
                    self._put_away(datetime.now(UTC))

    def _put_away(self, now: datetime) -> None:
        self._path.rename(self._folder / f"audit-{now:%Y%m%dT%H%M%S%f}.jsonl")

    def _retire(self, keep_for: timedelta | None, most_bytes: int | None, now: datetime) -> list[tuple[str, int]]:
        today = f"{now:%Y-%m-%d}"
        first = next(_parse(self._path), None) if self._path.exists() else None
        if keep_for is not None and first is not None and str(first.get("time", today))[:10] < today:
            self._put_away(now)
        files = [(path, path.stat().st_size) for path in sorted(self._folder.glob("audit-*.jsonl"))]
        taken = sum(size for _, size in files) + (self._path.stat().st_size if self._path.exists() else 0)
        gone: list[tuple[str, int]] = []
        for path, size in files:
            put_away = _put_away_at(path)
            if (
                put_away is None or put_away.date() == now.date()
            ):  # the day's lines are what its budget is restored from
                continue
            is_old = keep_for is not None and now - put_away >= keep_for
            if is_old or (most_bytes is not None and taken > most_bytes):
                path.unlink()
                taken -= size
                gone.append((path.name, size))
        return gone

    def _lines(self) -> Iterator[dict[str, Any]]:
        with ExitStack() as opened:
            # Opened before the others are listed: put away in between, it is among them too, and left out there.
            now = None
            with suppress(OSError):
                now = opened.enter_context(_open(self._path))
            for path in sorted(self._folder.glob("audit-*.jsonl")):
                with suppress(OSError):
                    if now is None or not os.path.samestat(path.stat(), os.fstat(now.fileno())):
                        yield from _parse(path)
            if now is not None:
                with suppress(OSError):
                    yield from _parsed(now)


def _put_away_at(path: Path) -> datetime | None:
    """When a file was renamed, by its name; None: that was somebody else."""
    found = re.fullmatch(r"audit-(\d{8}T\d{12})\.jsonl", path.name)
    try:
        return datetime.strptime(found[1], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def _parse(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as lines:
        yield from _parsed(lines)


def _open(path: Path) -> TextIO:
    return path.open(encoding="ascii", errors="replace")


def _parsed(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for text in lines:
        with suppress(ValueError):  # a line that a crash cut short
            line = json.loads(text)
            if isinstance(line, dict):
                yield line


def _is_alone(descriptor: int) -> bool:
    """Whether no other process writes until this descriptor is closed. One that was stopped while it wrote is waited
    for no longer than a line takes."""
    if sys.platform == "win32":
        return False
    import fcntl

    give_up = time.monotonic() + APPEND_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
        except OSError:  # a file system without locks
            return False
        time.sleep(0.001)


def _is_torn(descriptor: int) -> bool:
    """Whether the last line has no end: its process was killed, or the disk was full."""
    if os.lseek(descriptor, 0, os.SEEK_END) == 0:
        return False
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1) != b"\n"
