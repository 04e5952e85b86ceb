"""BigQuery functions that sqlglot leaves as they are and DuckDB does not know, as DuckDB macros."""

from __future__ import annotations

#: Each is the text after CREATE MACRO.
MACROS: tuple[str, ...] = ("array_length(a) AS len(a)",)

#: Functions of GoogleSQL that sqlglot parses as nameless calls.
GOOGLE_FUNCTIONS = frozenset({"ARRAY_LENGTH"})
