"""The columns that a caller names, found in the schema and spelled as it spells them."""

from __future__ import annotations

import re
from typing import NamedTuple

from agnes_mcp.errors import AgnesError, nearest
from agnes_mcp.models import Column, TableSchema
from agnes_mcp.untrusted import tidy

_DIRECTED = re.compile(
    r"(?P<name>.+?)(?:\s(?P<direction>ASC|DESC))?(?:\s+NULLS\s+(?P<nulls>FIRST|LAST))?\s*", re.IGNORECASE | re.DOTALL
)


def select_columns(select: list[str] | None, schema: TableSchema) -> list[str]:
    """Top-level columns by the schema's own spelling. Raises `unknown_column` and `invalid_argument`."""
    if select is None:
        return [column.name for column in schema.columns]
    if not select:
        raise AgnesError("invalid_argument", "select is empty.", "Name columns, or leave select out for all of them.")
    starred = "*" in select and schema.column("*") is None
    every = [column.name for column in schema.columns] if starred else []
    named = [resolve(name, schema)[0][0] for name in select if not (starred and name == "*")]
    return list(dict.fromkeys([*every, *named]))


def resolve(name: str, schema: TableSchema) -> tuple[list[str], Column]:
    """A column by name, or a field of a STRUCT by dotted path, in the schema's own spelling.

    Raises `unknown_column`, naming the nearest, and `invalid_argument` for a path through a list.
    """
    whole = schema.column(name) or next(
        (c for c in schema.pseudo_columns if c.name.casefold() == name.casefold()), None
    )
    if whole is not None:
        return [whole.name], whole
    path: list[str] = []
    fields = schema.columns
    column: Column | None = None
    for part in name.split("."):
        if column is not None and column.mode == "REPEATED":
            raise AgnesError(
                "invalid_argument", f"{'.'.join(path)} is a list; {name!r} looks inside it.", f"Select {path[0]} whole."
            )
        column = next((f for f in fields if f.name.casefold() == part.casefold()), None)
        if column is None:
            raise _unknown_column(name, schema)
        path.append(column.name)
        fields = column.fields
    assert column is not None  # noqa: S101 - split() gives at least one part
    return path, column


def left_out(name: str, schema: TableSchema) -> str:
    """Why a column of that name cannot be read, as a sentence; "" where none is left out."""
    reason = next((why for column, why in schema.left_out.items() if column.casefold() == name.casefold()), "")
    return f"The column {tidy(name)[:80]!r} of {schema.table_id!r} is left out: {reason}." if reason else ""


class Directed(NamedTuple):
    """What stands in an order: a name, and how."""

    name: str
    descending: bool = False
    nulls_first: bool = False


def split_order(entry: str, known: set[str]) -> Directed:
    """A column, whether it descends, and where NULLs stand; NULLs are last unless said. A column that is really called
    `x desc` is taken for itself."""
    directed = _DIRECTED.fullmatch(entry)
    if directed is None or entry.casefold() in known:
        return Directed(entry)
    descending = (directed["direction"] or "").upper() == "DESC"
    nulls_first = (directed["nulls"] or "").upper() == "FIRST"
    spelled = Directed(directed["name"], descending, nulls_first)
    return spelled if spelled.name.casefold() in known else spelled._replace(name=spelled.name.strip())


def _unknown_column(name: str, schema: TableSchema) -> AgnesError:
    known = [path for path, _ in schema.walk()]
    close = nearest(name, known)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Call `schema` for the columns of this table."
    return AgnesError(
        "unknown_column",
        left_out(name, schema) or f"The table {schema.table_id!r} has no column {name[:80]!r}.",
        hint,
        {"column": name[:80], "nearest": close},
    )
