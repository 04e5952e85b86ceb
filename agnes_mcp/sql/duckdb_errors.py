"""The one table of DuckDB's complaints: what each means for a statement of ours, and for SQL that an agent wrote.

What DuckDB raises in the middle of an Arrow stream comes as pyarrow's exception with DuckDB's text, which begins with
the kind of the complaint; both ways lead to the same row of the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum

from agnes_mcp.errors import AgnesError
from agnes_mcp.untrusted import without_paths, without_paths_beside_sql, without_values

#: What DuckDB says once an internal error has made the whole instance unusable.
INVALIDATED = "database has been invalidated"
MAX_MESSAGE_CHARS = 1_500
_MAX_EXCERPT_CHARS = 400
#: Longer messages quote a value, which may have megabytes; to look through it would keep everybody waiting.
_MAX_SAID_CHARS = 20_000


class Complaint(Enum):
    """What DuckDB complains of."""

    MEMORY = "more memory than it may use"
    INTERRUPT = "it was interrupted"
    INTERNAL = "a fault of its own"
    DENIED = "something it may not do"
    FILES = "a file that is missing or cannot be read"
    DAMAGE = "a file that is not what it should be"
    NAMES = "a name, or types that do not fit each other"
    VALUES = "a value that does not fit"
    ARGUMENTS = "an argument of a function"
    OTHER = "anything else"


#: DuckDB's exceptions by name, which are also the first words of its messages ("Conversion Error: …").
_COMPLAINTS: dict[str, Complaint] = {
    "OutOfMemoryException": Complaint.MEMORY,
    "InterruptException": Complaint.INTERRUPT,
    "FatalException": Complaint.INTERNAL,
    "InternalException": Complaint.INTERNAL,
    "PermissionException": Complaint.DENIED,
    "HTTPException": Complaint.FILES,
    "IOException": Complaint.FILES,
    "SerializationException": Complaint.DAMAGE,
    "BinderException": Complaint.NAMES,
    "CatalogException": Complaint.NAMES,
    "ConversionException": Complaint.VALUES,
    "OutOfRangeException": Complaint.VALUES,
    "TypeMismatchException": Complaint.VALUES,
    "InvalidInputException": Complaint.ARGUMENTS,
    "NotImplementedException": Complaint.ARGUMENTS,
}
_FIRST_WORDS: dict[str, str] = {
    "Out of Memory Error": "OutOfMemoryException",
    "INTERRUPT Error": "InterruptException",
    "FATAL Error": "FatalException",
    "INTERNAL Error": "InternalException",
    "Permission Error": "PermissionException",
    "IO Error": "IOException",
    "Serialization Error": "SerializationException",
    "Conversion Error": "ConversionException",
    "Out of Range Error": "OutOfRangeException",
    "Invalid Input Error": "InvalidInputException",
    "Not implemented Error": "NotImplementedException",
}
#: Messages of these speak of the statement and the schema alone; those of all others may hold values of rows.
_OF_TEXT = frozenset({"BinderException", "CatalogException", "ParserException", "SyntaxException"})
# DuckDB has one exception for a bad pattern and for a bad file; only a file's message speaks of these.
_DAMAGE = re.compile(
    r"<path>|CSV Error|[Pp]arquet|[Tt]hrift|TProtocol|[Dd]ecompress|what type:|[Pp]age header|magic bytes|"
    r"[Cc]hecksum|[Cc]orrupt"
)
#: Of a text in Parquet, which DuckDB does not name the column of.
_NOT_UTF8 = re.compile(r"Invalid string encoding found in Parquet")
#: What is wrong with files that are not damaged, and which it would not help to write again in the same way.
_UNREADABLE = (
    (_NOT_UTF8, "holds text that is not UTF-8"),
    (re.compile(r"Unsupported compression codec"), "is compressed in a way that DuckDB does not read"),
)
#: What DuckDB puts before the complaint where it comes while rows are fetched.
_WHILE_FETCHING = re.compile(r"\AInvalid Input Error: Attempting to [\w ]+ query result\nError: ")
_EXCERPT = re.compile(r"\n+LINE \d+:.*", re.DOTALL)

_CAST_HINT = (
    "Check the literals and casts against the types that `schema` shows; TRY_CAST(column AS type) gives NULL where a "
    "value does not convert."
)
_AGENT_HINTS: dict[str, str] = {
    "BinderException": "Check the names and types with `schema`; cast explicitly where types do not fit.",
    "CatalogException": "Check the name; the message gives the nearest one.",
    "ConversionException": "Use TRY_CAST to get NULL for values that do not convert, and count them.",
    "InvalidInputException": "Check the arguments of the function; use TRY(…) or TRY_CAST where values may not fit.",
    "OutOfRangeException": "Cast to a wider type (BIGINT, HUGEINT, DOUBLE) before calculating.",
    "ParserException": "Correct the syntax (DuckDB's dialect).",
}


def said_by(error: BaseException) -> str:
    """DuckDB's message, beginning with the kind of the complaint."""
    return _WHILE_FETCHING.sub("", str(error))


def _told_by(error: BaseException) -> str:
    """Of a message that quotes a value of any length, what stands before that."""
    text = said_by(error)
    if len(text) <= _MAX_SAID_CHARS:
        return text
    head = text[:_MAX_SAID_CHARS]
    quotes = [place for place in map(head.find, "'\"`") if place >= 0]
    return f"{head[: min(quotes, default=len(head))]}…"


def name_of(error: BaseException) -> str:
    """The name of DuckDB's exception; in the middle of an Arrow stream, the one that its text begins with."""
    text = said_by(error)
    if type(error).__module__.partition(".")[0].lstrip("_") == "duckdb" and text == str(error):
        return type(error).__name__
    told = next((name for words, name in _FIRST_WORDS.items() if text.startswith(words)), "")
    return told or ("InvalidInputException" if _is_of_stream(error) else type(error).__name__)


def complaint_of(error: BaseException) -> Complaint:
    """Which row of the table an exception of DuckDB, or of pyarrow over DuckDB, belongs to."""
    text, name = str(error), name_of(error)
    if isinstance(error, MemoryError) or "Out of Memory Error" in text:
        return Complaint.MEMORY
    if INVALIDATED in text:
        return Complaint.INTERNAL
    return _COMPLAINTS.get(name, Complaint.OTHER)


def _is_of_stream(error: BaseException) -> bool:
    return isinstance(error, OSError) or type(error).__module__.startswith("pyarrow")


def of_our_statement(error: BaseException, own: str = "") -> AgnesError:
    """What a complaint about a statement that the server built means for the call: without paths, with the next step.

    `own` is the statement where an agent's predicate is part of it, over columns that were looked at just now: only
    values that it holds are repeated, and types that do not fit each other are the predicate's.
    """
    text = without_paths(_told_by(error))
    match complaint_of(error):
        case Complaint.INTERNAL:
            return AgnesError("table_unavailable", "DuckDB had an internal error and was reopened.", "Call again.")
        case Complaint.MEMORY:
            return out_of_memory()
        case Complaint.INTERRUPT:
            return interrupted()
        case Complaint.FILES | Complaint.DENIED:
            return unavailable("its files are missing or cannot be read")
        case Complaint.NAMES if own:
            return AgnesError("query_failed", text, _CAST_HINT)
        case Complaint.NAMES:
            hint = "Call `schema` again, then repeat."
            return AgnesError("schema_changed", f"The table is not as it was: {text}", hint)
        case Complaint.VALUES:
            return AgnesError("query_failed", without_values(text, own), _CAST_HINT)
        case Complaint.ARGUMENTS if own and not _DAMAGE.search(text):
            hint = "Check the patterns and literals, and what the functions take."
            return AgnesError("query_failed", without_values(text, own), hint)
    unreadable = _unreadable(text)
    return unavailable(f"it {unreadable}" if unreadable else "its files are damaged or not what they were")


def _unreadable(said: str) -> str:
    return next((ours for pattern, ours in _UNREADABLE if pattern.search(said)), "")


def of_agents_sql(error: BaseException, sql: str, paths: Iterable[str]) -> AgnesError:
    """What a complaint about SQL that an agent wrote means, foreseen or in DuckDB's words; `paths` are not repeated."""
    if isinstance(error, AgnesError):
        return error
    damage = _DAMAGE.search(_told_by(error))
    match complaint_of(error):
        case Complaint.ARGUMENTS if damage and damage[0] not in sql:
            return _files_unreadable(_unreadable(damage.string))
        case Complaint.MEMORY:
            return query_out_of_memory()
        case Complaint.INTERRUPT:
            return interrupted()
        case Complaint.DENIED:
            return AgnesError("query_refused", "DuckDB refused the query.", "Read only the tables of the catalog.")
        case Complaint.FILES | Complaint.DAMAGE:
            return _files_unreadable()
        case Complaint.INTERNAL:
            message = "DuckDB met an internal error in this query."
            return AgnesError("query_failed", message, "Write the query another way.")
    name = name_of(error)
    hint = _AGENT_HINTS.get(name, "Correct the SQL and call again.")
    return AgnesError("query_failed", _told_to_agent(_told_by(error), name, sql, paths), hint)


def cause_of(error: BaseException, sql: str, execute: Callable[[str], object]) -> BaseException:
    """What failed, where DuckDB says only that the statement was interrupted; `execute` runs SQL where `sql` ran.

    To be asked where nobody interrupted it: when one of DuckDB's threads fails, the others are interrupted, and now
    and then (a few times in a hundred on a busy machine) it is theirs that is raised. `EXPLAIN ANALYZE` runs the same
    statement, gives no rows, and so far always told the failure.
    """
    import duckdb

    if complaint_of(error) is not Complaint.INTERRUPT:
        return error
    try:
        execute(f"EXPLAIN ANALYZE {sql}")
    except duckdb.Error as failure:
        return failure
    return error


def leaves_process_sound(error: BaseException, failure: AgnesError) -> bool:
    """Whether the process in which this failed may be asked again."""
    if failure.kind in ("query_out_of_memory", "internal_error"):
        return False
    return isinstance(error, AgnesError) or complaint_of(error) not in (Complaint.INTERNAL, Complaint.INTERRUPT)


def _files_unreadable(why: str = "") -> AgnesError:
    return AgnesError(
        "table_unavailable",
        f"A file behind the query cannot be read: it {why or 'is missing or damaged'}.",
        "Refresh or drop the snapshot; for a configured table tell its owner.",
    )


def out_of_memory() -> AgnesError:
    return AgnesError(
        "query_out_of_memory",
        "DuckDB ran out of the memory it may use.",
        "Select fewer columns, narrow the WHERE, or aggregate over fewer distinct values.",
    )


def interrupted() -> AgnesError:
    return AgnesError("cancelled", "The statement was interrupted.", "Call again when needed.")


def query_out_of_memory() -> AgnesError:
    return AgnesError(
        "query_out_of_memory",
        "The query needs more memory than one query may use.",
        "Name the columns you need instead of *; aggregate or filter first; sort less, avoid cross joins and lists.",
    )


def unavailable(reason: str, table_id: str = "") -> AgnesError:
    which = f"The table {table_id!r}" if table_id else "The table"
    return AgnesError(
        "table_unavailable",
        f"{which} cannot be read just now: {reason}.",
        "Other tables are not affected. Tell whoever keeps this instance; the files of the table need a look.",
    )


def _told_to_agent(message: str, name: str, sql: str, paths: Iterable[str]) -> str:
    """DuckDB's message without paths of this machine, without values of rows, of bounded length."""
    found = _EXCERPT.search(message)
    head, excerpt = (message[: found.start()], found[0]) if found else (message, "")
    if name not in _OF_TEXT:
        head = without_values(head, sql)
    head = _shorten(head, MAX_MESSAGE_CHARS - min(len(excerpt), _MAX_EXCERPT_CHARS))
    return without_paths_beside_sql(head + excerpt[:_MAX_EXCERPT_CHARS], paths).strip()


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit].rpartition("\n")[0] + "\n\t…"
