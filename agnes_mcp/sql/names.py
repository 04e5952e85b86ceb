"""The one place that quotes: identifiers and literals of DuckDB's SQL, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

#: What can be written as a literal: a value, a list of texts, a struct of texts.
Literal = str | int | float | bool | None | Sequence[str] | Mapping[str, str]


def identifier(*path: str) -> str:
    """A name, or the parts of a dotted one, quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in path)


def selection(columns: Iterable[tuple[Sequence[str], str]], table: Sequence[str], alias: str = "") -> str:
    """A SELECT of these columns, each by its path and under a name, as sqlglot would write it."""
    named = ", ".join(f"{identifier(*path)} AS {identifier(name)}" for path, name in columns)
    source = identifier(*table) + (f" AS {identifier(alias)}" if alias else "")
    return f"SELECT {named} FROM {source}"  # noqa: S608 - every name is quoted


def literal(value: Literal) -> str:
    """A value as a literal. A NUL would end a text early, and is left out."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "NULL"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return "'" + value.replace("\0", "").replace("'", "''") + "'"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(literal(item) for item in value) + "]"
