"""What BigQuery says against an admitted statement, told of the text that the caller wrote.

BigQuery complains of the statement as it was rendered, in whose one line it counts columns; and it may name what is
behind a view. What is told is the complaint itself, where the same word stands in the caller's text, and the nearest
names that the caller may see anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse.places import Admitted
from agnes_mcp.sql.warehouse.refusals import near, printable

_POSITION = re.compile(r"\s*(?:;\s*)?\bat \[(?P<line>\d+):(?P<column>\d+)\]")
_SUGGESTION = re.compile(r";?\s*Did you mean [^?]*\?")
#: What is not of the statement: how it came to us.
_PREFACE = re.compile(r"\ABigQuery answered(?: while [^:]*)?: (?:Query error: )?")
_QUALIFIED = re.compile(r"`?[A-Za-z0-9_.:-]*[A-Za-z0-9_]`?(?:[.:]`?[A-Za-z0-9_*$-]+`?){1,3}")
_UNKNOWN = re.compile(r"(?:Unrecognized name: `?|Name `?|Column `?)(?P<name>[A-Za-z_][A-Za-z0-9_.]*)", re.IGNORECASE)
_NO_COLUMN = ("unrecognized name", "not found inside", "does not exist in struct", "not found on either side")
_WORD = re.compile(r"`[^`]+`|[A-Za-z_][A-Za-z0-9_]*|[0-9.]+|'(?:[^'\\]|\\.)*'|\S")
_WITHHELD = "another table"
_HINTS = (
    ("no matching signature", "Cast to the type that it takes: CAST(x AS …); `schema` has each column's type."),
    ("neither grouped nor aggregated", "Add it to GROUP BY, or wrap it in an aggregate such as ANY_VALUE."),
    ("aggregate function", "Aggregates stand in SELECT, HAVING and ORDER BY; a condition on one goes into HAVING."),
    ("is ambiguous", "Put the table's alias before it: t.column."),
    ("without a filter", "Add a condition with constants on the column that is named."),
    ("duplicate column name", "Give each column of the answer a name of its own, with AS."),
    ("could not cast", "Write the literal in the form of its type, or use SAFE_CAST."),
    ("in union", "Give both sides the same number of columns, of the same types."),
)


def explain(error: AgnesError, admitted: Admitted, text: str) -> AgnesError:
    """The same complaint, of `text`. Anything but a complaint about the statement itself is given back as it is."""
    if error.kind != "bq_bad_request":
        return error
    said = _PREFACE.sub("", error.message)
    position = _position(said, admitted.sql, text)
    message = _visible(_SUGGESTION.sub("", _POSITION.sub("", said)).strip().rstrip("."), admitted)
    folded = message.casefold()
    details = {
        key: value for key, value in error.details.items() if key in ("request_id", "reason", "job_id", "bytes_billed")
    }
    if position is not None:
        start, word = position
        details |= {"position": start, "fragment": printable(word)}
    if any(words in folded for words in _NO_COLUMN):
        return _unknown_column(message, admitted, details)
    hint = next((hint for words, hint in _HINTS if words in folded), "Correct the statement as the message says.")
    return AgnesError("bq_bad_request", f"BigQuery does not accept it: {message}.", hint, details)


def _unknown_column(message: str, admitted: Admitted, details: dict[str, object]) -> AgnesError:
    named = _UNKNOWN.search(message)
    name = named["name"] if named else str(details.get("fragment", "")).strip("`")
    close = near(name.rsplit(".", 1)[-1], list(_columns(admitted)))
    hint = f"Did you mean {' or '.join(close)}?" if close else "Call `schema` for the columns of each table."
    details |= {"column": name[:80], "nearest": close}
    return AgnesError("unknown_column", f"BigQuery does not accept it: {message}.", hint, details)


def _columns(admitted: Admitted) -> Iterable[str]:
    for place in admitted.tables:
        if place.schema is not None:
            yield from (column.name for column in place.schema.columns)


def _visible(message: str, admitted: Admitted) -> str:
    """The message without the names of tables that the statement does not name."""
    places = {name: place.table_id for place in admitted.tables for name in _spellings(place.path)}
    aliases = {use.alias for use in admitted.uses}

    def shown(match: re.Match[str]) -> str:
        name = match.group().replace("`", "").replace(":", ".")
        if name in places:
            return places[name]
        first = name.split(".", 1)[0].casefold()
        return match.group() if first in aliases or name.replace(".", "").isdigit() else _WITHHELD

    return _QUALIFIED.sub(shown, message)


def _spellings(path: str) -> tuple[str, str]:
    return path, path.split(".", 1)[1]


def _position(message: str, sql: str, text: str) -> tuple[int, str] | None:
    """Where the word that BigQuery complains of stands in the caller's text: the same word, the same time it comes."""
    found = _POSITION.search(message)
    if found is None or found["line"] != "1":
        return None
    start = int(found["column"]) - 1
    pointed = _WORD.match(sql, start)
    if pointed is None:
        return None
    word = _bare(pointed.group())
    before = sum(1 for match in _WORD.finditer(sql[:start]) if _bare(match.group()) == word)
    same = [match for match in _WORD.finditer(text) if _bare(match.group()) == word]
    if not same:
        return None
    chosen = same[min(before, len(same) - 1)]
    return chosen.start(), chosen.group()


def _bare(word: str) -> str:
    return word.strip("`").casefold()
