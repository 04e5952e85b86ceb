"""Whether a text file is whole, and in which encoding: looked at before DuckDB is, which takes what it could read."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.nesting import is_too_deep
from agnes_mcp.sql.duckdb_errors import unavailable

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.calls.call import Call
    from agnes_mcp.models import Table

#: So much of a text is looked at in one piece.
_PIECE_BYTES = 2**20
_PACKED = {"gz": "gzip", "zst": "zstd"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LITTLE_ENDIAN, _BIG_ENDIAN = b"\xff\xfe", b"\xfe\xff"


def packing_of(path: str) -> str | None:
    """How its name says that a file is packed, in Arrow's and DuckDB's word."""
    return _PACKED.get(path.lower().rpartition(".")[2])


def _unpacked(path: str) -> pa.NativeFile:
    import pyarrow as pa

    return pa.input_stream(path, compression=packing_of(path))


def refuse_torn(table: Table, path: str, call: Call) -> None:
    """Raise `table_unavailable` for a packed text that breaks off or is damaged.

    DuckDB takes what it could unpack for all of it, and the last line for a whole one.
    """
    import pyarrow as pa

    if packing_of(path) is None:
        return
    try:
        with _unpacked(path) as unpacked:
            while unpacked.read(_PIECE_BYTES):
                call.check()
    except (OSError, pa.ArrowException):
        reason = "its packed file breaks off or is damaged, or is not packed as its name says"
        raise unavailable(reason, table.id) from None


def refuse_deep(table: Table, path: str, call: Call) -> None:
    """Raise `table_unavailable` for a JSON that would be more than DuckDB's stack holds."""
    with _unpacked(path) as unpacked:
        if is_too_deep(unpacked, call.check):
            raise unavailable("its JSON is nested deeper than DuckDB reads", table.id)


def refuse_encoding(table: Table, path: str) -> None:
    """Raise `table_unavailable` where a text is not in the encoding that is told, which DuckDB reads as other signs."""
    with _unpacked(path) as unpacked:
        head = unpacked.read(_PIECE_BYTES)
    told = table.csv.get("encoding")
    if head.startswith(_BIG_ENDIAN):
        raise unavailable("its text is UTF-16 with the higher byte first; written as UTF-8 it can be read", table.id)
    if told == "utf-16" and not head.startswith(_LITTLE_ENDIAN) and b"\0" not in head:
        raise _other_encoding(table, "it is told to be UTF-16, and is not")
    if told not in (None, "utf-16") and head.startswith(_LITTLE_ENDIAN):
        raise _other_encoding(table, "its text is UTF-16")


def _other_encoding(table: Table, reason: str) -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f"The table {table.id!r} cannot be read: {reason}.",
        "Whoever keeps this instance can set csv.encoding for the table, or take it out.",
        {"options": ["encoding"]},
    )


def is_utf8(path: str, call: Call) -> bool:
    """Whether all of a text is UTF-8."""
    decoder = getincrementaldecoder("utf-8")()
    with _unpacked(path) as unpacked:
        while True:
            call.check()
            piece = unpacked.read(_PIECE_BYTES)
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError:
                return False
            if not piece:
                return True


def holds_nul(path: str) -> bool:
    """Whether a text begins with bytes among which there is one that no text has, but for UTF-16."""
    with _unpacked(path) as unpacked:
        head = unpacked.read(_PIECE_BYTES)
    return b"\0" in head and not head.startswith(_LITTLE_ENDIAN)


def is_marked_list(path: str) -> bool:
    """Whether a JSON begins with a byte order mark, before which DuckDB does not see the list."""
    if packing_of(path) is not None:
        return False
    with open(path, "rb") as file:
        head = file.read(_PIECE_BYTES)
    return head.startswith(_BYTE_ORDER_MARK) and head.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] == b"["
