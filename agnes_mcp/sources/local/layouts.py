"""How a CSV is laid out: found out by DuckDB, and refused where it would leave lines out without anybody's word."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.local.files import naming, of_file
from agnes_mcp.sql import names
from agnes_mcp.sql.names import literal

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.models import Table

Options = Mapping[str, names.Literal]
_WHOLE_FILE = -1
#: What stands around a text, and before a quote within it, in nearly every CSV that has quotes.
_QUOTES: Options = {"quote": '"', "escape": '"'}
_TOLD = "told of quotes"
#: Options that speak of several files together, or of folders.
_OF_MANY_FILES = frozenset({"union_by_name", "hive_partitioning"})
#: Ends of lines as DuckDB takes them for an option; a file that mixes them is left to it.
_ENDS = frozenset({"\\n", "\\r\\n", "\\r"})
#: What separates fields in the files that people have; a line that could not be split still holds one. Of the
#: untried DuckDB has to be told.
_UNTRIED = ("^", "~")
_DELIMITERS = (",", ";", "\t", "|", *_UNTRIED)
#: The operator's options that say what becomes of lines that do not fit, in DuckDB's words.
_SAID = frozenset({"null_padding", "ignore_errors"})
#: Lines before the first row that are looked at. People write a title and some notes there.
_LOOKED_AT = 200


def layout_of(table: Table, path: str, options: Options, cursor: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """How one CSV is laid out, and the types of its columns, over all of its rows; as options of DuckDB's.

    Raises `table_unavailable` for lines of different numbers of fields.
    """
    found = _sniff(path, {"sample_size": _WHOLE_FILE, **options}, cursor)
    layout: dict[str, Any] = {
        "delim": found["Delimiter"],
        "quote": _plain(found["Quote"]),
        "escape": _plain(found["Escape"]),
        "comment": _plain(found["Comment"]),
        "new_line": found["NewLineDelimiter"],
        "skip": found["SkipRows"],
        "header": found["HasHeader"],
        "columns": {column["name"]: column["type"] for column in found["Columns"]},
        "dateformat": found["DateFormat"],
        "timestampformat": found["TimestampFormat"],
    }
    _refuse(table, path, options, list(layout["columns"]), found, cursor)
    known = {
        name: value for name, value in layout.items() if value is not None and (name != "new_line" or value in _ENDS)
    }
    if len(layout["columns"]) == 1:  # of one column alone DuckDB believes that later lines have no more
        told = {name: value for name, value in options.items() if name not in _OF_MANY_FILES}
        whole = f"read_csv({literal(path)}, auto_detect = false{_named({**told, **known})})"
        cursor.execute(f"FROM {whole} SELECT count(*)")
    return known


def refuse_ragged(
    table: Table, paths: list[str], options: Options, columns: list[str], cursor: duckdb.DuckDBPyConnection
) -> None:
    """Raises `table_unavailable` where DuckDB, told these options, would leave lines out, or not split them."""
    if _SAID & set(options):
        return
    known = {name: value for name, value in options.items() if name not in ("types", "sample_size")}
    for path in paths:
        found = _sniff(path, known, cursor)
        with naming(path, paths):
            _refuse(table, path, options, columns if len(columns) > 1 else _names(found), found, cursor)


def refuse_skipped(table: Table, paths: list[str], options: Options, cursor: duckdb.DuckDBPyConnection) -> None:
    """Raises `table_unavailable` where `skip` leaves nothing of a file, which DuckDB blames on its delimiters.

    Of several files one may end with what is skipped: it has no rows.
    """
    skipped = int(table.csv.get("skip") or 0)
    least = skipped + (len(paths) == 1)
    for path in paths if skipped else ():
        lines = len(_first_lines(path, least, options, cursor))
        if lines < least:
            refused = AgnesError(
                "table_unavailable",
                f"The table {table.id!r} cannot be read: csv.skip is {skipped}, and its file has no more than "
                f"{lines} {'line' if lines == 1 else 'lines'}.",
                "Whoever keeps this instance can set csv.skip to fewer lines, or take it out.",
                {"options": ["skip"]},
            )
            raise of_file(refused, path, paths)


def quotes_of(paths: list[str], options: Options, cursor: duckdb.DuckDBPyConnection) -> Options:
    """The quotes that DuckDB has to be told of, as it would not see them in one of these files."""
    known = {name: value for name, value in options.items() if name not in ("types", "sample_size")}
    return _QUOTES if any(_sniff(path, known, cursor).get(_TOLD) for path in paths) else {}


def _sniff(path: str, options: Options, cursor: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """What DuckDB finds, told of quotes where texts in them hold a delimiter, and it does not see them.

    A delimiter in a comment misleads it: it takes the lines that have one in quotes for the regular ones, each with a
    column too many.
    """
    import duckdb

    try:
        found = _sniffed(path, options, cursor)
    except duckdb.InvalidInputException:
        quoted = _sniffed_with_quotes(path, options, cursor)
        if quoted is None or len(quoted["Columns"]) == 1:
            raise
        return quoted
    if _plain(found["Quote"]) or not (found["SkipRows"] or _plain(found["Comment"])):
        return found
    quoted = _sniffed_with_quotes(path, options, cursor)
    if quoted is None or quoted["Delimiter"] != found["Delimiter"] or quoted["SkipRows"] > found["SkipRows"]:
        return found
    fewer = len(quoted["Columns"]) < len(found["Columns"])
    return quoted if fewer or "ignore_errors" in options else found


def _sniffed_with_quotes(path: str, options: Options, cursor: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
    import duckdb

    if not _QUOTES.keys().isdisjoint(options):
        return None
    try:
        return {**_sniffed(path, {**options, **_QUOTES}, cursor), _TOLD: True}
    except duckdb.InvalidInputException:
        return None


def _sniffed(path: str, options: Options, cursor: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    asked = {name: value for name, value in options.items() if name not in _OF_MANY_FILES}
    cursor.execute(f"FROM sniff_csv({literal(path)}{_named(asked)})")
    names_found = [entry[0] for entry in cursor.description or ()]
    return dict(zip(names_found, cursor.fetchall()[0], strict=True))


def _named(options: Options) -> str:
    """As the last arguments of one of DuckDB's functions."""
    return "".join(f", {name} = {literal(value)}" for name, value in options.items())


def _names(found: Mapping[str, Any]) -> list[str]:
    return [column["name"] for column in found["Columns"]]


def _plain(mark: str | None) -> str:
    return "" if mark in (None, "(empty)") else mark


def _refuse(
    table: Table,
    path: str,
    options: Options,
    columns: list[str],
    found: Mapping[str, Any],
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    only = columns[0] if len(columns) == 1 else ""
    delimiter = next((mark for mark in _DELIMITERS if mark in only), None)
    if delimiter is not None and "delim" not in options:
        count = _columns_at(path, options, delimiter, cursor)
        if count > 1 and delimiter in _UNTRIED:
            raise _split_otherwise(table, delimiter)
        if count != 1 and delimiter not in _UNTRIED:
            raise _unsplit(table, delimiter)
    skipped = int(found["SkipRows"] or 0) if "skip" not in options else 0
    if skipped and _holds_fields(_first_lines(path, min(skipped, _LOOKED_AT), options, cursor), found["Delimiter"]):
        raise _left_out(table, skipped)


def _columns_at(path: str, options: Options, delimiter: str, cursor: duckdb.DuckDBPyConnection) -> int:
    """How many columns DuckDB finds, asked to split at it: one where it only stands within quotes; 0: it cannot."""
    import duckdb

    try:
        return len(_names(_sniff(path, {**options, "delim": delimiter}, cursor)))
    except duckdb.InvalidInputException:
        return 0


def _first_lines(path: str, count: int, options: Options, cursor: duckdb.DuckDBPyConnection) -> list[str]:
    """Those lines as they are written, however the file is packed and encoded."""
    kept = {name: value for name, value in options.items() if name in ("encoding", "compression")}
    reading = (
        "auto_detect = false, header = false, delim = '\x01', quote = '', escape = '', strict_mode = false, "
        "null_padding = true, ignore_errors = true, columns = {'line': 'VARCHAR'}"
    )
    cursor.execute(f"FROM read_csv({literal(path)}, {reading}{_named(kept)}) LIMIT {count}")
    return [line or "" for (line,) in cursor.fetchall()]


def _holds_fields(lines: Collection[str], delimiter: str) -> bool:
    """Whether one of the lines that DuckDB left out is more than a title or a note: it has fields, or begins a quoted
    one."""
    marks = {*_DELIMITERS, delimiter}
    return any(
        delimiter in line if line.startswith("#") else line.startswith('"') or any(mark in line for mark in marks)
        for line in lines
    )


def _split_otherwise(table: Table, delimiter: str) -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f"The table {table.id!r} cannot be read: its fields are separated by {delimiter!r}, which has to be said.",
        f'Whoever keeps this instance can say how to read it: csv: {{delimiter: "{delimiter}"}}.',
        {"options": ["delimiter"]},
    )


def _unsplit(table: Table, delimiter: str) -> AgnesError:
    shown = {"\t": "\\t"}.get(delimiter, delimiter)
    return AgnesError(
        "table_unavailable",
        f"The table {table.id!r} cannot be read: its lines have different numbers of fields.",
        f'Whoever keeps this instance can say how to read it: csv: {{delimiter: "{shown}", null_padding: true}} fills '
        "short lines with nulls, ignore_errors: true leaves out lines that do not fit.",
        {"options": ["delimiter", "null_padding", "ignore_errors"]},
    )


def _left_out(table: Table, skipped: int) -> AgnesError:
    lines = "its first line does" if skipped == 1 else f"its first {skipped} lines do"
    return AgnesError(
        "table_unavailable",
        f"The table {table.id!r} cannot be read: {lines} not have the same number of fields as the rest.",
        f"Whoever keeps this instance can say how to read it: csv: {{skip: {skipped}}} leaves them out, "
        "csv: {null_padding: true} keeps them and fills short lines with nulls, csv: {delimiter: …} names another "
        "delimiter.",
        {"options": ["skip", "null_padding", "delimiter"]},
    )
