"""Categories that fit a picture: the largest under labels of their own, the rest together or left out, and said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agnes_mcp.charts.grouping import group
from agnes_mcp.charts.labels import distinct_labels

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Categories:
    """`drawn` with the labels in place of the values; `order` names them as the axis shows them."""

    drawn: pa.Table
    order: list[str]
    note: str = ""


def settle(
    drawn: pa.Table, name: str, title: str, most: int, measure: tuple[str, str] | None, *, together: bool, ranked: bool
) -> Categories:
    """At most `most` categories of the column `name`, by the size of `measure` (column, aggregate) or by rows.

    `together`: the rest becomes one category, because it is aggregated anew; otherwise its rows are left out.
    `ranked`: the largest come first; otherwise they stay in the order of the rows.
    """
    import pyarrow as pa

    encoded = drawn.column(name).combine_chunks().dictionary_encode(null_encoding="encode")
    values, codes = encoded.dictionary.to_pylist(), encoded.indices
    by_size = _by_size(drawn, codes, measure)
    rest = max(0, len(values) - (most - 1 if together else most)) if len(values) > most else 0
    kept = by_size[: len(values) - rest]
    shown = kept if ranked else sorted(kept)
    order = distinct_labels([values[code] for code in shown])
    label_of: list[str | None] = [None] * len(values)
    for code, label in zip(shown, order, strict=True):
        label_of[code] = label
    if rest and together:
        other = distinct_labels([*order, f"Other ({rest:,})"])[-1]
        label_of = [label or other for label in label_of]
        order.append(other)
    labels = pa.array(label_of, pa.string()).take(codes)
    changed = drawn.set_column(drawn.column_names.index(name), name, labels)
    note = _note(title, len(values), rest, together) if rest else ""
    return Categories(changed.filter(labels.is_valid()), order, note)


def _by_size(drawn: pa.Table, codes: pa.Array, measure: tuple[str, str] | None) -> list[int]:
    """The codes of the categories, the largest first; equals stay in the order of the rows."""
    import pyarrow as pa

    column, aggregate = measure or ("1", "count")
    amounts = drawn.column(column) if measure else pa.repeat(1.0, drawn.num_rows)
    folded = group(pa.table({"code": codes, "size": amounts}), ["code"], {"size": aggregate})
    pairs = zip(folded.column("code").to_pylist(), folded.column("size").to_pylist(), strict=True)
    return [code for code, size in sorted(pairs, key=lambda pair: (-_number(pair[1]), pair[0]))]


def _number(size: object) -> float:
    """A size to compare by: moments and nothing have none."""
    return abs(float(size)) if isinstance(size, int | float) else 0.0


def _note(title: str, total: int, rest: int, together: bool) -> str:
    what = "are drawn together as Other" if together else "are left out"
    return f"{title} has {total:,} values; the {rest:,} smallest {what}."
