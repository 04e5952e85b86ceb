"""The columns of a result in a form that every reader of Arrow can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from agnes_mcp.sql.duckdb_types import loses_in_arrow, safe_type


def carried_whole(sql: str, types: Sequence[str]) -> str:
    """The statement, whose columns have these types, with each part that Arrow would change as text."""
    changed = [loses_in_arrow(kind) for kind in types]
    if not any(changed):
        return sql
    names = [f"c{number}" for number in range(len(types))]
    cells = [
        f"CAST({name} AS {safe_type(kind)}) AS {name}" if lost else name
        for name, kind, lost in zip(names, types, changed, strict=True)
    ]
    # On lines of its own: it may end in a comment.
    return f"SELECT {', '.join(cells)} FROM (\n{_without_semicolon(sql)}\n) AS result({', '.join(names)})"  # noqa: S608 - admitted SQL


def _without_semicolon(sql: str) -> str:
    """One statement up to the semicolon that ends it."""
    import duckdb

    text = sql.encode()
    for offset, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.operator and text[offset] == 0x3B:
            return text[:offset].decode()
    return sql


def unique_names(names: Sequence[str]) -> list[str]:
    """Column names as given; the second `a` becomes `a_2`, the third `a_3`, past names that are taken. Case counts."""
    taken, seen = set(names), dict[str, None]()
    for name in names:
        number, free = 2, name
        while free in seen or (free != name and free in taken):
            free, number = f"{name}_{number}", number + 1
        seen[free] = None
    return list(seen)


def readable_schema(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """The schema under unique names; fields of structs too, where `row(1, 'a')` has none: `f1`, `f2`."""
    columns = zip(schema, unique_names(names), strict=True)
    return pa.schema([field.with_name(name).with_type(_readable(field.type)) for field, name in columns])


def _readable(kind: Any) -> Any:
    types = pa.types
    if types.is_struct(kind):
        names = unique_names([field.name or f"f{number}" for number, field in enumerate(kind, start=1)])
        return pa.struct(
            [field.with_name(name).with_type(_readable(field.type)) for field, name in zip(kind, names, strict=True)]
        )
    if types.is_map(kind):
        return pa.map_(_readable(kind.key_type), _readable(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_readable(kind.value_type)), kind.list_size)
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_readable(kind.value_type)))
    return kind
