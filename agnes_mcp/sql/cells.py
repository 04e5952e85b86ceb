"""Cells cut to what an answer can show, in Arrow and where they are made, before anything turns them into text.

An answer shows a few thousand characters of a cell, and a cell may hold 64 MB: a list over every row, a histogram. Cut
in Python, such a cell would keep the interpreter, and with it every other caller, for seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from agnes_mcp.errors import AgnesError

#: Elements and characters of a cell together. What is cut begins as the cell does and is longer than this, so that an
#: answer's own cut, far below, is made where it would have been made.
MAX_CELL_WEIGHT = 65_536
#: A cell that has been cut takes at least this as JSON: an element takes one character, text a quarter of its bytes.
LEAST_CUT_CHARS = MAX_CELL_WEIGHT // 4
#: Levels of lists, maps and records in one another.
MAX_DEPTH = 32
_TOO_DEEP = f"… [cut: nested deeper than {MAX_DEPTH} levels]"


#: By column and row, the text of each cell of a batch that no value of the column's type could be made of.
Texts = Mapping[str, Mapping[int, str]]
_TEXTS = b"agnes: cells as text"


def with_texts(table: pa.Table, texts: Texts) -> pa.Table:
    """The table, one chunk of rows, with what stands for those of its cells that are NULL only because they could not
    be read. Slices off its front keep them."""
    return table.replace_schema_metadata({_TEXTS: json.dumps(texts)}) if texts else table


def texts_of(schema: pa.Schema) -> dict[str, dict[int, str]]:
    """What `with_texts` put into the schema of a batch."""
    held = (schema.metadata or {}).get(_TEXTS)
    if held is None:
        return {}
    return {name: {int(row): text for row, text in rows.items()} for name, rows in json.loads(held).items()}


def refuse_texts(schema: pa.Schema) -> None:
    """Raise `invalid_argument` for a batch with such cells, where there is only room for values."""
    for name, rows in texts_of(schema).items():
        raise AgnesError(
            "invalid_argument",
            f"Column {name!r} holds a value that is none of its type, {str(schema.field(name).type)[:80]}: "
            f"{next(iter(rows.values()))[:80]!r}.",
            "Leave it out of `select`; `scan` and `sample` show such a value as its text.",
            {"argument": "select", "column": name},
        )


def shown_schema(schema: pa.Schema) -> pa.Schema:
    """What `cut_batch` makes of a schema: columns that are too deep are text, lists of a fixed size ordinary lists."""
    return pa.schema(
        [field.with_type(pa.string() if _is_deep(field.type) else _varied(field.type)) for field in schema]
    )


def cut_batch(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[tuple[int, int], int | None]]:
    """The batch with every cell cut, under `shown_schema`; by row and column, how long those were that were cut."""
    cuts = [cut_cells(column) for column in batch.columns]
    schema = shown_schema(batch.schema)
    columns = [
        column if column.type.equals(field.type) else column.cast(field.type)
        for (column, _), field in zip(cuts, schema, strict=True)
    ]
    lengths = {(row, index): chars for index, (_, of_column) in enumerate(cuts) for row, chars in of_column.items()}
    return pa.record_batch(columns, schema=schema), lengths


def cut_cells(array: pa.Array) -> tuple[pa.Array, dict[int, int | None]]:
    """The same array where no cell is too heavy or too deep; otherwise one in which those are cut.

    With it, by row, how many characters of JSON the text or bytes of a cut cell were; None for any other: more than
    `LEAST_CUT_CHARS`. A list of fixed size becomes an ordinary one where any of its array is cut.
    """
    if _is_deep(array.type):
        import pyarrow.compute as pc

        return pc.if_else(array.is_valid(), pa.scalar(_TOO_DEEP), pa.scalar(None, pa.string())), {}
    if array.nbytes <= MAX_CELL_WEIGHT or pa.types.is_primitive(array.type):
        return array, {}
    from agnes_mcp.sql.cutting import cut_heavy

    return cut_heavy(array, array.cast(_varied(array.type)), MAX_CELL_WEIGHT)


def _is_deep(kind: pa.DataType) -> bool:
    return _depth(kind) > MAX_DEPTH


def _depth(kind: pa.DataType) -> int:
    depth, level = 0, [kind]
    while level and depth <= MAX_DEPTH + 1:
        level = [child.field(index).type for child in level if _is_nested(child) for index in range(child.num_fields)]
        depth += 1
    return depth - 1


def _varied(kind: pa.DataType) -> pa.DataType:
    """The type with lists of any length in place of those of a fixed size, which could not be cut."""
    types = pa.types
    if types.is_fixed_size_list(kind) or types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_varied(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_varied(kind.value_type)))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_varied(field.type)) for field in kind])
    if types.is_map(kind):
        key, item = kind.key_field, kind.item_field
        return pa.map_(key.with_type(_varied(key.type)), item.with_type(_varied(item.type)))
    return kind


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) and not pa.types.is_union(kind))


def iso_duration(months: int, days: int, nanoseconds: int) -> str:
    """An INTERVAL as an ISO 8601 duration, parts of nothing left out, each with its own sign: `P14M-3DT0.5S`. They
    stay apart, because a month has no fixed length; nothing at all is `PT0S`."""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    time = f"T{'-' if nanoseconds < 0 else ''}{seconds}{fraction}S" if nanoseconds or not (months or days) else ""
    return "P" + (f"{months}M" if months else "") + (f"{days}D" if days else "") + time
