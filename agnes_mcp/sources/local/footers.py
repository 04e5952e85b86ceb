"""How much a Parquet file says of itself, found out before DuckDB reads it.

The time that DuckDB takes over columns grows with their square, without an interruption, and what it makes of a footer
takes six times its bytes, beside the memory that it may use: 30 MB of 200,000 columns kept a thread for minutes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.files import of_file
from agnes_mcp.sql.duckdb_lines import line, misreads_wide_decimals

if TYPE_CHECKING:
    import duckdb

#: Columns, and fields inside of them. To make a view of as many takes 3 s of a processor, of 20,000 half a second.
MOST_COLUMNS = 50_000
#: Bytes of a footer; one of half a million row groups, of one column, has 105 MiB.
MOST_BYTES = 64 * 2**20
_MAGIC = b"PAR1"
_TAIL = struct.Struct("<I4s")
#: Fields 1 and 2 of Thrift's compact FileMetaData: an integer, and a list of records whose length may follow.
_VERSION, _SCHEMA, _RECORDS, _LONG = 0x15, 0x19, 0x0C, 0xF
_LOOKED_AT = 32
#: The digits of each decimal, and how many bytes it has: none says that each says so itself.
_DECIMALS = r"""
    FROM (FROM parquet_schema(?) SELECT *,
        coalesce(precision, TRY_CAST(regexp_extract(logical_type, 'precision=(\d+)', 1) AS INTEGER), 0) AS digits)
"""
_MOST_DIGITS = 38
_WIDE = f"(digits > {_MOST_DIGITS} AND (type = 'BYTE_ARRAY' OR CAST(type_length AS INTEGER) % 8 <> 0))"


def refuse_vast(table_id: str, paths: Sequence[str]) -> None:
    """Raises `unsupported_format` for a file with more columns, or a longer footer, than are read. Raises OSError."""
    for path in paths:
        footer_bytes, columns = _measured(path)
        if columns > MOST_COLUMNS:
            refused = _vast(table_id, f"{columns:,} columns, with the fields inside of them", f"{MOST_COLUMNS:,}")
            raise of_file(refused, path, paths)
        if footer_bytes > MOST_BYTES:
            found = f"{footer_bytes / 2**20:,.0f} MiB that say what is in it (its footer)"
            raise of_file(_vast(table_id, found, f"{MOST_BYTES // 2**20} MiB"), path, paths)


def misread_columns(cursor: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, str]:
    """The columns of which this DuckDB would give other numbers than the file has, with the reason. Raises what DuckDB
    does."""
    if not misreads_wide_decimals():
        return {}
    found = cursor.execute(f"{_DECIMALS} SELECT file_name, max(digits) WHERE {_WIDE} GROUP BY ALL", [paths]).fetchall()
    digits = max((int(most) for _, most in found), default=0)
    reason = f"it has decimals of {digits} digits, and DuckDB {line()} reads no more than {_MOST_DIGITS} as they are"
    return {name: reason for path, _ in found for name in _holders(cursor, path)}


def _holders(cursor: duckdb.DuckDBPyConnection, path: str) -> Iterator[str]:
    """The columns of a file that have such decimals, themselves or in a field."""
    rows = cursor.execute(f"{_DECIMALS} SELECT name, coalesce(num_children, 0), {_WIDE}", [[path]]).fetchall()
    elements = iter(rows[1:])  # the first is the root of all
    for name, children, is_wide in elements:
        left, held = int(children), bool(is_wide)
        while left:  # its fields follow it, and theirs follow them
            _, more, is_wide_too = next(elements)
            left, held = left - 1 + int(more), held or bool(is_wide_too)
        if held:
            yield str(name)


def _measured(path: str) -> tuple[int, int]:
    """Bytes of the footer and the columns that it begins to tell of; 0 of what cannot be told, which DuckDB judges."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end < _TAIL.size:
            return 0, 0
        file.seek(end - _TAIL.size)
        length, magic = _TAIL.unpack(file.read(_TAIL.size))
        if magic != _MAGIC or length > end - _TAIL.size:
            return 0, 0
        file.seek(end - _TAIL.size - length)
        return length, _columns(file.read(_LOOKED_AT))


def _columns(footer: bytes) -> int:
    if footer[:1] != bytes([_VERSION]):
        return 0
    place = _varint(footer, 1)[1]
    if len(footer) < place + 2 or footer[place] != _SCHEMA or footer[place + 1] & 0xF != _RECORDS:
        return 0
    count = footer[place + 1] >> 4
    return (count if count != _LONG else _varint(footer, place + 2)[0]) - 1  # the first is the root of all


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """The number that stands there, and where it ends."""
    value = shift = 0
    for byte in content[place:]:
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, place


def _vast(table_id: str, found: str, most: str) -> AgnesError:
    return AgnesError(
        "unsupported_format",
        f"The table {table_id!r} cannot be read: its Parquet has {found}, and no more than {most} are read.",
        "Whoever keeps this instance can write it as several tables, or in larger row groups. Other tables are not "
        "affected.",
    )
