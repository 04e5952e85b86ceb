"""What `query` admits, from the gate's own lists."""

from __future__ import annotations

import textwrap

from agnes_mcp.operations.query import MAX_ANSWER_BYTES
from agnes_mcp.sql import duckdb_functions as functions
from agnes_mcp.workbench import admission, series

from .markdown import code, table, words


def function_list() -> str:
    plain = textwrap.fill(", ".join(sorted(functions.FUNCTIONS)), 116)
    bounded = [f"{code(name)} up to {bound:,}" for name, (_, bound) in sorted(functions.BOUNDED.items())]
    rows = [
        ("operators", words(sorted(functions.OPERATORS))),
        ("with a literal count", ", ".join(bounded)),
        (f"as a list of at most {series.MAX_ELEMENTS:,} elements, told from literals", words(sorted(functions.SERIES))),
        ("in FROM", words(sorted(functions.TABLE_FUNCTIONS))),
    ]
    return f"```text\n{plain}\n```\n\n" + table(("", ""), rows)


def instead() -> str:
    return table(("kept out", "instead"), [(code(name), text) for name, text in sorted(functions.INSTEAD.items())])


def sizes() -> str:
    rows = [
        ("bytes of the text", f"{admission.MAX_TEXT_BYTES:,}"),
        ("levels of nesting in its tree", f"{admission.MAX_DEPTH:,}"),
        ("bytes of Arrow that one answer may take back", f"{MAX_ANSWER_BYTES:,}"),
    ]
    return table(("most", "limit"), rows)
