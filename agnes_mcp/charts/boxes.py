"""Box plots: quartiles, whiskers at the last value within one and a half boxes, and what lies beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.charts.shaped import Shaped

#: Points beyond the whiskers that are drawn, of all boxes together.
MAX_OUTLIERS = 400
WHISKER = 1.5
QUARTILES = (0.25, 0.5, 0.75)


def fold_boxes(shaped: Shaped) -> None:
    """One row per box (x, low, q1, y as the median, q3, high, count) and one per outlier drawn (x, outlier)."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    outliers: list[dict[str, Any]] = []
    drawn = shaped.drawn if "x" in shaped.channels else shaped.drawn.append_column("x", _one_box(shaped))
    lists = drawn.group_by(["x"], use_threads=False).aggregate([("y", "list")])
    for place, values in zip(lists.column("x"), lists.column("y_list"), strict=True):
        box, beyond = _box(values.values)
        rows.append({"x": place.as_py(), **box})
        outliers += [{"x": place.as_py(), "outlier": value} for value in beyond]
    if len(outliers) > MAX_OUTLIERS:
        step = -(-len(outliers) // MAX_OUTLIERS)
        shaped.note(f"Of {len(outliers):,} outliers every {step}th is drawn.")
        outliers = outliers[::step]
    kind = drawn.schema.field("x").type
    fields = [pa.field("x", kind)] + [
        pa.field(n, pa.float64()) for n in ("low", "q1", "y", "q3", "high", "count", "outlier")
    ]
    shaped.drawn = pa.Table.from_pylist(rows + outliers, pa.schema(fields))


def _one_box(shaped: Shaped) -> pa.Array:
    import pyarrow as pa

    label = shaped.channels["y"].column_shown
    shaped.orders["x"] = [label]
    return pa.array([label] * shaped.drawn.num_rows, pa.string())


def _box(values: pa.Array) -> tuple[dict[str, float], list[float]]:
    import pyarrow.compute as pc

    q1, median, q3 = pc.quantile(values, QUARTILES).to_pylist()
    reach = WHISKER * (q3 - q1)
    within = pc.and_(pc.greater_equal(values, q1 - reach), pc.less_equal(values, q3 + reach))
    bounds = pc.min_max(values.filter(within)).as_py()
    box = {"low": bounds["min"], "q1": q1, "y": median, "q3": q3, "high": bounds["max"], "count": float(len(values))}
    return box, values.filter(pc.invert(within)).to_pylist()
