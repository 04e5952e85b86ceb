"""The sidecar: one JSON file that says what a snapshot is, and proves itself.

    {"checksum": "<sha256 of the rest>", "file": "<name>.<token>.parquet", "format_version": 1, "snapshot": {…}}

The file must be, byte for byte, what `render` makes of its content, and the checksum must be that of the content:
together they find any flipped bit, whether it changes a value or only the white space. It is indented, for people; a
large one is one line, since Python indents ten times slower than it writes a line. Earlier versions indented large ones
too; those are read all the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots.models import Snapshot

from .folder import token_of

FORMAT_VERSION = 1

#: More than any request can need: 10,000 columns with names of 300 characters, three times over.
MAX_SIDECAR_BYTES = 16 * 1024 * 1024

#: Beyond so many bytes a sidecar is one line.
_INDENTED_BYTES = 64 * 1024

# What depends on the moment of reading, and so is never stored.
_COMPUTED = {"damaged", "expired", "stale"}


@dataclass(frozen=True)
class Sidecar:
    snapshot: Snapshot
    token: str


class UnreadableSidecarError(Exception):
    """Why a sidecar cannot be used, as a sentence part: "its metadata is empty"."""


def render(sidecar: Sidecar) -> bytes:
    """The bytes of the file. `result_too_large` above `MAX_SIDECAR_BYTES`."""
    snapshot = sidecar.snapshot
    content = _render(
        {
            "file": f"{snapshot.name}.{sidecar.token}.parquet",
            "format_version": FORMAT_VERSION,
            "snapshot": snapshot.model_dump(mode="json", exclude=_COMPUTED),
        }
    )
    if len(content) > MAX_SIDECAR_BYTES:
        raise AgnesError("result_too_large", "The description of this snapshot is too large.", "Select fewer columns.")
    return content


def parse(content: bytes, name: str) -> Sidecar:
    """What a sidecar's bytes say of the snapshot `name`; raises `UnreadableSidecarError`, nothing else."""
    envelope = _proven(content)
    if envelope.get("format_version") != FORMAT_VERSION:
        raise UnreadableSidecarError("its metadata was written by another version")
    file, fields = envelope.get("file"), envelope.get("snapshot")
    if not isinstance(file, str) or not isinstance(fields, dict):
        raise UnreadableSidecarError("its metadata is incomplete")
    token = token_of(name, file)
    if token is None or fields.get("name") != name:
        raise UnreadableSidecarError("its metadata belongs to another snapshot")
    try:
        return Sidecar(Snapshot.model_validate({k: v for k, v in fields.items() if k not in _COMPUTED}), token)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise UnreadableSidecarError(f"its metadata has a wrong {field[:80]}") from error


def _proven(content: bytes) -> dict[str, Any]:
    if not content:
        raise UnreadableSidecarError("its metadata is empty")
    if len(content) > MAX_SIDECAR_BYTES:
        raise UnreadableSidecarError("its metadata is too large")
    try:
        envelope = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableSidecarError("its metadata is not JSON") from error
    if not isinstance(envelope, dict):
        raise UnreadableSidecarError("its metadata is not an object")
    # The version first: another version may well prove itself in another way.
    if envelope.get("format_version") != FORMAT_VERSION:
        return envelope
    if _render(envelope, one_line=content.count(b"\n") == 1) != content:
        raise UnreadableSidecarError("its metadata fails its checksum")
    return envelope


def _render(envelope: dict[str, Any], *, one_line: bool | None = None) -> bytes:
    """The one way to write an envelope, with its own checksum in it; None: on one line where it is large."""
    body = {key: value for key, value in envelope.items() if key != "checksum"}
    plain = _json(body, indent=None)
    one_line = len(plain) > _INDENTED_BYTES if one_line is None else one_line
    return _json({"checksum": hashlib.sha256(plain).hexdigest(), **body}, indent=None if one_line else 2) + b"\n"


def _json(value: object, indent: int | None) -> bytes:
    # ASCII, so that a lone surrogate in a principal's name survives the trip.
    return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=True, allow_nan=True).encode()
