"""The Vega-Lite specification of what was shaped: plain values and plain encodings, nothing that computes or loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnes_mcp.charts import maps, palette
from agnes_mcp.charts.labels import MAX_TITLE_CHARS, shown
from agnes_mcp.charts.palette import Theme
from agnes_mcp.charts.shaped import Shaped

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH, HEIGHT = 640, 380
_BAND_PX = 24
_MAX_WIDTH = 1_100
#: From here on an axis says 1.5M and 2B.
_LARGE = 1e6
#: SI says G for what people call billions.
_BILLIONS = "replace(format(datum.value, '.4~s'), 'G', 'B')"
_TITLE_LINE_CHARS = 80

Spec = dict[str, Any]


def build_spec(shaped: Shaped, title: str, description: str, theme: Theme = "light") -> Spec:
    """The specification; `title` and `description` are texts of others and are shown as text."""
    width, height = _size(shaped)
    return {
        "$schema": SCHEMA,
        "description": description,
        "title": {"text": _lines(shown(title, MAX_TITLE_CHARS))},
        "width": width,
        "height": height,
        "padding": 12,
        "background": palette.BACKGROUNDS[theme],
        "config": palette.config(theme),
        **_DRAWN.get(shaped.mark, _plain)(shaped, theme),
    }


def _lines(title: str) -> list[str]:
    import textwrap

    return textwrap.wrap(title, _TITLE_LINE_CHARS) or [""]


def _size(shaped: Shaped) -> tuple[int, int]:
    """Bands get room; everything else has the usual shape."""
    across, down = len(shaped.orders.get("x", ())), len(shaped.orders.get("y", ()))
    if shaped.mark in ("line", "area", "point"):
        return WIDTH, max(HEIGHT, down * _BAND_PX)
    width = WIDTH if across == 0 else min(_MAX_WIDTH, max(WIDTH // 2, across * _BAND_PX))
    return width, HEIGHT if down == 0 else max(HEIGHT // 3, down * _BAND_PX)


def _plain(shaped: Shaped, theme: Theme) -> Spec:
    """One mark over one set of values."""
    encoding: Spec = {name: _channel(shaped, name) for name in shaped.channels}
    for name in ("x", "y"):
        if f"{name}_end" in shaped.ends():
            encoding[f"{name}2"] = {"field": f"{name}_end"}
    encoding["tooltip"] = [_tooltip(shaped, name) for name in shaped.channels]
    return {"data": {"values": shaped.values()}, "mark": _mark(shaped, theme), "encoding": encoding}


def _mark(shaped: Shaped, theme: Theme) -> Spec:
    many = shaped.drawn.num_rows > 60
    marks: dict[str, Spec] = {
        "line": {"type": "line", "point": not many, "strokeWidth": 2},
        "area": {"type": "area", "line": True, "opacity": 0.75},
        "point": {"type": "point", "filled": True, "size": 20 if many else 50, "opacity": 0.65},
        "heatmap": {"type": "rect"},
    }
    bar = {
        "type": "bar",
        "stroke": palette.BACKGROUNDS[theme],
        "strokeWidth": 0.5,
        "orient": "horizontal" if shaped.measure == "x" else "vertical",
    }
    mark = marks.get(shaped.mark, bar)
    return mark if "color" in shaped.channels else {**mark, "color": palette.ACCENT}


def _channel(shaped: Shaped, name: str) -> Spec:
    channel = shaped.channels[name]
    common: Spec = {"field": name, "title": channel.title}
    if name in ("color", "size"):
        return common | _legend(shaped, name)
    if name in shaped.orders:
        return common | {"type": "ordinal", "sort": shaped.orders[name], "axis": _band_axis(shaped, name)}
    if channel.kind == "temporal":
        return common | {"type": "temporal", "scale": {"type": "utc"}}
    found = common | {"type": "quantitative", "axis": _number_axis(shaped, name)}
    if name == shaped.measure:
        stacked = shaped.mark in ("bar", "histogram", "area")
        return found | {"stack": "zero" if stacked and "color" in shaped.channels else None,
                        "scale": {"zero": stacked}}  # fmt: skip
    return found | {"scale": {"zero": False, "nice": name not in shaped.widths}}


def _legend(shaped: Shaped, name: str) -> Spec:
    channel = shaped.channels[name]
    if name in shaped.orders:
        order = shaped.orders[name]
        colors = {"scale": {"domain": order, "range": list(palette.SERIES[: len(order)])}} if name == "color" else {}
        return {"type": "nominal", "sort": order, **colors}
    if channel.kind == "temporal":
        return {"type": "temporal", "scale": {"type": "utc"}}
    scale = {"scheme": palette.MUCH} if name == "color" else {"range": [15, 400]}
    return {"type": "quantitative", "scale": scale, "legend": _number_axis(shaped, name)}


def _band_axis(shaped: Shaped, name: str) -> Spec:
    crowded = name == "x" and sum(map(len, shaped.orders["x"])) > 50
    return {"labelAngle": -40 if crowded else 0, "labelOverlap": False}


def _number_axis(shaped: Shaped, name: str) -> Spec:
    import pyarrow.compute as pc

    column = shaped.drawn.column(name) if name in shaped.drawn.column_names else None
    largest = pc.max(pc.abs(column)).as_py() if column is not None and len(column) else None
    return {"labelExpr": _BILLIONS} if largest and largest >= _LARGE else {}


def _tooltip(shaped: Shaped, name: str) -> Spec:
    channel = shaped.channels[name]
    if name in shaped.orders:
        return {"field": name, "type": "nominal", "title": channel.title}
    return {"field": name, "type": channel.kind, "title": channel.title}


def _boxes(shaped: Shaped, theme: Theme) -> Spec:
    x, y = _channel(shaped, "x") if "x" in shaped.channels else _one_box(shaped), _channel(shaped, "y")
    stroke = palette.TEXT[theme]
    rest = {"scale": {"zero": False}, "type": "quantitative"}
    layers = [
        _layer({"type": "rule", "color": stroke}, x, y | {"field": "low"} | rest, {"y2": {"field": "high"}}),
        _layer({"type": "bar", "size": 20, "color": palette.ACCENT}, x, y | {"field": "q1"} | rest,
               {"y2": {"field": "q3"}}),
        _layer({"type": "tick", "color": palette.BACKGROUNDS[theme], "size": 20, "thickness": 2}, x, y | rest),
        _layer({"type": "circle", "color": stroke, "size": 20, "opacity": 0.5}, x, y | {"field": "outlier"} | rest),
    ]  # fmt: skip
    return {"data": {"values": shaped.values()}, "layer": layers}


def _one_box(shaped: Shaped) -> Spec:
    return {"field": "x", "type": "ordinal", "title": None, "axis": {"labelAngle": 0}}


def _layer(mark: Spec, x: Spec, y: Spec, more: Spec | None = None) -> Spec:
    return {"mark": mark, "encoding": {"x": x, "y": {**y, "stack": None}, **(more or {})}}


def _map(shaped: Shaped, theme: Theme) -> Spec:
    encoding: Spec = {
        "longitude": {"field": "x", "type": "quantitative"},
        "latitude": {"field": "y", "type": "quantitative"},
        **{name: _channel(shaped, name) for name in ("color", "size") if name in shaped.channels},
        "tooltip": [_tooltip(shaped, name) for name in shaped.channels],
    }
    drawn = shaped.drawn
    mark = {"type": "circle", "opacity": 0.7, **({} if "size" in encoding else {"size": 30})}
    mark |= {} if "color" in encoding else {"color": palette.SERIES[1]}
    points = {"data": {"values": shaped.values()}, "mark": mark, "encoding": encoding}
    line = {"type": "geoshape", "stroke": palette.SERIES[7], "strokeWidth": 0.6, "clip": True}
    land = {"data": {"values": maps.land()}, "mark": {**line, "fill": palette.LAND[theme]}}
    borders = {"data": {"values": maps.borders()}, "mark": {**line, "filled": False}}
    projection = maps.projection(drawn.column("x"), drawn.column("y"), WIDTH, HEIGHT)
    return {"layer": [land, borders, points], "projection": projection}


_DRAWN: dict[str, Callable[[Shaped, Theme], Spec]] = {"box": _boxes, "map": _map}
