"""Cells cut to what an answer can show, in Arrow and where they are made, before anything turns them into text.

An answer shows a few thousand characters of a cell, and a cell may hold 64 MB: a list over every row, a histogram. Cut
in Python, such a cell would keep the interpreter, and with it every other caller, for seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
    columns = [column.cast(field.type) for (column, _), field in zip(cuts, schema, strict=True)]
    lengths = {(row, index): chars for index, (_, of_column) in enumerate(cuts) for row, chars in of_column.items()}
    return pa.record_batch(columns, schema=schema), lengths


def cut_cells(array: pa.Array) -> tuple[pa.Array, dict[int, int | None]]:
    """The same array where no cell is too heavy or too deep; otherwise one in which those are cut.

    With it, by row, how many characters of JSON the text or bytes of a cut cell were; None for any other: more than
    `LEAST_CUT_CHARS`. A list of fixed size becomes an ordinary one where any of its array is cut.
    """
    if _is_deep(array.type):
        return pc.if_else(array.is_valid(), pa.scalar(_TOO_DEEP), pa.scalar(None, pa.string())), {}
    if array.nbytes <= MAX_CELL_WEIGHT:
        return array, {}
    varied = array.cast(_varied(array.type))
    heavy = pc.indices_nonzero(pc.greater(_weights(varied), MAX_CELL_WEIGHT)).to_pylist()
    if not heavy:
        return array, {}
    array = varied
    if _is_text(array.type):
        return _cut_text(array, MAX_CELL_WEIGHT), _told(heavy, pc.utf8_length(array.take(heavy)).to_pylist())
    if _is_binary(array.type):
        as_base64 = [4 * -(-size // 3) for size in pc.binary_length(array.take(heavy)).to_pylist()]
        return _cut_text(array, MAX_CELL_WEIGHT), _told(heavy, as_base64)
    pieces: list[pa.Array] = []
    done = 0
    for row in heavy:
        pieces += [array.slice(done, row - done), _cut(array.slice(row, 1), MAX_CELL_WEIGHT)]
        done = row + 1
    return pa.concat_arrays([*pieces, array.slice(done)]), dict.fromkeys(heavy)


def _told(rows: list[int], chars: list[int]) -> dict[int, int | None]:
    """Text of few characters may have many bytes; then it is whole."""
    return {row: count for row, count in zip(rows, chars, strict=True) if count > MAX_CELL_WEIGHT}


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


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _weights(array: pa.Array) -> pa.Array:
    """For each cell, how many values it holds and how many bytes of text: int64, at least 1."""
    kind = array.type
    ones = pa.repeat(pa.scalar(1, pa.int64()), len(array))
    if _is_text(kind) or _is_binary(kind):
        return pc.add(ones, pc.fill_null(pc.cast(pc.binary_length(array), pa.int64()), 0))
    if pa.types.is_struct(kind):
        for field in array.flatten():
            ones = pc.add(ones, _weights(field))
        return ones
    if pa.types.is_map(kind):
        first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
        keys, items = array.keys.slice(first, last - first), array.items.slice(first, last - first)
        return pc.add(ones, _sums(pc.add(_weights(keys), _weights(items)), _lengths(array.offsets)))
    if _is_list(kind):
        lengths = pc.fill_null(pc.cast(pc.list_value_length(array), pa.int64()), 0)
        return pc.add(ones, _sums(_weights(array.flatten()), lengths))
    return ones


def _lengths(offsets: pa.Array) -> pa.Array:
    return pc.cast(pc.subtract(offsets.slice(1), offsets.slice(0, len(offsets) - 1)), pa.int64())


def _sums(values: pa.Array, lengths: pa.Array) -> pa.Array:
    """The sums of consecutive runs of `values` that have these lengths."""
    zero = pa.array([0], pa.int64())
    running = pa.concat_arrays([zero, pc.cumulative_sum(values)])
    ends = pc.cumulative_sum(lengths)
    begins = pc.subtract(ends, lengths)
    return pc.subtract(running.take(ends), running.take(begins))


def _cut(cell: pa.Array, weight: int) -> pa.Array:
    """An array of one cell, cut to a little more than that weight."""
    kind = cell.type
    if cell.null_count or _weights(cell)[0].as_py() <= weight:
        return cell
    if _is_text(kind) or _is_binary(kind):
        return _cut_text(cell, weight)
    if pa.types.is_struct(kind):
        return _cut_record(cell, weight)
    if pa.types.is_map(kind):
        first, last = cell.offsets[0].as_py(), cell.offsets[-1].as_py()
        keys, items = cell.keys.slice(first, last - first), cell.items.slice(first, last - first)
        kept = _fitting(pc.add(_weights(keys), _weights(items)), weight)
        keys, items = keys.slice(0, kept), items.slice(0, kept)
        return pa.MapArray.from_arrays(
            pa.array([0, kept], pa.int32()), _cut_last(keys, weight), _cut_last(items, weight)
        )
    if _is_list(kind):
        elements = cell.flatten()
        kept = _fitting(_weights(elements), weight)
        return _list_of(_cut_last(elements.slice(0, kept), weight), kind)
    return cell


def _fitting(weights: pa.Array, weight: int) -> int:
    """How many elements from the first it takes to pass the weight."""
    within = pc.sum(pc.less_equal(pc.cumulative_sum(weights), weight)).as_py() or 0
    return min(len(weights), int(within) + 1)


def _cut_last(elements: pa.Array, weight: int) -> pa.Array:
    """The last of the elements may be as heavy as all should be together."""
    if not len(elements):
        return elements
    before, last = elements.slice(0, len(elements) - 1), elements.slice(len(elements) - 1)
    return pa.concat_arrays([before, _cut(last, weight)])


def _cut_record(cell: pa.Array, weight: int) -> pa.Array:
    fields: list[pa.Array] = []
    for field in cell.flatten():
        cut = _cut(field, max(1, weight))
        weight -= _weights(cut)[0].as_py()
        fields.append(cut)
    return pa.StructArray.from_arrays(fields, fields=list(cell.type))


def _cut_text(array: pa.Array, weight: int) -> pa.Array:
    """At most one character, or byte, more than the weight."""
    if _is_text(array.type):
        return pc.utf8_slice_codeunits(array, 0, weight + 1)
    return pc.binary_slice(array, 0, weight + 1)


def _list_of(elements: pa.Array, kind: pa.DataType) -> pa.Array:
    offsets: Any = [0, len(elements)]
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), elements, type=kind)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), elements, type=kind)


def iso_duration(months: int, days: int, nanoseconds: int) -> str:
    """An INTERVAL as an ISO 8601 duration, parts of nothing left out, each with its own sign: `P14M-3DT0.5S`. They
    stay apart, because a month has no fixed length; nothing at all is `PT0S`."""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    time = f"T{'-' if nanoseconds < 0 else ''}{seconds}{fraction}S" if nanoseconds or not (months or days) else ""
    return "P" + (f"{months}M" if months else "") + (f"{days}D" if days else "") + time
