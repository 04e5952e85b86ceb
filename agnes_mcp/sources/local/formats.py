"""What a file is: by its name, and where the name says nothing or the wrong thing, by its first bytes."""

from __future__ import annotations

import os
from typing import Literal

Kind = Literal["parquet", "csv", "json", "duckdb", "arrow", "xlsx"]

_PACKED = ("", ".gz", ".zst")
_SUFFIXES: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".parq": "parquet",
    **{f"{suffix}{packed}": "csv" for suffix in (".csv", ".tsv", ".psv") for packed in _PACKED},
    **{
        f"{suffix}{packed}": "json"
        for suffix in (".json", ".ndjson", ".jsonl", ".geojson", ".geojsonl")
        for packed in _PACKED
    },
    ".duckdb": "duckdb",
    ".ddb": "duckdb",
    ".db": "duckdb",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xlsb": "xlsx",
    ".xls": "xlsx",
    ".ods": "xlsx",
}
#: What folders are searched for; databases and workbooks are served by name only.
FOLDER_KINDS: frozenset[Kind] = frozenset({"parquet", "csv", "json", "arrow"})

#: First bytes of formats that we may meet under any name. Sources: each format's specification.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PAR1", "Parquet"),
    (0, b"PARE", "encrypted Parquet"),
    (0, b"ARROW1", "Arrow"),
    (0, b"FEA1", "Feather of version 1"),
    (0, b"\xff\xff\xff\xff", "an Arrow stream"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"SQLite format 3\0", "a SQLite database"),
    (0, b"Obj\x01", "Avro"),
    (0, b"ORC", "ORC"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"BZh", "bzip2"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"\xd0\xcf\x11\xe0", "an office document of the old kind"),
    (0, b"%PDF", "PDF"),
    (0, b"\xff\xfe", "UTF-16 text"),
    (0, b"\xfe\xff", "UTF-16 text"),
)
_SNIFFED_BYTES = 4096
#: What the first bytes of a kind's files are called above.
_EXPECTED: dict[Kind, tuple[str, ...]] = {
    "parquet": ("Parquet",),
    "duckdb": ("a DuckDB database",),
    "arrow": ("Arrow", "Feather of version 1", "an Arrow stream"),
    "xlsx": ("a ZIP archive or an office document", "an office document of the old kind"),
}


def kind_by_name(path: str) -> Kind | None:
    """The kind that the ending of the name says, without regard to case; None: it says none that is known."""
    name = os.path.basename(path).lower()
    parts = name.split(".")
    for count in (2, 1):  # `.csv.gz` before `.gz`
        found = _SUFFIXES.get("." + ".".join(parts[-count:])) if len(parts) > count else None
        if found is not None:
            return found
    return None


def look_inside(path: str) -> str:
    """What the first bytes say the file is, in words; empty: nothing that is known. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if not head:
        return "empty"
    for offset, magic, words in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return words
    return "text" if b"\0" not in head else ""


def kind_of(path: str) -> Kind:
    """The kind of a file that the operator named, whatever it is called. Raises OSError."""
    named = kind_by_name(path)
    if named is not None:
        return named
    inside = look_inside(path)
    if inside == "text":
        return "json" if _is_json(path) else "csv"
    return next((kind for kind, words in _EXPECTED.items() if inside in words and kind != "xlsx"), "parquet")


def _is_json(path: str) -> bool:
    """Whether a text begins as JSON does: with an object, or a list of them."""
    with open(path, "rb") as file:
        head = file.read(_SNIFFED_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head[:1] == b"{" or (head[:1] == b"[" and head[1:].lstrip()[:1] in (b"{", b"]"))


def _is_old_stream(path: str) -> bool:
    """Whether a file may be an Arrow stream as it was before version 0.15: without a mark, it begins with the length of
    its schema, and that with a place near by."""
    with open(path, "rb") as file:
        head = file.read(8)
    length, place = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
    return 8 < length < os.path.getsize(path) and length % 4 == 0 and 4 <= place <= 64 and place % 4 == 0


def problem_of(path: str, kind: Kind) -> str:
    """Why a file cannot be what it is taken for; empty: its first bytes agree. Raises OSError."""
    expected = _EXPECTED.get(kind)
    if expected is None:
        return ""
    inside = look_inside(path)
    if inside in expected or (kind == "arrow" and _is_old_stream(path)):
        return ""
    if inside == "encrypted Parquet":
        return "its file is encrypted Parquet, and there is no key for it"
    called = {"parquet": "Parquet", "duckdb": "a DuckDB database", "arrow": "Arrow", "xlsx": "a workbook"}[kind]
    return f"its file is {inside or 'of an unknown format'}, not {called}"
