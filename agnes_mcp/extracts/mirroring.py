"""`agnes-mcp sync`: the local tables of a remote agnes-mcp as files of this machine.

Remote-mode tables are never downloaded. A file is replaced only by one that was verified; what goes wrong with one
table leaves the others. Nothing else of the data directory is touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from agnes_mcp.calls.call import Call
from agnes_mcp.config.types import is_loopback
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.transfer import (
    CONNECT_TIMEOUT_S,
    PAUSES_S,
    READ_TIMEOUT_S,
    Transfer,
    TransferFailed,
    cause_of,
    check_status,
    md5_of,
    wait,
)
from agnes_mcp.models import TABLE_ID_PATTERN, Model
from agnes_mcp.snapshots.files import disk_errors

if TYPE_CHECKING:
    import httpx2

MAX_MANIFEST_BYTES = 64 * 2**20
#: The remote tables that are named when they are passed over.
_NAMED = 5
_STATE = ".sync.json"


class SyncFailed(Exception):  # noqa: N818 - what it is
    """Nothing could be compared: the manifest did not arrive. `hint` is the next step."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class SyncError(Model):
    table: str
    error: str


class SyncAnswer(Model):
    """What was done, by table id. With a dry run, `downloaded` is what would be."""

    downloaded: list[str] = Field(default_factory=list)
    skipped: list[str] = Field(default_factory=list)
    skipped_remote: list[str] = Field(default_factory=list)
    errors: list[SyncError] = Field(default_factory=list)

    def remote_line(self) -> str:
        """What is said of the tables that were passed over; "" where there are none."""
        names = self.skipped_remote
        if not names:
            return ""
        more = f" (+{len(names) - _NAMED} more)" if len(names) > _NAMED else ""
        return f"Skipping {len(names)} remote-mode tables: {', '.join(names[:_NAMED])}{more}"


class Arrival(NamedTuple):
    """How far one table is. `total` None: the server does not say."""

    table: str
    done: int
    total: int | None


class _Entry(BaseModel):
    """What is read of a manifest's entry; a newer server may say more."""

    hash: str = Field(default="", pattern=r"\A([0-9a-f]{32})?\z")
    query_mode: str = "local"


class _Manifest(BaseModel):
    tables: dict[str, _Entry]


class Mirror:
    """One remote server and the folder that holds its tables. Blocking.

    `url` is where its HTTP endpoints are, without `/mcp`. The token goes into a header, and only over https or to this
    machine. Raises ValueError, in words, for a url or a token that would not do.
    """

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self.url = checked_url(url)
        self._token = token.strip()
        if not re.fullmatch(r"[!-~]*", self._token):
            raise ValueError("the token holds characters that no token has")
        self._folder = folder

    def run(
        self, call: Call, *, dry_run: bool = False, on_arrival: Callable[[Arrival], None] = lambda _: None
    ) -> SyncAnswer:
        """Raises `SyncFailed` without a manifest, `storage_failed` without a folder, and what ends the call."""
        answer = SyncAnswer()
        with self._client() as client:
            entries = self._manifest(client, call)
            with nullcontext() if dry_run else _alone(self._folder, call):
                state = _State(self._folder)
                wanted: list[str] = []
                for table_id, entry in sorted(entries.items()):
                    self._sort(table_id, entry, state, answer, wanted)
                if dry_run:
                    answer.downloaded = wanted
                    return answer
                for table_id in wanted:
                    transfer = Transfer(
                        client,
                        f"{self.url}/tables/{table_id}.parquet",
                        state.file(table_id),
                        entries[table_id].hash,
                        partial(self._hash_now, client, call, table_id),
                    )
                    _download(transfer, table_id, state, answer, call, on_arrival)
        return answer

    def _client(self) -> httpx2.Client:
        import httpx2

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        return httpx2.Client(headers=headers, timeout=timeout, follow_redirects=False, trust_env=True)

    def _manifest(self, client: httpx2.Client, call: Call) -> dict[str, _Entry]:
        for usual_s in (*PAUSES_S, None):
            try:
                return self._read_manifest(client, call)
            except TransferFailed as failure:
                pause_s = failure.pause_s(usual_s)
                if pause_s is None:
                    raise SyncFailed(f"The manifest of {self.url} did not arrive: {failure}.", _hint(failure)) from None
            wait(call, pause_s)
        raise AssertionError("the last try returns or raises")

    def _hash_now(self, client: httpx2.Client, call: Call, table_id: str) -> str:
        """The hash of a table that is there, and local, as the manifest names it by now; "" is none."""
        entry = self._read_manifest(client, call).get(table_id)
        return entry.hash if entry is not None and entry.query_mode != "remote" else ""

    def _read_manifest(self, client: httpx2.Client, call: Call) -> dict[str, _Entry]:
        import httpx2

        received = bytearray()
        try:
            with client.stream("GET", f"{self.url}/manifest") as response:
                check_status(response)
                for piece in response.iter_bytes():
                    call.check()
                    received += piece
                    if len(received) > MAX_MANIFEST_BYTES:
                        raise TransferFailed("it is larger than any manifest", final=True)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            call.check()
            raise TransferFailed(f"the server cannot be reached ({cause_of(error)})") from None
        try:
            return _Manifest.model_validate_json(bytes(received)).tables
        except ValidationError:
            raise TransferFailed("what answers there is no manifest", final=True) from None

    def _sort(self, table_id: str, entry: _Entry, state: _State, answer: SyncAnswer, wanted: list[str]) -> None:
        """Which of the four a table is."""
        if not re.fullmatch(TABLE_ID_PATTERN, table_id):
            answer.errors.append(SyncError(table=table_id[:80], error="its name is none that a table here may have"))
        elif entry.query_mode == "remote":
            answer.skipped_remote.append(table_id)
        elif entry.hash and state.hash_of(table_id) == entry.hash:
            answer.skipped.append(table_id)
        else:
            wanted.append(table_id)


def _download(
    transfer: Transfer,
    table_id: str,
    state: _State,
    answer: SyncAnswer,
    call: Call,
    on_arrival: Callable[[Arrival], None],
) -> None:
    try:
        found = transfer.run(call, lambda done, total: on_arrival(Arrival(table_id, done, total)))
        state.note(table_id, found)
    except TransferFailed as failure:
        answer.errors.append(SyncError(table=table_id, error=str(failure)))
    except AgnesError as error:
        call.check()
        answer.errors.append(SyncError(table=table_id, error=error.message))
    else:
        answer.downloaded.append(table_id)


class _State:
    """What each file held when it was last looked at, so that unchanged ones are not hashed at every run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes: dict[str, list[object]] = {}  # one a file; another size or time, and it is hashed again
        try:
            notes = json.loads((folder / _STATE).read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(notes, dict):
            self._notes = {key: note for key, note in notes.items() if isinstance(note, list)}

    def file(self, table_id: str) -> Path:
        return self._folder / f"{table_id}.parquet"

    def hash_of(self, table_id: str) -> str:
        """The hash of the file that is there; "" where there is none, whatever was noted of it."""
        file = self.file(table_id)
        try:
            status = file.stat()
            note = self._notes.get(table_id, [])
            if len(note) == 3 and note[1:] == [status.st_mtime_ns, status.st_size]:
                return str(note[0])
            return md5_of(file)
        except OSError:
            return ""

    def note(self, table_id: str, found: str) -> None:
        """What cannot be noted, on a full disk, is hashed by the next run."""
        building = self._folder / f"{_STATE}.tmp"
        try:
            status = self.file(table_id).stat()
            self._notes[table_id] = [found, status.st_mtime_ns, status.st_size]
            building.write_text(json.dumps(self._notes), encoding="utf-8")
            building.replace(self._folder / _STATE)
        except OSError:
            building.unlink(missing_ok=True)


def checked_url(url: str) -> str:
    """The url without a final slash or `/mcp`. Raises ValueError, in words, for one that a token may not go to."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond all ports, half an address of IPv6
        named = False
    if not named or parts.scheme not in ("http", "https"):
        raise ValueError("name the server as in https://data.example.com")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "the address has no place for a user, a token or a query; the token comes from the environment"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("use https: over plain http the token would travel in the clear")
    return url.rstrip("/").removesuffix("/mcp")


def folder_name(url: str) -> str:
    """The source's name for a server: its host, and its port where that is unusual."""
    parts = urlsplit(url)
    name = (parts.hostname or "") if parts.port is None else f"{parts.hostname}_{parts.port}"
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name)[:128]


def _hint(failure: TransferFailed) -> str:
    if "(401)" in str(failure) or "(403)" in str(failure):
        return "Set AGNES_TOKEN, or the variable of --token-env, to a token of that server."
    return "Check the address, and that `agnes-mcp serve --transport http` runs there; then sync again."


@contextmanager
def _alone(folder: Path, call: Call) -> Iterator[None]:
    """One run at a time writes into a folder; another one waits until it is done, or its call ends."""
    from filelock import FileLock, Timeout

    with disk_errors("make the folder"):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".sync.lock", mode=0o600, thread_local=False)
    while True:
        call.check()
        with disk_errors("lock the folder"), suppress(Timeout):
            lock.acquire(timeout=0.1, poll_interval=0.05)
            break
    try:
        yield
    finally:
        lock.release()
