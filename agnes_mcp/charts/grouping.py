"""Rows folded: one row per combination of what is grouped by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: What Arrow calls our aggregates. Counts are sums of ones; a median is taken from the list of its values.
_ARROW = {"count": "sum", "sum": "sum", "mean": "mean", "min": "min", "max": "max", "distinct": "count_distinct",
          "median": "list"}  # fmt: skip
#: What all rows have in common.
_ALL = "all"


def group(drawn: pa.Table, by: list[str], measures: dict[str, str]) -> pa.Table:
    """`measures`: column → aggregate. Without `by` one row. Columns keep their names; groups come as they appear."""
    import pyarrow as pa

    asked = [(name, _ARROW[aggregate]) for name, aggregate in measures.items()]
    if not by:  # as one group, since Arrow has no lists of everything
        drawn = drawn.append_column(_ALL, pa.repeat(0, drawn.num_rows))
    folded = drawn.group_by(by or [_ALL], use_threads=False).aggregate(asked)
    named = {name: folded.column(name) for name in by}
    for name, aggregate in measures.items():
        column = folded.column(f"{name}_{_ARROW[aggregate]}")
        named[name] = _medians(column) if aggregate == "median" else column
    return pa.table(named)


def _medians(lists: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa.array([pc.quantile(each.values, 0.5)[0].as_py() for each in lists], pa.float64())


def repeats(drawn: pa.Table, by: list[str]) -> bool:
    """Whether two rows have the same combination."""
    return bool(by) and drawn.select(by).group_by(by).aggregate([]).num_rows < drawn.num_rows
