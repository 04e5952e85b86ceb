"""How DuckDB is told to read a table's files: one table function and its options, the same wherever it is read."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agnes_mcp.sources.local.complaints import refuse_files
from agnes_mcp.sources.local.files import Files, Signature, named_in, naming, of_file
from agnes_mcp.sources.local.footers import misread_columns, refuse_vast
from agnes_mcp.sources.local.layouts import Options, layout_of, quotes_of, refuse_ragged, refuse_skipped
from agnes_mcp.sources.local.texts import is_marked_list, packing_of, refuse_deep, refuse_encoding, refuse_torn
from agnes_mcp.sql import names
from agnes_mcp.sql.duckdb_errors import Complaint, complaint_of, unavailable
from agnes_mcp.sql.duckdb_types import MAX_PARQUET_LISTS
from agnes_mcp.sql.views import View, relation_of

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.calls.call import Call
    from agnes_mcp.models import Table

#: Our word for an option of a CSV, and DuckDB's.
CSV_OPTIONS: dict[str, str] = {
    "delimiter": "delim",
    "header": "header",
    "null_values": "nullstr",
    "encoding": "encoding",
    "types": "types",
    "decimal": "decimal_separator",
    "dateformat": "dateformat",
    "timestampformat": "timestampformat",
    "sample_size": "sample_size",
    "ignore_errors": "ignore_errors",
    "quote": "quote",
    "escape": "escape",
    "comment": "comment",
    "skip": "skip",
    "null_padding": "null_padding",
}
_WHOLE_FILE = -1
#: Levels of JSON that become lists and records; what is deeper stays JSON: as many as a snapshot, which is Parquet, may
#: have lists in one another.
_MAX_DEPTH = MAX_PARQUET_LISTS
_MADE_NAME = re.compile(r"c\d+|(.*)_\d+", re.DOTALL)
_MOMENT = re.compile(r"\b(?:DATE|TIME|TIMESTAMP)\b")


class Readers:
    """Thread-safe. How text files are laid out and typed is found out once for each state of them, over all rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By id: one for each table. True of the files of that signature, read in the configured way, alone.
        self._found: dict[str, tuple[Signature, Mapping[str, Any], object, Options]] = {}
        self._misread: dict[str, tuple[Signature, dict[str, str]]] = {}  # likewise; and footers are not too much

    def view(
        self,
        table: Table,
        files: Files,
        cursor: duckdb.DuckDBPyConnection,
        call: Call,
        paths: list[str] | None = None,
    ) -> View:
        """`cursor` is one on which types may be inferred; `paths` are read in place of the files' own."""
        if files.kind in ("csv", "json") and files.size_bytes == 0:
            raise unavailable("its file is empty, without as much as the names of columns", table.id)
        shared: dict[str, names.Literal] = {"union_by_name": True, "hive_partitioning": bool(files.hive)}
        if files.kind == "csv":
            options = {**shared, **_compression(files.paths), **csv_options(table.csv)}
            return self._text(View(table.id, "csv", files.paths, options), table, files, cursor, call)
        if files.kind == "json":
            options = {**shared, **_compression(files.paths), "maximum_depth": _MAX_DEPTH}
            return self._text(View(table.id, "json", files.paths, options), table, files, cursor, call)
        paths = paths or files.paths
        known = self._misread.get(table.id)
        if known is None or known[0] != files.signature:
            refuse_vast(table.id, paths)
            known = self._misread[table.id] = files.signature, misread_columns(cursor, paths)
        return View(table.id, "parquet", paths, shared, misread=known[1])

    def _text(self, view: View, table: Table, files: Files, cursor: duckdb.DuckDBPyConnection, call: Call) -> View:
        with self._lock:
            known = self._found.get(table.id)
        if known is not None and known[:3] == (files.signature, table.csv, table.hive):
            return replace(view, options=known[3])
        for path in files.paths:
            with naming(path, files.paths):
                refuse_torn(table, path, call)
                refuse_encoding(table, path)
                if view.kind == "json":
                    refuse_deep(table, path, call)
        if view.kind == "json" and any(map(is_marked_list, files.paths)):
            view = replace(view, options={**view.options, "format": "array"})
        options = _options(view, table, files, cursor)
        with self._lock:
            self._found[table.id] = (files.signature, table.csv, table.hive, options)
        return replace(view, options=options)


def _options(view: View, table: Table, files: Files, cursor: duckdb.DuckDBPyConnection) -> Options:
    """What was found out of the files, so that nobody who reads them has to find it out again.

    Files of one layout are read by it; of others, the types of all columns together are kept.
    """
    if view.kind == "csv" and not table.csv:  # with options of the operator's, DuckDB finds out the rest by itself
        layouts = []
        for path in files.paths:
            with naming(path, files.paths):
                layouts.append(layout_of(table, path, view.options, cursor))
        # Columns in another order are another layout; as mappings they would be equal.
        if all(layout == layouts[0] and [*layout["columns"]] == [*layouts[0]["columns"]] for layout in layouts):
            return {**view.options, "union_by_name": False, "auto_detect": False, **layouts[0]}
    if view.kind == "csv":
        refuse_skipped(table, files.paths, view.options, cursor)
        view = replace(view, options={**view.options, **quotes_of(files.paths, view.options, cursor)})
    types = _infer(_without_key_types(view, files), cursor)
    if view.kind == "csv" and table.csv:
        refuse_ragged(table, files.paths, view.options, list(types), cursor)
    keys = {name.casefold(): name for name in files.hive}
    types = {name: kind for name, kind in types.items() if name.casefold() not in keys}
    if view.kind == "csv":
        return {**view.options, **_types_told(table, types, keys)}
    if _has_renamed(types):
        return {**view.options, "sample_size": _WHOLE_FILE}
    named = {**view.options, "columns": types} if types else dict(view.options)
    if _is_read_by(replace(view, options=named), cursor):
        return named
    return {**view.options, "sample_size": _WHOLE_FILE}


def _types_told(table: Table, found: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, Any]:
    """The types of a CSV's columns, those that the instance says before those that were found. Of a folder's key that
    is a column of the files too, DuckDB has to be told by another option, or it ends with an error of its own."""
    spelt = {**{name.casefold(): name for name in found}, **keys}
    given = {spelt.get(name.casefold(), name): kind for name, kind in table.csv.get("types", {}).items()}
    of_keys = {name: kind for name, kind in given.items() if name.casefold() in keys}
    types = {**found, **{name: kind for name, kind in given.items() if name not in of_keys}}
    return {"types": types, **({"hive_types": of_keys} if of_keys else {})}


def _has_renamed(names_found: Iterable[str]) -> bool:
    """Whether a name may be one that DuckDB made of an empty one, or of one that another differs from in case alone.
    Told such a name, it looks for a field of that name, and finds nulls."""
    taken = {name.casefold() for name in names_found}
    made = (_MADE_NAME.fullmatch(name) for name in taken)
    return any(found is not None and (found[1] is None or found[1] in taken) for found in made)


def _is_read_by(view: View, cursor: duckdb.DuckDBPyConnection) -> bool:
    """Whether JSON is read with the types that were inferred. Not where a field has no name, or a moment is written as
    only inference understands it: then DuckDB has to infer each time."""
    import duckdb

    has_moments = _MOMENT.search(repr(view.options)) is not None
    reading = "SELECT count(COLUMNS(*))" if has_moments else "SELECT * LIMIT 0"  # of the former every value is read
    try:
        cursor.execute(f"FROM {relation_of(view)} {reading}")
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.BinderException):
        return False
    return True


def _compression(paths: list[str]) -> dict[str, str]:
    """DuckDB knows a packed file by an ending in small letters only; others it is told, where all are packed alike."""
    packed = {packing_of(path) or "none" for path in paths}
    spelt = all(path == path.lower() for path in paths)
    return {} if spelt or packed == {"none"} or len(packed) > 1 else {"compression": packed.pop()}


def csv_options(given: Mapping[str, Any]) -> Options:
    """DuckDB's options for what the instance says of a CSV."""
    return {CSV_OPTIONS[name]: value for name, value in given.items()}


def _without_key_types(view: View, files: Files) -> View:
    keys, types = {name.casefold() for name in files.hive}, view.options.get("types")
    if not isinstance(types, Mapping) or not keys:
        return view
    left = {name: kind for name, kind in types.items() if name.casefold() not in keys}
    others = {name: value for name, value in view.options.items() if name != "types"}
    return replace(view, options={**others, "types": left} if left else others)


def _infer(view: View, cursor: duckdb.DuckDBPyConnection) -> dict[str, str]:
    whole = replace(view, options={"sample_size": _WHOLE_FILE, **view.options})
    cursor.execute(f"DESCRIBE SELECT * FROM {relation_of(whole)}")  # noqa: S608 - quoted parts only
    return {str(name): str(kind) for name, kind, *_ in cursor.fetchall()}


@contextmanager
def of_text(table: Table, files: Files, call: Call) -> Iterator[None]:
    """What DuckDB says of a text file names the option that serves."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if files.kind in ("csv", "json") and not call.stopped:
            refuse_files(table, files, str(error), call)
        raise


@contextmanager
def of_files(table: Table, files: Files, call: Call) -> Iterator[None]:
    """What DuckDB complains of before any statement is run is a fault of the files: `table_unavailable`."""
    import duckdb

    try:
        with of_text(table, files, call):
            yield
    except OSError:  # it went away, or may not be read any more
        raise unavailable("its files are missing or cannot be read", table.id) from None
    except (duckdb.Error, UnicodeDecodeError) as error:
        complaint = Complaint.DAMAGE if isinstance(error, UnicodeDecodeError) else complaint_of(error)
        if call.stopped or complaint in (Complaint.MEMORY, Complaint.INTERRUPT, Complaint.INTERNAL):
            raise
        said = str(error).partition("\n\nLINE ")[0]  # below it stands our own statement
        reason = next((ours for pattern, ours in _OF_FILES if re.search(pattern, said)), _DAMAGED)
        raise of_file(unavailable(reason, table.id), named_in(said, files.paths), files.paths) from None


#: What DuckDB says of a file that it cannot open, and what it means.
_OF_FILES = (
    (r"[Uu]nicode|utf-?8", "a column has a name that is not UTF-8"),
    (r"[Gg]eo[Pp]arquet", "what it says of its geometry (GeoParquet) is of a version that DuckDB does not read"),
    (r"at least one non-root column", "it has no columns"),
    (r"nested more than", "its columns are nested deeper than DuckDB reads"),
    (r"[Ee]ncrypt", "it is encrypted, and there is no key for it"),
    (r"[Uu]nsupported|[Nn]ot implemented|[Nn]ot supported", "it holds a type or an encoding that DuckDB does not read"),
    (r"No magic bytes", "its file is damaged, or still being written"),
    (r"[Ss]chema mismatch|mismatch.*types|union_by_name", "its files have columns that do not fit together"),
)
_DAMAGED = "its file is damaged, or not what its name says"
