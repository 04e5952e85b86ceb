"""What DuckDB complains of in the files of a table, in our words: what is wrong, in which of them, and what serves."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.files import named_in, naming, of_file
from agnes_mcp.sources.local.texts import holds_nul, is_utf8
from agnes_mcp.sql.duckdb_errors import unavailable

if TYPE_CHECKING:
    from agnes_mcp.calls.call import Call
    from agnes_mcp.models import Table
    from agnes_mcp.sources.local.files import Files

_BROKEN_JSON = "it is not well-formed JSON"
_NOT_UTF8 = "its text is not UTF-8"
#: What DuckDB says of a text that it cannot read, what is wrong in our words, and the options that serve.
_COMPLAINTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        r'Error when converting column "(?P<column>(?:[^"]|"")*)"\..*?as type (?P<type>[A-Z][A-Z0-9_]*)',
        "its column {column!r} holds something that is not {type}",
        ("types", "null_values", "ignore_errors"),
    ),
    (r"[Mm]alformed JSON", _BROKEN_JSON, ()),
    (
        r'Duplicate name ".*" in struct',
        "a record within a record has fields whose names differ in case alone, which DuckDB does not read",
        (),
    ),
    (
        r"maximum_object_size",
        "one of its records is longer than 16 MiB; written as a record a line, or as Parquet, it can be read",
        (),
    ),
    (
        r"not latin-1 encoded",
        "its text is none of UTF-8, UTF-16 and Latin-1, as Windows-1252 is none; written as UTF-8 it can be read",
        (),
    ),
    (r"not utf-8 encoded|byte sequence mismatch|[Ii]nvalid unicode", _NOT_UTF8, ("encoding",)),
    (
        r"Expected Number of Columns|[Tt]oo many columns|[Mm]issing columns",
        "its lines have different numbers of fields",
        ("null_padding", "ignore_errors", "delimiter"),
    ),
    (r"[Uu]nterminated quote|quote should be followed", "a quote in it does not end", ("quote", "escape")),
    (r"[Mm]aximum line size", "one of its lines is longer than 2 MB", ("quote", "escape", "delimiter")),
    (r"does not support the encoding", "its encoding is none of utf-8, utf-16 and latin-1", ("encoding",)),
    (r"Type with name \S+ does not exist", "`csv.types` names a type that DuckDB does not have", ("types",)),
    (r"do not exist in the CSV File|COLUMN_TYPES", "`csv.types` names a column that it does not have", ("types",)),
    (
        r"sniffing file|auto[- ]?detect|dialect",
        "its delimiter, quotes or header were not recognised",
        ("delimiter", "quote", "escape", "header", "skip"),
    ),
    (r"exceeds maximum recursion depth", "its JSON is nested deeper than DuckDB reads", ()),
    (r"Invalid Input Error:.*JSON", _BROKEN_JSON, ()),
)


#: Of a column of the types that DuckDB was told, which may be ones that it had found itself.
_NOT_THERE = re.compile(r"Columns with names: (?P<names>.*?) do not exist in the CSV File", re.DOTALL)
_NAME = re.compile(r'"([^"]*)"')
_NO_TEXT = "it holds bytes (NUL) that a text does not have"


def refuse_text(table_id: str, kind: str, said: str, paths: Sequence[str] = ()) -> None:
    """Raises `table_unavailable` naming the option that serves, where DuckDB's complaint is one of a text file's; and
    which of the files it is, where it says so.

    Nothing of the file's content is repeated, apart from the name of a column.
    """
    for pattern, reason, options in _COMPLAINTS:
        if kind != "csv" and set(options) - {"encoding"}:
            continue
        found = re.search(pattern, said, re.DOTALL)
        if found:
            options = options if kind == "csv" else ()
            words = {name: str(value).strip() for name, value in found.groupdict().items()}
            refused = AgnesError(
                "table_unavailable",
                f"The table {table_id!r} cannot be read: {reason.format(**words)}.",
                f"Whoever keeps this instance can set {' or '.join(f'csv.{name}' for name in options)} for the table."
                if options
                else "Whoever keeps this instance can look at the file. Other tables are not affected.",
                {"options": list(options), **({"column": words["column"]} if "column" in words else {})},
            )
            raise of_file(refused, named_in(said, paths), paths)


def refuse_files(table: Table, files: Files, said: str, call: Call) -> None:
    """Raises what a complaint of DuckDB's means, made while it found out how the texts of a table are read. Looks into
    them where it does not say what is wrong: of a short text in another encoding it says that it could not find out
    anything, of one that is none, that a column is missing."""
    foreign = None if "encoding" in table.csv else _first(files.paths, lambda path: not is_utf8(path, call))
    if foreign is not None:
        with naming(foreign, files.paths):
            refuse_text(table.id, files.kind, "not utf-8 encoded")
    if not _blames_types_of_ours(table, said):
        refuse_text(table.id, files.kind, said, files.paths)
    no_text = None if "encoding" in table.csv else _first(files.paths, holds_nul)
    if no_text is not None:
        raise of_file(unavailable(_NO_TEXT, table.id), no_text, files.paths)


def _blames_types_of_ours(table: Table, said: str) -> bool:
    found = _NOT_THERE.search(said)
    told = {name.casefold() for name in table.csv.get("types", {})}
    return found is not None and told.isdisjoint(name.casefold() for name in _NAME.findall(found["names"]))


def _first(paths: Sequence[str], is_it: Callable[[str], bool]) -> str | None:
    return next((path for path in paths if is_it(path)), None)
