"""DuckDB's types: as columns of a schema, and as what Arrow can carry without loss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agnes_mcp.sql.duckdb_lines import copies_begun_rows
from agnes_mcp.sql.names import identifier

if TYPE_CHECKING:
    import duckdb

    from agnes_mcp.models import Column

#: Rows of one batch on its way out of DuckDB.
BATCH_ROWS = 8_192
#: What the values of one batch may take together: DuckDB counts none of it as its own memory.
BATCH_BYTES = 2**27
#: A value that may take more is read only where the process can be killed: of 2,048 DuckDB makes a copy that it does
#: not count. There the batches need not be as small as what a dictionary allows asks for.
MAX_VALUE_BYTES = 2**17
LEAST_ROWS_APART = 256
#: Lists in one another that DuckDB reads out of Parquet in bounded time: each level doubles it (measured on 1.5; 18
#: levels of one value take 50 ms, 30 take minutes, and nothing interrupts them).
MAX_PARQUET_LISTS = 16
_STRUCTS = ("struct", "tuple")  # DuckDB 2.0 tells one whose fields have no names apart

# Measured on DuckDB 1.5: Arrow export wraps UHUGEINT to negative numbers, drops TIMETZ's zone, and gives BIT, BIGNUM
# and VARIANT as opaque bytes; Parquet cannot hold a UNION. As text each is whole.
_LOSSY = ("UHUGEINT", "TIME WITH TIME ZONE", "BIT", "BIGNUM", "VARIANT", "GEOMETRY")
# A field may be called like a type; then a type follows it, not a bracket, comma or the end.
_LOSSY_WORD = re.compile(rf"\b({'|'.join(_LOSSY)})(?=[\[(,)]|$)|\bUNION\(")
_REFERENCE_SYSTEM = re.compile(r"\bGEOMETRY\('(?:[^']|'')*'\)")
#: A column of NULLs alone, which DuckDB 1.5 calls INTEGER: Arrow's null, which Parquet and other readers cannot hold.
_NULL = re.compile(r'"NULL"(?=[\[,)]|$)')
_QUOTED = re.compile(r'"(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'')


def batch_rows(row_bytes: int) -> int:
    """How many rows that may take as much stand in one batch."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def columns_of(description: Sequence[Sequence[Any]]) -> list[Column]:
    """Columns from a cursor's description, whose second entries are DuckDBPyType."""
    return [_column(str(entry[0]), entry[1]) for entry in description]


def _column(name: str, kind: Any) -> Column:
    from agnes_mcp.models import (
        Column,  # a process that answers queries describes no columns, and starts without pydantic
    )

    if kind.id in ("list", "array"):
        element = kind.children[0][1]
        return Column(name=name, type=_spelling(element), mode="REPEATED", fields=_fields(element))
    return Column(name=name, type=_spelling(kind), fields=_fields(kind))


def _fields(kind: Any) -> list[Column]:
    if kind.id not in _STRUCTS:
        return []
    return [_column(field or f"f{number}", child) for number, (field, child) in enumerate(kind.children, start=1)]


def _spelling(kind: Any) -> str:
    return "STRUCT" if kind.id in _STRUCTS else with_null_named(str(kind))


def with_null_named(kind: str) -> str:
    """That type with INTEGER for what holds NULLs alone, on every line of DuckDB."""
    return _NULL.sub("INTEGER", kind) if '"NULL"' in kind else kind


def loses_in_arrow(kind: str) -> bool:
    """True for a DuckDB type, as it is spelled, that holds one of those which Arrow changes."""
    return _LOSSY_WORD.search(_QUOTED.sub("", kind)) is not None or with_null_named(kind) != kind


def safe_type(kind: str) -> str:
    """That type with each part that Arrow changes as VARCHAR."""
    kind = with_null_named(_REFERENCE_SYSTEM.sub("GEOMETRY", kind))
    while (start := _blank_quoted(kind).find("UNION(")) >= 0:
        kind = kind[:start] + "VARCHAR" + kind[_closing(kind, start + len("UNION")) + 1 :]
    return _outside_quotes(kind)


def _closing(kind: str, opening: int) -> int:
    """Where the parenthesis at `opening` is closed; quoted names count for nothing."""
    blanked = _blank_quoted(kind)
    depth = 0
    for place in range(opening, len(blanked)):
        depth += {"(": 1, ")": -1}.get(blanked[place], 0)
        if depth == 0:
            return place
    return len(kind) - 1


def _blank_quoted(kind: str) -> str:
    """The same length, with nothing left of quoted names and values."""
    return _QUOTED.sub(lambda quoted: "_" * len(quoted.group()), kind)


def _outside_quotes(kind: str) -> str:
    parts: list[str] = []
    end = 0
    for quoted in _QUOTED.finditer(kind):
        parts += [_LOSSY_WORD.sub("VARCHAR", kind[end : quoted.start()]), quoted.group()]
        end = quoted.end()
    return "".join([*parts, _LOSSY_WORD.sub("VARCHAR", kind[end:])])


def depth_of(kind: str) -> tuple[int, int]:
    """How many levels of a DuckDB type, as it is spelled, are in one another; how many of these are lists or maps."""
    blanked = _blank_quoted(kind)
    levels = lists = 0
    around: list[tuple[int, int, bool]] = []  # deepest of the parts so far, and whether they are those of a map
    for place, sign in enumerate(blanked):
        if sign == "(":
            around.append((0, 0, blanked.endswith("MAP", 0, place)))
            levels = lists = 0
        elif sign == "[":
            levels, lists = levels + 1, lists + 1
        elif sign in ",)" and around:
            most, most_lists, is_map = around.pop()
            levels, lists = max(levels, most), max(lists, most_lists)
            if sign == ")":
                levels, lists = levels + 1 + is_map, lists + is_map
            else:
                around.append((levels, lists, is_map))
                levels = lists = 0
    return levels, lists


@contextmanager
def names_asked() -> Iterator[None]:
    """Around asking a statement for the names of its columns: where one is not UTF-8, DuckDB's own complaint, instead
    of what its client for Python says on each line."""
    import duckdb

    try:
        yield
    except (UnicodeDecodeError, RuntimeError) as error:
        if not isinstance(error, UnicodeDecodeError) and "conversion error" not in str(error):
            raise
        raise duckdb.InvalidInputException("Invalid Input Error: Invalid unicode in the name of a column") from None


def bound(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[duckdb.DuckDBPyRelation, list[tuple[str, str]]]:
    """The statement, not run, and the names and types of its columns. Raises what DuckDB does."""
    with names_asked():
        relation = connection.sql(sql)
        return relation, [(str(name), str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]


def lossless(
    cursor: duckdb.DuckDBPyConnection, sql: str, *, plain: bool = False
) -> duckdb.DuckDBPyRelation | duckdb.DuckDBPyConnection:
    """That statement, ready to be read, with every column that Arrow cannot carry whole cast to one that it can.

    `plain`: it reads no such column. Then it is begun at once, and bound once, where its rows are not copied for that.
    """
    if plain and not copies_begun_rows():
        return cursor.execute(sql)
    relation, outputs = bound(cursor, sql)
    if not any(loses_in_arrow(kind) for kind in {kind for _, kind in outputs}):
        return relation
    names = [(identifier(name), kind) for name, kind in outputs]
    casts = [f"CAST({name} AS {safe_type(kind)}) AS {name}" if loses_in_arrow(kind) else name for name, kind in names]
    return cursor.sql(f"SELECT {', '.join(casts)} FROM ({sql})")  # noqa: S608 - names of the schema, quoted
