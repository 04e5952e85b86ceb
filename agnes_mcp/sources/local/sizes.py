"""How many rows and bytes a table has, and how large a value may be once it is unpacked: out of footers and catalogs.

A dictionary holds a text once for all of its rows, a run-length a list's elements: a file of kilobytes may stand for
gigabytes, and DuckDB counts neither what it hands to Arrow nor what a function makes of it as its own memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agnes_mcp.sources.local.databases import Held
from agnes_mcp.sql.duckdb_types import MAX_VALUE_BYTES
from agnes_mcp.sql.names import identifier

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.models import Column
    from agnes_mcp.sources.local.files import Files
    from agnes_mcp.sql.views import View

#: DuckDB's types that take up to sixteen bytes, by their first word.
_FIXED_WORDS = """
    TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT FLOAT DOUBLE DECIMAL BOOLEAN
    DATE TIME TIMESTAMP TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS INTERVAL UUID
"""
_FIXED = frozenset(_FIXED_WORDS.split())
_WORD = re.compile(r"\w+")
_FIXED_BYTES = 8
#: Values that weigh no more need nobody's attention: a batch of them is some tens of MB.
_LIGHT_BYTES = 4096
#: Of texts that share beginnings: no part of the file says how long one of them is, and to find out unpacks them.
_UNTOLD_BYTES = 2**23
#: Where there are no more, dictionaries that allow for long texts are looked into at once: about a second of one
#: processor, once for each state of the files. Writers make dictionaries of up to 1 MB of the shortest texts.
MEASURED_VALUES = 100_000_000
#: The first bytes of a page: three numbers, of which the second is what the page takes once it is unpacked.
_HEAD_BYTES = 32
_CHUNKS = """
    SELECT file_name, path_in_schema, row_group_num_rows, num_values, total_uncompressed_size, type, encodings,
        dictionary_page_offset
    FROM parquet_metadata($1)
    WHERE row_group_num_rows > 0 AND (type LIKE '%BYTE_ARRAY' OR num_values > 2 * row_group_num_rows)
"""
#: Of a DuckDB file whose rows may be heavy.
_LOOKED_AT_ROWS = 2048
_PACKED = (".gz", ".zst")
#: In DuckDB's statistics of a column of texts.
_MOST = re.compile(r"(?:Max String Length|'max_string_length'): (\d+)")  # as DuckDB 1.5 writes it, and 2.0
#: In place of a column's name: whatever stands in the table.
ANY = ""


def measure(cursor: duckdb.DuckDBPyConnection, files: Files, source: Held | View) -> tuple[int | None, int | None]:
    """Rows and bytes. The rows of a text file are not known without reading it. Raises what DuckDB does."""
    if isinstance(source, Held):
        found = cursor.execute(
            "SELECT estimated_size FROM duckdb_tables() WHERE database_name = ? AND schema_name = ? AND table_name = ?",
            [source.database, source.schema, source.table],
        ).fetchall()
        return (int(found[0][0]), files.size_bytes) if found else (None, None)
    if source.kind != "parquet":
        return None, files.size_bytes
    cursor.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [source.files()])
    return int(cursor.fetchall()[0][0]), files.size_bytes


def heavy_values(
    cursor: duckdb.DuckDBPyConnection, source: Held | View, relation: str, columns: Sequence[Column], mean_bytes: int
) -> dict[str, int]:
    """The most bytes that a value may take, as far as the files tell, by column; of those alone where that is much.

    Of texts without a dictionary it is the average, as they take no more in memory than the file says; of a DuckDB
    file, what its first rows have. A BIGNUM takes the square of its digits to be shown. `relation` is quoted. Raises
    OSError, and what DuckDB does.
    """
    numbers = {c.name: MAX_VALUE_BYTES + 1 for c in columns if any("BIGNUM" in each.type for each in _walk(c))}
    return {**numbers, **_heavy_values(cursor, source, relation, columns, mean_bytes)}


def longest_text(
    cursor: duckdb.DuckDBPyConnection, files: Files, source: Held | View, relation: str, columns: Sequence[Column]
) -> int:
    """The most bytes that a text may take: of a text file no more than its largest file has, where that is not packed;
    of a DuckDB file what its statistics say. 0 of others. `relation` is quoted. Raises what DuckDB does."""
    if files.kind in ("csv", "json"):
        packed = any(path.lower().endswith(_PACKED) for path in files.paths)
        return _UNTOLD_BYTES if packed else max(size for _, _, size, _ in files.signature)
    texts = [c.name for c in columns if any("VARCHAR" in each.type for each in _walk(c))]
    if not isinstance(source, Held) or source.is_view or not texts:
        return 0
    told = ", ".join(f"stats({identifier(name)})" for name in texts)
    found = cursor.execute(f"SELECT {told} FROM {relation} LIMIT 1").fetchall()  # noqa: S608 - quoted names only
    lengths = [_MOST.findall(str(each)) or [_UNTOLD_BYTES] for each in (found[0] if found else [])]
    return max((int(length) for each in lengths for length in each), default=0)


def _is_fixed(column: Column) -> bool:
    word = _WORD.match(column.type)
    return column.mode != "REPEATED" and word is not None and word.group() in _FIXED and "[" not in column.type


def _walk(column: Column) -> Iterator[Column]:
    yield column
    for field in column.fields:
        yield from _walk(field)


def _heavy_values(
    cursor: duckdb.DuckDBPyConnection, source: Held | View, relation: str, columns: Sequence[Column], mean_bytes: int
) -> dict[str, int]:
    if isinstance(source, Held):
        if source.is_view or mean_bytes <= _LIGHT_BYTES:
            return {}
        texts = {c.name: 0 for c in columns if c.type == "VARCHAR"}  # the file may have other tables, which are large
        return longest_texts(cursor, f"(FROM {relation} LIMIT {_LOOKED_AT_ROWS})", columns, texts)
    names = {c.name.lower(): c.name for c in columns if not _is_fixed(c)}
    if source.kind != "parquet" or not names:
        return {}
    fixed = {c.name.lower() for c in columns} - set(names)
    heavy: dict[str, int] = {}
    for row in cursor.execute(_CHUNKS, [source.files()]).fetchall():
        chunk = _Chunk(*row)
        name, value_bytes = chunk.column.split(", ")[0].lower(), _value_bytes(chunk)
        column = names.get(name, ANY)
        if name not in fixed and value_bytes > max(_LIGHT_BYTES, heavy.get(column, 0)):
            heavy[column] = value_bytes
    return heavy


class _Chunk(NamedTuple):
    """What a footer says of one column in one group of rows."""

    path: str
    column: str
    rows: int
    values: int
    size_bytes: int
    type: str
    encodings: str
    dictionary_at: int | None


def longest_texts(
    cursor: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Column], heavy: Mapping[str, int]
) -> dict[str, int]:
    """`heavy`, with the length of the longest text there is in place of that of its dictionary. Reads those columns;
    each text of a dictionary is measured once. `relation` is quoted. Raises what DuckDB does."""
    told = {name for name, size in heavy.items() if size < _UNTOLD_BYTES}
    texts = [c.name for c in columns if c.name in told and c.mode != "REPEATED" and c.type == "VARCHAR"]
    if not texts:
        return dict(heavy)
    lengths = ", ".join(f"max(strlen({identifier(name)}))" for name in texts)
    found = cursor.execute(f"SELECT {lengths} FROM {relation}").fetchall()[0]  # noqa: S608 - quoted names only
    measured = {**heavy, **{name: int(length or 0) for name, length in zip(texts, found, strict=True)}}
    return {name: size for name, size in measured.items() if size > _LIGHT_BYTES}


def _value_bytes(chunk: _Chunk) -> int:
    each = -(-chunk.values // chunk.rows)
    return each * (_text_bytes(chunk) if chunk.type.endswith("BYTE_ARRAY") else _FIXED_BYTES)


def _text_bytes(chunk: _Chunk) -> int:
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        return _UNTOLD_BYTES
    average = chunk.size_bytes // max(1, chunk.values)
    return average if chunk.dictionary_at is None else max(average, _page_bytes(chunk.path, chunk.dictionary_at))


def _page_bytes(path: str, offset: int) -> int:
    """What a page takes once it is unpacked, as its own head says: Thrift's compact form, fields 1 and 2."""
    with open(path, "rb") as file:
        file.seek(offset)
        numbers = _numbers(file.read(_HEAD_BYTES))
    return next(numbers, 0) and next(numbers, 0)


def _numbers(head: bytes) -> Iterator[int]:
    """The numbers at the beginning of a structure, field by field."""
    at = 0
    while at < len(head) and head[at] == 0x15:  # the next field, a number of 32 bits
        value = shift = 0
        at += 1
        while at < len(head):
            value |= (head[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not head[at - 1] & 0x80:
                break
        yield value >> 1  # zigzag; sizes are not negative
