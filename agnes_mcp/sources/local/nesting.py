"""How deep a JSON text is nested, found out before DuckDB reads it: a list in a list 20,000 times over, which takes 120
kB, is more than its stack holds, and ended the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

#: Levels that are read; DuckDB was seen to end the process at some 10,000 with a stack of 8 MB, of which some systems
#: give a thread 512 kB.
MOST_LEVELS = 1_000
#: Of a piece that is deep each byte is looked at once for each level.
_PIECE_BYTES = 2**16
_OPENING, _CLOSING, _QUOTE, _ESCAPE = b"[", b"]", b'"', b"\\"
#: Records count as lists do.
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_NO_MARKS = bytes(sorted(set(range(256)) - set(b'[]{}"')))


def is_too_deep(text: BinaryIO, check: Callable[[], object]) -> bool:
    """Whether more than `MOST_LEVELS` may be open at once; what closes more than was opened, closes nothing. Half
    as many may be taken for too many where what is before and what is within a piece adds up.

    `check` is called between pieces, and may raise. One pass at the speed of searching bytes: what is in quotes goes,
    then, as often as it takes, each pair of brackets with nothing between them.
    """
    levels, quoted, torn = 0, b"", b""
    while piece := text.read(_PIECE_BYTES):
        check()
        marks, torn = _without_escapes(torn + piece)
        marks = (quoted + marks.translate(_AS_LISTS, _NO_MARKS)).replace(_QUOTE * 2, b"")
        *whole, last = marks.split(_QUOTE)
        quoted = _QUOTE if len(whole) % 2 else b""  # what follows an odd number of quotes is within them
        outside = b"".join([*whole, last][::2])
        rest, removed = _without_pairs(outside)
        opened = rest.count(_OPENING)
        before, levels = levels, max(0, levels - (len(rest) - opened)) + opened
        if max(before, levels) + removed > MOST_LEVELS:
            return True
    return False


def _without_escapes(piece: bytes) -> tuple[bytes, bytes]:
    """The piece without what a backslash takes its meaning from; and a backslash at its end, which needs the next."""
    if _ESCAPE not in piece:
        return piece, b""
    kept = piece.replace(_ESCAPE * 2, b"")  # from the left, as they are read
    torn = _ESCAPE if kept.endswith(_ESCAPE) else b""
    return kept.removesuffix(_ESCAPE).replace(_ESCAPE + _QUOTE, b""), torn


def _without_pairs(marks: bytes) -> tuple[bytes, int]:
    """What is left of brackets once those that close each other are gone, and how many times that took."""
    for times in range(MOST_LEVELS + 1):
        shorter = marks.replace(_OPENING + _CLOSING, b"")
        if len(shorter) == len(marks):
            return marks, times
        marks = shorter
    return marks, MOST_LEVELS + 1
