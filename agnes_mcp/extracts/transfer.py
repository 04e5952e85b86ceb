"""One table's file from a remote server: resumed where it broke off, verified before it replaces anything.

A part is kept under the hash that the server named for it, and continued only as long as the server names the same one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT_S = 10.0
#: The longest silence: a table may have to be written to Parquet before its first byte leaves.
READ_TIMEOUT_S = 120.0
#: Pauses between the three tries, in seconds, and before what would be a fourth.
PAUSES_S = (0.3, 1.0)
#: A server that asks for more patience is told of, and asked again by the next run.
MAX_PAUSE_S = 10.0
HASH = re.compile(r"[0-9a-f]{32}")
_MAGIC = b"PAR1"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

OnBytes = Callable[[int, int | None], None]


class TransferFailed(Exception):  # noqa: N818 - what it is
    """Why a table did not arrive. `final`: to try again changes nothing. `after_s`: when the server asks to."""

    def __init__(self, reason: str, final: bool = False, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.final = final
        self.after_s = after_s

    def pause_s(self, usual_s: float | None) -> float | None:
        """How long to wait before the next try, where there is one: as the server asks, within reason."""
        return None if self.final or usual_s is None else max(usual_s, min(self.after_s, MAX_PAUSE_S))


class Transfer:
    """Brings `url` to `target`. `expected` is the hash that the manifest named; "" is none.

    `ask_again` reads the manifest anew: the table may have changed since.
    """

    def __init__(
        self, client: httpx2.Client, url: str, target: Path, expected: str, ask_again: Callable[[], str]
    ) -> None:
        self._client = client
        self._url = url
        self._target = target
        self._expected = expected
        self._ask_again = ask_again

    def run(self, call: Call, on_bytes: OnBytes) -> str:
        """The hash of what is there now. Raises `TransferFailed`, and what ends the call; the old file then stays."""
        for usual_s in (*PAUSES_S, None):
            try:
                return self._once(call, on_bytes)
            except TransferFailed as failure:
                pause_s = failure.pause_s(usual_s)
                if pause_s is None:
                    raise
            wait(call, pause_s)
        raise AssertionError("the last try returns or raises")

    def _once(self, call: Call, on_bytes: OnBytes) -> str:
        import httpx2

        part = self._left_part()
        have = part.stat().st_size if part else 0
        headers = {"Accept-Encoding": "identity"}
        if part and have:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{_hash_of(part)}"'}
        try:
            with self._client.stream("GET", self._url, headers=headers) as response:
                if response.status_code == 416 and part:
                    part.unlink()
                    raise TransferFailed("what had arrived of it is not part of the server's file any more")
                check_status(response)
                part, named = self._receive(response, part, have, call, on_bytes)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            call.check()
            raise TransferFailed(f"the connection broke ({cause_of(error)})") from None
        except OSError as error:
            if error.errno in _FULL:  # what arrived takes the place that others need
                for left in self._target.parent.glob(f".{self._target.stem}.*.part"):
                    left.unlink(missing_ok=True)
            raise TransferFailed(_disk(error), final=True) from None
        return self._accept(part, named)

    def _left_part(self) -> Path | None:
        """What an earlier try left, where the server may continue it. Anything else of this table is removed."""
        kept = None
        for path in sorted(self._target.parent.glob(f".{self._target.stem}.*.part")):
            if kept is None and HASH.fullmatch(_hash_of(path)):
                kept = path
            else:
                path.unlink(missing_ok=True)
        return kept

    def _receive(
        self, response: httpx2.Response, part: Path | None, have: int, call: Call, on_bytes: OnBytes
    ) -> tuple[Path, str]:
        """Write what arrives; the part and the hash that the server names for it."""
        named = response.headers.get("etag", "").strip('"')
        named = named if HASH.fullmatch(named) else self._expected
        if self._expected and named != self._expected:
            if named != self._ask_again():  # or every run would bring it again
                raise TransferFailed("the manifest names another file than the server sends")
            self._expected = named
        continued, packed = response.status_code == 206, _is_packed(response)
        if continued and packed:  # part of a packed answer is no part of the file
            if part is not None:
                part.unlink(missing_ok=True)
            raise TransferFailed("something between packs the answers, so that none can be continued")
        if continued and not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
            raise TransferFailed("the server sent another range than was asked for")
        if not continued:
            have = 0
            if part is not None:
                part.unlink(missing_ok=True)
            part = self._target.with_name(f".{self._target.stem}.{named or 'unnamed'}.part")
        assert part is not None  # noqa: S101 - only what is there is continued
        length = response.headers.get("content-length", "")
        total = have + int(length) if length.isdigit() and not packed else None
        with open(part, "ab" if continued else "wb") as file:
            pieces = response.iter_bytes() if packed else response.iter_raw()
            for piece in pieces:  # as they come: what waited to fill one would be lost by a cut
                call.check()
                file.write(piece)
                have += len(piece)
                on_bytes(have, total)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and have != total:
            raise TransferFailed("the connection broke before the end")
        return part, named

    def _accept(self, part: Path, named: str) -> str:
        """Verify, then replace. A file that is not what the server named is removed; the old one stays."""
        try:
            found = md5_of(part)
            sound = found == named if named else _is_framed(part)
            if not sound:
                part.unlink()
                raise TransferFailed("what arrived is not what the server named: the hashes differ")
            part.replace(self._target)
        except OSError as error:
            raise TransferFailed(_disk(error), final=True) from None
        return found


def _is_packed(response: httpx2.Response) -> bool:
    """Whether a proxy compressed it, though it was asked not to."""
    return response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


def check_status(response: httpx2.Response) -> None:
    """Raise `TransferFailed` unless the server answers with what was asked for."""
    status = response.status_code
    if status in (200, 206):
        return
    if 300 <= status < 400:
        raise TransferFailed(f"the server redirects elsewhere ({status}); name that address", final=True)
    reasons = {
        401: "the server does not know this token",
        403: "access is denied",
        404: "it is not there",
        429: "the server was asked too often",
        503: "the server is not ready",
    }
    said = reasons.get(status, "the server failed" if status >= 500 else "the server refused")
    after = response.headers.get("retry-after", "").strip()
    after_s = float(after) if after.isascii() and after.isdigit() and len(after) < 7 else 0.0
    asked = f"; it asks to come again in {after_s:.0f} s" if after_s else ""
    raise TransferFailed(f"{said} ({status}){asked}", final=status < 500, after_s=after_s)


def cause_of(error: Exception) -> str:
    """Why nothing came, in a few words: what the library's own error was raised from says most."""
    import socket
    import ssl

    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        connecting = isinstance(error, httpx2.ConnectTimeout)
        return f"no answer within {CONNECT_TIMEOUT_S:.0f} s" if connecting else f"nothing for {READ_TIMEOUT_S:.0f} s"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case None:
            return "before its end"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {cause.verify_message}"
        case ssl.SSLError():
            return "it does not speak TLS there"
        case socket.gaierror():
            return "there is no such host"
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else "before its end"


def wait(call: Call, seconds: float) -> None:
    """Pause, unless the call ends meanwhile, which is raised."""
    import threading

    ended = threading.Event()
    with call.interruptible(ended.set):
        ended.wait(seconds)
    call.check()


def md5_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _hash_of(part: Path) -> str:
    return part.suffixes[-2][1:] if len(part.suffixes) >= 2 else ""


def _is_framed(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(-min(4, os.path.getsize(path)), os.SEEK_END)
        return head == _MAGIC and file.read(4) == _MAGIC and os.path.getsize(path) >= 12


def _disk(error: OSError) -> str:
    if error.errno in _FULL:
        return "the disk is full"
    return f"the disk refused ({os.strerror(error.errno) if error.errno else type(error).__name__})"
