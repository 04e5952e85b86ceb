"""Heavy cells of Arrow's columns, cut to a weight: its elements and the bytes of its text together.

Apart from `cells`, because Arrow's functions take 9 MB that a process without such cells can do without.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def cut_heavy(array: pa.Array, varied: pa.Array, weight: int) -> tuple[pa.Array, dict[int, int | None]]:
    """The array where no cell weighs more; else `varied`, the same with lists of any length, with those cells cut.

    With it, by row, how many characters of JSON the text or bytes of a cut cell were; None for any other.
    """
    heavy = pc.indices_nonzero(pc.greater(_weights(varied), weight)).to_pylist()
    if not heavy:
        return array, {}
    array = varied
    if _is_text(array.type):
        lengths = pc.utf8_length(array.take(heavy)).to_pylist()
        return _cut_text(array, weight), _told(heavy, lengths, weight)
    if _is_binary(array.type):
        as_base64 = [4 * -(-size // 3) for size in pc.binary_length(array.take(heavy)).to_pylist()]
        return _cut_text(array, weight), _told(heavy, as_base64, weight)
    pieces: list[pa.Array] = []
    done = 0
    for row in heavy:
        pieces += [array.slice(done, row - done), _cut(array.slice(row, 1), weight)]
        done = row + 1
    return pa.concat_arrays([*pieces, array.slice(done)]), dict.fromkeys(heavy)


def _told(rows: list[int], chars: list[int], weight: int) -> dict[int, int | None]:
    """Text of few characters may have many bytes; then it is whole."""
    return {row: count for row, count in zip(rows, chars, strict=True) if count > weight}


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
