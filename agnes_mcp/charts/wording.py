"""A chart in words: what a model reads beside the picture, and what stands in for it (alt text)."""

from __future__ import annotations

from datetime import date, time
from typing import TYPE_CHECKING, Any

from agnes_mcp.charts.labels import MAX_TITLE_CHARS, shown
from agnes_mcp.charts.moments import SHORTEST, TEXT_FORMATS
from agnes_mcp.charts.shaped import Shaped

if TYPE_CHECKING:
    import pyarrow as pa

#: Places named from the top and from the bottom.
_NAMED = 3
_NOUNS = {"bar": "Bar chart", "line": "Line chart", "area": "Area chart", "point": "Scatter plot",
          "histogram": "Histogram", "heatmap": "Heatmap", "box": "Box plot", "map": "Map"}  # fmt: skip


def default_title(shaped: Shaped) -> str:
    """A title made of the axes, where none was given."""
    titles = {name: channel.title for name, channel in shaped.channels.items()}
    measure = shaped.measure
    if shaped.mark == "map":
        return f"{titles['y']} and {titles['x']}" + (f" by {titles['color']}" if "color" in titles else "")
    if not measure:
        return f"{titles['y']} against {titles['x']}"
    if shaped.mark == "box":
        return f"Distribution of {titles['y']}" + (f" by {titles['x']}" if "x" in titles else "")
    others = [title for name, title in titles.items() if name != measure]
    return f"{titles[measure]} by {', '.join(others)}" if others else titles[measure]


def alt_text(shaped: Shaped, title: str) -> str:
    """One sentence for whoever cannot see the picture."""
    drawn = shaped.drawn.num_rows
    what = f"{_NOUNS[shaped.mark]}: {shown(title, MAX_TITLE_CHARS)}"
    if not drawn:
        return f"{what}. There is nothing to draw."
    span = _span(shaped)
    return f"{what}{', ' + span if span else ''}, {drawn:,} {'mark' if drawn == 1 else 'marks'}."


def summary(shaped: Shaped) -> list[str]:
    """What the picture shows: how much, from where to where, the extremes, and what was done to make it fit."""
    if not shaped.drawn.num_rows:
        return [f"Nothing to draw: no row of {shaped.rows:,} has a place in it.", *shaped.notes]
    lines = [f"{shaped.rows:,} rows, {shaped.drawn.num_rows:,} marks."]
    if shaped.mark == "box":
        lines += _boxes(shaped)
    elif shaped.measure:
        lines += _measured(shaped)
    else:
        lines += [_range(shaped, name) for name in ("x", "y")]
    return [*lines, *shaped.notes]


def _measured(shaped: Shaped) -> list[str]:
    column = shaped.drawn.column(shaped.measure)
    title = shaped.channels[shaped.measure].title
    rows = shaped.drawn.to_pylist()
    ranked = sorted(rows, key=lambda row: row[shaped.measure], reverse=True)
    lines = [f"{title}: highest {_list(shaped, ranked[:_NAMED])}"]
    if len(ranked) > 2 * _NAMED:
        lines[0] += f"; lowest {_list(shaped, ranked[: -_NAMED - 1 : -1])}"
    lines[0] += "."
    if shaped.channels[shaped.measure].aggregate in ("sum", "count"):
        lines.append(f"Total {_number(_total(column))}.")
    dimension = "x" if shaped.measure == "y" else "y"
    if shaped.mark in ("line", "area") and dimension not in shaped.orders and "color" not in shaped.channels:
        ordered = sorted(rows, key=lambda row: row[dimension])
        lines.append(f"First {_list(shaped, ordered[:1])}, last {_list(shaped, ordered[-1:])}.")
    return lines


def _list(shaped: Shaped, rows: list[dict[str, Any]]) -> str:
    return ", ".join(_place(shaped, row) for row in rows)


def _place(shaped: Shaped, row: dict[str, Any]) -> str:
    """One mark in words: where it is, and how much."""
    names = [name for name in shaped.channels if name != shaped.measure]
    where = " · ".join(_value(shaped, name, row[name]) for name in names)
    return f"{where} {_value(shaped, shaped.measure, row[shaped.measure])}".strip()


def _value(shaped: Shaped, name: str, value: Any) -> str:
    if name in shaped.widths:
        return f"{_number(value)}–{_number(value + shaped.widths[name])}"
    if isinstance(value, (date, time)):
        return value.strftime(TEXT_FORMATS.get(shaped.units.get(name, ""), SHORTEST))
    return value if isinstance(value, str) else _number(value)


def _boxes(shaped: Shaped) -> list[str]:
    rows = [row for row in shaped.drawn.to_pylist() if row["outlier"] is None]
    rows.sort(key=lambda row: row["y"], reverse=True)
    said = [
        f"{_value(shaped, 'x', row['x'])}: median {_number(row['y'])}, half of it in "
        f"{_number(row['q1'])}–{_number(row['q3'])}, {int(row['count']):,} rows."
        for row in rows[: 2 * _NAMED]
    ]
    return [*said, f"{len(rows) - len(said)} more with lower medians."] if len(rows) > len(said) else said


def _span(shaped: Shaped) -> str:
    """From where to where an axis of moments or numbers goes."""
    dimension = "y" if shaped.measure == "x" else "x"
    if dimension in shaped.orders or dimension not in shaped.channels or shaped.mark == "map":
        return ""
    low, high = _bounds(shaped.drawn.column(dimension))
    return f"from {_value(shaped, dimension, low)} to {_value(shaped, dimension, high)}"


def _range(shaped: Shaped, name: str) -> str:
    title = shaped.channels[name].title
    if name in shaped.orders:
        return f"{title}: {len(shaped.orders[name])} categories."
    low, high = _bounds(shaped.drawn.column(name))
    return f"{title}: {_value(shaped, name, low)} to {_value(shaped, name, high)}."


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    import pyarrow.compute as pc

    bounds = pc.min_max(column).as_py()
    return bounds["min"], bounds["max"]


def _total(column: pa.ChunkedArray) -> float:
    import pyarrow.compute as pc

    return float(pc.sum(column).as_py())


def _number(value: float) -> str:
    """With thousands separated, six significant digits below a thousand."""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1_000 else f"{value:.6g}"
