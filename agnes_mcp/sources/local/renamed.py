"""Columns that DuckDB renames: names that differ in case alone are one name to it, so it adds a number to the later."""

from __future__ import annotations

import re

from agnes_mcp.models import Column
from agnes_mcp.sources.local.formats import Kind

_NUMBERED = re.compile(r"(.*)_\d+", re.DOTALL)
_TOLD = "The files' field {name!r}: it differs from another's name in case alone. (Or they have one that is called so.)"


def told_of_names(kind: Kind, columns: list[Column]) -> list[Column]:
    """The columns of files of that kind; of those that seem renamed, what they are called there is the description."""
    if kind == "duckdb":  # which has the names that it shows
        return columns
    spelt = {column.name for column in columns}
    folded = {name.casefold() for name in spelt}
    return [_told(column, spelt, folded) for column in columns]


def _told(column: Column, spelt: set[str], folded: set[str]) -> Column:
    found = _NUMBERED.fullmatch(column.name)
    # `price_1` beside `price` is somebody's own name; `A_1` beside `a` is DuckDB's for `A`.
    if found is None or column.description or found[1] in spelt or found[1].casefold() not in folded:
        return column
    return column.model_copy(update={"description": _TOLD.format(name=found[1])})
