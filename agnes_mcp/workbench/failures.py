"""What DuckDB says of an agent's SQL, as an error an agent may read: no path, no value of a row.

    duckdb.OutOfMemoryException, MemoryError          query_out_of_memory
    duckdb.InterruptException                         timeout
    duckdb.PermissionException                        query_refused
    duckdb.IOException, SerializationException        table_unavailable
    duckdb.InternalException, FatalException          query_failed, and the process ends
    any other duckdb.Error, pyarrow.ArrowException    query_failed, in DuckDB's words

pyarrow raises what DuckDB says while it streams as ArrowException or OSError, with DuckDB's message.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from agnes_mcp.errors import AgnesError

MAX_MESSAGE_CHARS = 1500

_HINTS: dict[str, str] = {
    "BinderException": "Check the names and types with `schema`; cast explicitly where types do not fit.",
    "CatalogException": "Check the name; the message gives the nearest one.",
    "ConversionException": "Use TRY_CAST to get NULL for values that do not convert, and count them.",
    "InvalidInputException": "Check the arguments of the function; use TRY(…) or TRY_CAST where values may not fit.",
    "OutOfRangeException": "Cast to a wider type (BIGINT, HUGEINT, DOUBLE) before calculating.",
    "ParserException": "Correct the syntax (DuckDB's dialect).",
}
#: Messages of these speak of values of rows.
_OF_VALUES = frozenset(
    {
        "ConstraintException",
        "ConversionException",
        "DataError",
        "InvalidInputException",
        "InvalidTypeException",
        "OutOfRangeException",
        "SequenceException",
        "TypeMismatchException",
    }
)
_EXCERPT = re.compile(r"\n+LINE \d+:.*", re.DOTALL)
#: A quote that is no apostrophe ("can't").
_QUOTE = re.compile(r"""(?<![A-Za-z])['"]""")
#: What may follow a value: "… to INT32 when casting from source column price".
_AFTER_VALUE = re.compile(r"['\"]( to [\w(), \[\]]+?)(?: when casting from source column \w+)?$")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d.,:eE+-]*(?!\w)")
_ABSOLUTE_PATH = re.compile(r"(?<![\w)\]/:])(?:file://)?(?:/[\w.@%+=~*-]+){2,}/?|\b[A-Za-z]:\\[^\s'\"]+")


def out_of_memory() -> AgnesError:
    return AgnesError(
        "query_out_of_memory",
        "The query needs more memory than one query may use.",
        "Aggregate or filter first, select fewer columns, sort less, and avoid cross joins and long lists.",
    )


def translate(error: BaseException, sql: str, paths: Iterable[str]) -> AgnesError:
    """The error of a run, foreseen or DuckDB's own."""
    import duckdb

    if isinstance(error, AgnesError):
        return error
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException) or "Out of Memory Error" in str(error):
        return out_of_memory()
    if isinstance(error, duckdb.InterruptException):
        return AgnesError("timeout", "The query was interrupted.", "Ask for less, or call again.")
    if isinstance(error, duckdb.PermissionException):
        return AgnesError("query_refused", "DuckDB refused the query.", "Read only the tables of the catalog.")
    if isinstance(error, duckdb.IOException | duckdb.SerializationException):
        return AgnesError(
            "table_unavailable",
            "A file behind the query cannot be read: it is missing or damaged.",
            "Refresh or drop the snapshot; for a configured table tell its owner.",
        )
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return AgnesError("query_failed", "DuckDB met an internal error in this query.", "Write the query another way.")
    name = type(error).__name__
    hint = _HINTS.get(name, "Correct the SQL and call again.")
    return AgnesError("query_failed", clean(str(error), name, sql, paths), hint)


def clean(message: str, error_name: str, sql: str, paths: Iterable[str]) -> str:
    """DuckDB's message without paths of this machine, without values of rows, of bounded length."""
    excerpt_at = _EXCERPT.search(message)
    head, excerpt = (message[: excerpt_at.start()], excerpt_at[0]) if excerpt_at else (message, "")
    if error_name in _OF_VALUES:
        head = _mask_values(head, sql)
    head = _shorten(head, MAX_MESSAGE_CHARS - min(len(excerpt), 400))
    return _mask_paths(head + excerpt[:400], paths).strip()


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit].rpartition("\n")[0] + "\n\t…"


def _mask_values(text: str, sql: str) -> str:
    """The message up to the first value that the agent did not write itself; numbers become an ellipsis.

    A value may hold quotes, line ends and colons itself: after its first quote only one known form is trusted.
    """
    quote = _QUOTE.search(text)
    if quote is not None and not _quoted_in(sql, text[quote.start() :]):
        after = _AFTER_VALUE.search(text)
        text = text[: quote.start()] + "'…'" + (after[0][1:] if after else "")
    parts = text.partition("\n")[0].split(": ")
    if len(parts) > 2 and parts[-1] not in sql and "'…'" not in parts[-1]:
        parts[-1] = "…"
    own_numbers = set(_NUMBER.findall(sql))
    return _NUMBER.sub(lambda found: found[0] if found[0] in own_numbers else "…", ": ".join(parts))


def _quoted_in(sql: str, rest: str) -> bool:
    """Whether the quoted text with which `rest` begins, and all after its end, is the agent's own or has no quote."""
    end = rest.find(rest[0], 1)
    return end > 0 and rest[: end + 1] in sql and not set(rest[end + 1 :]) & set("'\"\n")


def _mask_paths(text: str, paths: Iterable[str]) -> str:
    known = {sys.prefix, sys.base_prefix, os.path.expanduser("~"), os.getcwd(), *paths}
    known |= {os.path.dirname(path) for path in list(known)}
    for path in sorted(known - {"", "/", "~"}, key=len, reverse=True):
        text = text.replace(path, "…")
    return _ABSOLUTE_PATH.sub("…", text)


def as_message(error: AgnesError) -> dict[str, Any]:
    """What travels to the server, JSON-ready."""
    return {"kind": error.kind, "message": error.message, "hint": error.hint, "details": error.details}


def leaves_process_sound(error: BaseException, failure: AgnesError) -> bool:
    """Whether the process may serve another query after this one."""
    import duckdb

    broken = (duckdb.InternalException, duckdb.FatalException, duckdb.InterruptException)
    return failure.kind not in ("query_out_of_memory", "internal_error") and not isinstance(error, broken)
