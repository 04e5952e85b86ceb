"""Rows become what a picture holds: folded, binned, the largest categories, at most so many marks; and it is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agnes_mcp.charts import bins, moments
from agnes_mcp.charts.boxes import fold_boxes
from agnes_mcp.charts.categories import settle
from agnes_mcp.charts.columns import drop_undrawable, take_columns
from agnes_mcp.charts.encodings import Channel, Mark
from agnes_mcp.charts.grouping import group, repeats
from agnes_mcp.charts.shaped import Shaped
from agnes_mcp.charts.thinning import thin_lines, thin_points

if TYPE_CHECKING:
    import pyarrow as pa

#: What one picture holds before nobody can read it.
MAX_BARS, MAX_SERIES, MAX_CELLS_PER_AXIS, MAX_BOXES, MAX_BINS = 40, 8, 50, 25, 30
MAX_STRETCHES = {"bar": 130, "histogram": 60, "heatmap": 60, "box": MAX_BOXES}
MAX_LINE_STRETCHES = 600


def shape(mark: Mark, channels: dict[str, Channel], rows: pa.Table) -> Shaped:
    """`rows` as the mark draws them; `channels` are those of `encodings.channels`."""
    drawn, notes = drop_undrawable(take_columns(channels, rows), channels, mark)
    shaped = Shaped(mark, dict(channels), drawn, rows.num_rows, notes=notes)
    _SHAPES[mark](shaped)
    return shaped


def _shape_series(shaped: Shaped) -> None:
    """Bars, lines, areas: one dimension, one measure, perhaps series."""
    shaped.measure = next((n for n in ("y", "x") if shaped.channels[n].aggregate), None) or (
        "y" if shaped.channels["y"].kind == "quantitative" else "x"
    )
    dimension = "x" if shaped.measure == "y" else "y"
    _cut(shaped, dimension)
    _fold(shaped)
    if shaped.mark != "bar":
        shaped.drawn = shaped.drawn.sort_by(dimension) if dimension not in shaped.orders else shaped.drawn
        series = "color" if "color" in shaped.channels else None
        shaped.drawn, note = thin_lines(shaped.drawn, dimension, shaped.measure, series)
        shaped.note(note)


def _fold(shaped: Shaped) -> None:
    """The largest categories, then one row per combination of what is grouped by."""
    if "color" in shaped.channels:
        _name_series(shaped)
    measured = shaped.channels[shaped.measure]
    by = shaped.dimensions()
    if measured.aggregate is None and repeats(shaped.drawn, by):
        fold = "mean" if shaped.mark == "line" else "sum"
        shaped.channels[shaped.measure] = measured = replace(measured, aggregate=fold)
        shaped.note(f"Several rows share a place in the picture: the {fold} of their values is drawn.")
    together = measured.aggregate is not None
    for name in by:
        series, ranked = name == "color", shaped.mark == "bar" and together
        _settle(shaped, name, MAX_SERIES if series else MAX_BARS, together=together and series, ranked=ranked)
    if measured.aggregate:
        shaped.drawn = group(shaped.drawn, by, {shaped.measure: measured.aggregate})
    shaped.drawn = shaped.drawn.filter(shaped.drawn.column(shaped.measure).is_valid())


def _name_series(shaped: Shaped) -> None:
    """Series have names: numbers and moments become text, in their order."""
    channel = shaped.channels["color"]
    if channel.time_unit in moments.CYCLE_LABELS:
        _cut_time(shaped, "color")
    if channel.kind == "nominal":
        return
    column = shaped.drawn.column("color")
    unit = channel.time_unit or (moments.natural_unit(column) if channel.kind == "temporal" else "")
    shaped.drawn = shaped.drawn.sort_by("color")
    column = shaped.drawn.column("color")
    texts = moments.cut_to_text(column, unit) if unit else [f"{number:.15g}" for number in column.to_pylist()]
    _replace(shaped, "color", _strings(texts))
    shaped.channels["color"] = replace(channel, kind="nominal")


def _strings(texts: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.string())


def _settle(shaped: Shaped, name: str, most: int, *, together: bool, ranked: bool) -> None:
    channel = shaped.channels[name]
    if channel.kind != "nominal" or name in shaped.orders:
        return
    if channel.time_unit in moments.CYCLE_LABELS:
        present = set(shaped.drawn.column(name).unique().to_pylist())
        shaped.orders[name] = [label for label in moments.CYCLE_LABELS[channel.time_unit] if label in present]
        return
    aggregate = shaped.channels[shaped.measure].aggregate if shaped.measure else None
    measure = (shaped.measure, aggregate or "sum") if shaped.measure and _is_number(shaped) else None
    settled = settle(shaped.drawn, name, channel.title, most, measure, together=together, ranked=ranked)
    shaped.drawn, shaped.orders[name] = settled.drawn, settled.order
    shaped.note(settled.note)


def _is_number(shaped: Shaped) -> bool:
    return shaped.channels[shaped.measure].kind == "quantitative"


def _cut(shaped: Shaped, name: str) -> None:
    """A dimension of moments or numbers into stretches that the picture holds; categories stay."""
    channel = shaped.channels[name]
    if channel.kind == "temporal" or channel.time_unit:
        _cut_time(shaped, name)
    elif channel.kind == "quantitative" and shaped.mark not in ("line", "area"):
        _cut_numbers(shaped, name)


def _cut_time(shaped: Shaped, name: str) -> None:
    channel, column = shaped.channels[name], shaped.drawn.column(name)
    if channel.kind == "nominal":
        _replace(shaped, name, moments.fold(column, channel.time_unit or ""))
        shaped.drawn = shaped.drawn.filter(shaped.drawn.column(name).is_valid())
        return
    unit = channel.time_unit or moments.natural_unit(column)
    fitting = _fitting_unit(shaped, channel, column, unit)
    if fitting != unit:
        shaped.note(f"{channel.column_shown} is cut by {fitting}: by {unit} there is more than the picture holds.")
    if fitting != unit or channel.time_unit:
        shaped.channels[name] = replace(channel, time_unit=fitting)
    shaped.units[name] = fitting
    _replace(shaped, name, moments.cut(column, fitting))


def _fitting_unit(shaped: Shaped, channel: Channel, column: pa.ChunkedArray, unit: str) -> str:
    """The given unit or a coarser one. Lines keep what they are asked for: they can be thinned; a bar has a width."""
    if shaped.mark not in ("line", "area"):
        return moments.coarser(unit, moments.unit_of_span(column, MAX_STRETCHES.get(shaped.mark, MAX_BARS)))
    if channel.time_unit or not shaped.channels[shaped.measure].aggregate:
        return unit
    return moments.coarser(unit, moments.fitting_unit(column, MAX_LINE_STRETCHES))


def _cut_numbers(shaped: Shaped, name: str) -> None:
    """Few whole numbers (years, grades) are categories in their order; others are cut into bins."""
    import pyarrow.compute as pc

    column = shaped.drawn.column(name)
    most = {"heatmap": MAX_CELLS_PER_AXIS, "box": MAX_BOXES}.get(shaped.mark, MAX_BARS)
    distinct = column.unique()
    whole = len(distinct) <= most and pc.all(pc.equal(pc.floor(distinct), distinct)).as_py()
    if shaped.mark != "histogram" and whole:
        numbers = sorted(distinct.to_pylist())
        shaped.orders[name] = [f"{number:.15g}" for number in numbers]
        named = dict(zip(numbers, shaped.orders[name], strict=True))
        _replace(shaped, name, _strings([named[number] for number in column.to_pylist()]))
        shaped.channels[name] = replace(shaped.channels[name], kind="nominal")
        return
    if not len(column):
        return
    low, high = pc.min_max(column).as_py().values()
    width = bins.bin_width(low, high, most if shaped.mark == "heatmap" else MAX_BINS)
    shaped.widths[name] = width
    _replace(shaped, name, bins.cut(column, width))
    if shaped.mark != "histogram":
        shaped.note(f"{shaped.channels[name].column_shown} is cut into bins of {width:g}.")


def _replace(shaped: Shaped, name: str, column: Any) -> None:
    shaped.drawn = shaped.drawn.set_column(shaped.drawn.column_names.index(name), name, column)


def _shape_histogram(shaped: Shaped) -> None:
    shaped.measure = "y"
    _cut(shaped, "x")
    _fold(shaped)


def _shape_heatmap(shaped: Shaped) -> None:
    shaped.measure = "color"
    for name in ("x", "y"):
        _cut(shaped, name)
    measured = shaped.channels["color"]
    for name in ("x", "y"):
        if name not in shaped.orders:
            _settle(shaped, name, MAX_CELLS_PER_AXIS, together=False, ranked=False)
    shaped.drawn = group(shaped.drawn, ["x", "y"], {"color": measured.aggregate or "mean"})
    shaped.drawn = shaped.drawn.filter(shaped.drawn.column("color").is_valid())


def _shape_point(shaped: Shaped) -> None:
    by = shaped.dimensions()
    measured = {name: channel.aggregate for name, channel in shaped.channels.items() if channel.aggregate}
    for name in by:
        if shaped.channels[name].time_unit:
            _cut_time(shaped, name)
        _settle(shaped, name, MAX_SERIES if name == "color" else MAX_BARS, together=name == "color", ranked=False)
    if measured:
        shaped.drawn = group(shaped.drawn, by, {name: str(aggregate) for name, aggregate in measured.items()})
        for name in measured:
            shaped.drawn = shaped.drawn.filter(shaped.drawn.column(name).is_valid())
    thin_points(shaped)


def _shape_box(shaped: Shaped) -> None:
    shaped.measure = "y"
    if "x" in shaped.channels:
        _cut(shaped, "x")
        if "x" not in shaped.orders:
            _settle(shaped, "x", MAX_BOXES, together=False, ranked=False)
    fold_boxes(shaped)


_SHAPES = {
    "bar": _shape_series, "line": _shape_series, "area": _shape_series, "point": _shape_point, "map": _shape_point,
    "histogram": _shape_histogram, "heatmap": _shape_heatmap, "box": _shape_box,
}  # fmt: skip
