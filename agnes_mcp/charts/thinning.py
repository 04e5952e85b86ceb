"""Fewer marks that look the same: lines keep their peaks and troughs, clouds of points are binned or sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnes_mcp.charts import bins
from agnes_mcp.charts.encodings import Channel
from agnes_mcp.charts.grouping import group

if TYPE_CHECKING:
    import pyarrow as pa

    from agnes_mcp.charts.shaped import Shaped

MAX_POINTS = 2_000
#: A line of more points is thinned to the lowest and highest of each of so many stretches of neighbours.
MAX_LINE_POINTS, LINE_STRETCHES = 1_200, 400
CELLS_PER_AXIS = 40


def thin_lines(drawn: pa.Table, dimension: str, measure: str, series: str | None) -> tuple[pa.Table, str]:
    """Each series in its order, with at most `MAX_LINE_POINTS` points: the extremes of stretches of neighbours."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = drawn.column(series).unique().to_pylist() if series else [None]
    parts, cut = [], 0
    for name in names:
        part = drawn.filter(pc.equal(drawn.column(series), name)) if series else drawn
        cut += part.num_rows > MAX_LINE_POINTS
        parts.append(_extremes(part, measure) if part.num_rows > MAX_LINE_POINTS else part)
    if not cut:
        return drawn, ""
    thinned = pa.concat_tables(parts)
    note = f"Of {drawn.num_rows:,} points {thinned.num_rows:,} are drawn: the lowest and highest of neighbours."
    return thinned, note


def _extremes(part: pa.Table, measure: str) -> pa.Table:
    values = part.column(measure).to_pylist()
    width = -(-len(values) // LINE_STRETCHES)
    kept = {0, len(values) - 1}
    for start in range(0, len(values), width):
        stretch = range(start, min(start + width, len(values)))
        kept |= {min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)}
    return part.take(sorted(kept))


def thin_points(shaped: Shaped) -> None:
    """A cloud that is too dense: counted per cell where only two numbers are shown, else sampled."""
    drawn, total, mark = shaped.drawn, shaped.drawn.num_rows, shaped.mark
    if total <= MAX_POINTS:
        return
    axes = [shaped.channels["x"].kind, shaped.channels["y"].kind]
    if axes == ["quantitative", "quantitative"] and not {"color", "size"} & set(shaped.channels):
        _count_cells(shaped)
        shaped.note(f"{total:,} points are more than a picture holds: they are counted per cell; {_SHOWN[mark]}.")
        return
    step = -(-total // MAX_POINTS)
    shaped.drawn = drawn.take(list(range(0, total, step)))
    shaped.note(f"Of {total:,} points {shaped.drawn.num_rows:,} are drawn: one in {step} in the order of the rows.")


_SHOWN = {"point": "color is the count", "map": "size is the count"}


def _count_cells(shaped: Shaped) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    drawn = shaped.drawn
    for name in ("x", "y"):
        low, high = pc.min_max(drawn.column(name)).as_py().values()
        width = bins.bin_width(low, high, CELLS_PER_AXIS)
        starts = bins.cut(drawn.column(name), width)
        if shaped.mark == "map":
            starts = pc.add(starts, width / 2)
        drawn = drawn.set_column(drawn.column_names.index(name), name, starts)
        shaped.widths[name] = width
    counted = "size" if shaped.mark == "map" else "color"
    drawn = drawn.append_column(counted, pa.repeat(1.0, drawn.num_rows))
    shaped.drawn = group(drawn, ["x", "y"], {counted: "count"})
    shaped.channels[counted] = Channel(counted, None, "quantitative", "count")
    if shaped.mark == "point":
        shaped.mark, shaped.measure = "heatmap", "color"
    else:
        shaped.widths.clear()
