"""A specification holds values and encodings and nothing that loads or computes, whatever the rows and names say."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import altair
import pyarrow as pa
import pytest
from charts.rows import HOSTILE, orders, utf8
from support.counts import count, tell

from agnes_mcp.charts import inspection, palette
from agnes_mcp.charts.chart import make_chart
from agnes_mcp.charts.encodings import MARKS as MARKS_THERE_ARE
from agnes_mcp.charts.encodings import TIME_UNITS, ChartRequest, Mark
from agnes_mcp.errors import AgnesError

REQUESTS = {
    "bar": ChartRequest("bar", "country", "sum(amount)"),
    "lying bar": ChartRequest("bar", "count()", "product"),
    "stacked": ChartRequest("bar", "month(ts)", "sum(amount)", color="country"),
    "line": ChartRequest("line", "week(ts)", "avg(amount)", color="country"),
    "area": ChartRequest("area", "month(ts)", "count()", color="country"),
    "point": ChartRequest("point", "amount", "lat", color="country", size="grade"),
    "dense point": ChartRequest("point", "amount", "lat"),
    "histogram": ChartRequest("histogram", "amount", color="country"),
    "heatmap": ChartRequest("heatmap", "hourofday(ts)", "weekday(ts)"),
    "heatmap of numbers": ChartRequest("heatmap", "lat", "amount", color="avg(grade)"),
    "box": ChartRequest("box", "country", "amount"),
    "one box": ChartRequest("box", y="amount"),
    "map": ChartRequest("map", "lon", "lat", color="country"),
}
#: The marks of a specification, layer by layer.
MARKS = {
    "bar": ["bar"], "lying bar": ["bar"], "stacked": ["bar"], "line": ["line"], "area": ["area"], "point": ["point"],
    "dense point": ["rect"], "histogram": ["bar"], "heatmap": ["rect"], "heatmap of numbers": ["rect"],
    "box": ["rule", "bar", "tick", "circle"], "one box": ["rule", "bar", "tick", "circle"],
    "map": ["geoshape", "geoshape", "circle"],
}  # fmt: skip


def layers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec.get("layer", [spec])
    return found


@pytest.mark.parametrize("name", REQUESTS)
def test_a_specification_is_valid_and_draws_the_mark(name: str) -> None:
    spec = make_chart(REQUESTS[name], orders()).spec
    altair.Chart.from_dict(spec) if "layer" not in spec else altair.LayerChart.from_dict(spec)  # validates
    inspection.check_spec(spec)
    assert [layer["mark"]["type"] for layer in layers(spec)] == MARKS[name]
    json.dumps(spec, allow_nan=False)


#: Columns of every kind, some of them such as nobody wishes for.
COLUMNS = [
    "ts", "country", "label", "amount", "grade", "lat", "lon", "flag", "exact", "endless", "nothing", "day", "clock",
    "ancient", "distant", "below",
]  # fmt: skip
SHOWN = ["", "count()", "sum(amount)", "avg(exact)", "median(below)", "distinct(label)", "max(endless)", "min(ts)"]


def awkward_rows() -> pa.Table:
    """Every row a label that is a hostile text, and columns of endless numbers, none at all, and moments far off."""
    rows, labels = orders(400), utf8(HOSTILE)
    numbers, days = range(rows.num_rows), 86_400
    added = {
        "label": pa.array([labels[n % len(labels)] for n in numbers]),
        "flag": pa.array([(True, False, None)[n % 3] for n in numbers]),
        "exact": pa.array([None if n % 7 == 0 else n for n in numbers], pa.decimal128(38, 9)),
        "endless": pa.array([float("nan") if n % 2 else float("inf") for n in numbers]),
        "nothing": pa.nulls(rows.num_rows),
        "day": pa.array(numbers, pa.date32()),
        "clock": pa.array([n * 1_000 for n in numbers], pa.time32("ms")),
        "ancient": pa.array([n * 300 * days - 62_135_596_800 for n in numbers], pa.timestamp("s")),  # from year 1 on
        "distant": pa.array([n * 365 * 20 * days for n in numbers], pa.timestamp("s")),  # to year 9,900
        "below": pa.array([-2.5 * n for n in numbers]),
    }
    for name, column in added.items():
        rows = rows.append_column(name, column)
    return rows


def any_request(chance: random.Random, mark: Mark) -> ChartRequest:
    """Channels that somebody may ask for, sensible or not."""
    units = [f"{unit}({column})" for unit in TIME_UNITS for column in ("ts", "day", "ancient", "distant")]

    def channel(*more: str) -> str:
        return chance.choice([chance.choice(COLUMNS), chance.choice(units), chance.choice(SHOWN), *more])

    x, y = channel(), channel("", "count()")
    if mark in ("box", "map") and chance.random() < 0.7:  # which are of numbers alone
        x, y = (chance.choice(["amount", "lat", "lon", "exact", "endless", "below"]) for _ in range(2))
    return ChartRequest(mark, x, y, channel("", ""), chance.choice(["", "amount"]))


@pytest.mark.soak
@pytest.mark.parametrize("mark", MARKS_THERE_ARE)
def test_any_channels_make_a_picture_or_a_refusal(mark: Mark) -> None:
    """Each mark with whatever columns, aggregates and time units: a specification of ours with its words, or an error
    that says what to change."""
    chance, rows, tries = random.Random(f"channels of {mark}"), awkward_rows(), count(120, 5_000)
    refused: list[tuple[ChartRequest, AgnesError]] = []
    for _ in range(tries):
        request = any_request(chance, mark)
        try:
            chart = make_chart(request, rows)
        except AgnesError as error:
            refused.append((request, error))
            continue
        inspection.check_spec(chart.spec)
        assert chart.words, request
        assert chart.alt, request
        assert 0 < chart.marks <= 20_000, request
        assert len(json.dumps(chart.spec, allow_nan=False)) < 8 * 2**20, request
    assert [request for request, error in refused if error.kind != "invalid_argument" or not error.hint] == []
    tell(f"channels of a {mark}", tried=tries, through=tries - len(refused))
    assert len(refused) < tries


def test_axes_say_what_they_show() -> None:
    encoding = make_chart(REQUESTS["stacked"], orders()).spec["encoding"]
    assert (encoding["x"]["title"], encoding["x"]["type"], encoding["x"]["scale"]) == (
        "month of ts", "temporal", {"type": "utc"},
    )  # fmt: skip
    assert (encoding["y"]["title"], encoding["y"]["stack"]) == ("sum of amount", "zero")
    assert encoding["color"]["title"] == "country"


def hostile_rows() -> pa.Table:
    texts = utf8(HOSTILE)
    return pa.table({name: [texts[(i + n) % len(texts)] for i in range(len(texts))] for n, name in enumerate(texts)} | {
        "n": list(range(len(texts))), "lon": [1.0] * len(texts), "lat": [2.0] * len(texts),
    })  # fmt: skip


def strings_outside_values(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [
            text for key, value in part.items() if key != "values" for text in [key, *strings_outside_values(value)]
        ]
    if isinstance(part, list):
        return [text for value in part for text in strings_outside_values(value)]
    return [part] if isinstance(part, str) else []


@pytest.mark.parametrize("title", HOSTILE, ids=[ascii(text)[:30] for text in HOSTILE])
def test_hostile_names_values_and_titles_stay_text(title: str) -> None:
    """They may stand as a title, a category or a description, cut to its length, and nowhere else."""
    name = utf8([title])[0]
    chart = make_chart(
        ChartRequest("bar", name.strip() or "n", "sum(n)", color=name.strip() or "n", title=title), hostile_rows()
    )
    inspection.check_spec(chart.spec)
    plain = make_chart(ChartRequest("bar", "n", "sum(n)", color="n", title="t"), hostile_rows()).spec
    ours = set(strings_outside_values(plain))
    theirs = [text for text in strings_outside_values(chart.spec) if text not in ours]
    encoding = chart.spec["encoding"]
    places = [
        *chart.spec["title"]["text"],
        chart.spec["description"],
        encoding["x"]["title"],
        *encoding["x"].get("sort", []),
    ]
    places += [*encoding["color"].get("sort", []), *(tip["title"] for tip in encoding["tooltip"])]
    kinds = {"ordinal", "nominal", "quantitative", "x_end"}
    assert [text for text in theirs if text not in places and text not in kinds and text not in palette.SERIES] == []
    assert all(len(text) <= 900 for text in theirs)
    assert not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 or c in "\u202e\u200b\ufffe" for c in "".join(theirs))


def test_fields_are_named_by_us() -> None:
    chart = make_chart(ChartRequest("bar", "__proto__", "sum(n)"), hostile_rows())
    assert {tuple(row) for row in chart.spec["data"]["values"]} == {("x", "y")}


def test_categories_that_look_the_same_are_told_apart() -> None:
    rows = pa.table({"g": ["x" * 90 + "1", "x" * 90 + "2", None, "(null)", "", " "], "n": [1, 2, 3, 4, 5, 6]})
    sort = make_chart(ChartRequest("bar", "g", "sum(n)"), rows).spec["encoding"]["x"]["sort"]
    assert len(set(sort)) == 6
    assert {"(null)", "(null) (2)", "(empty)", "(empty) (2)"} <= set(sort)


PLAIN = make_chart(ChartRequest("bar", "a", "n"), pa.table({"a": ["x"], "n": [1]})).spec
SMUGGLED: dict[str, dict[str, Any]] = {
    "data.url": {"data": {"url": "http://127.0.0.1:9/x.json"}},
    "file": {"data": {"url": "file:///etc/passwd"}},
    "a named source": {"data": {"name": "x"}},
    "sequence": {"data": {"sequence": {"start": 0, "stop": 1e9}}},
    "image": {"mark": {"type": "image"}},
    "image, short": {"mark": "image"},
    "text mark": {"mark": "text"},
    "image with a url": {"mark": {"type": "bar", "url": "file:///etc/passwd"}},
    "href": {"encoding": {"href": {"value": "javascript:alert(1)"}}},
    "url channel": {"encoding": {"url": {"field": "x"}}},
    "transform": {"transform": [{"calculate": "pad('x', 2e9)", "as": "y"}]},
    "lookup": {"transform": [{"lookup": "x", "from": {"data": {"url": "http://e/"}}}]},
    "expression": {"width": {"expr": "1e9"}},
    "signal": {"title": {"text": {"signal": "event.view"}}},
    "label expression": {"encoding": {"x": {"field": "x", "axis": {"labelExpr": "fetch('http://e/')"}}}},
    "params": {"params": [{"name": "p", "expr": "1"}]},
    "usermeta": {"usermeta": {"embedOptions": {"sourceHeader": "<script>"}}},
    "a layer of images": {"layer": [{"mark": "image", "encoding": {"url": {"value": "file:///x"}}}]},
    "hidden in values": {"data": {"values": [{"x": {"url": "http://e/"}}]}},
    "hidden in features": {"data": {"values": [{"type": "Feature", "geometry": {"url": "x"}}]}},
    "values by name": {"data": {"values": "http://127.0.0.1:9/x.csv"}},
    "too many values": {"data": {"values": [{"x": 1}] * 20_001}},
    "a long text": {"title": {"text": ["x" * 1_000_000]}},
    "a deep one": {"layer": [{"layer": [{"resolve": {}}]}]},
    "facets": {"facet": {"field": "x"}},
    "an import of a schema": {"config": {"locale": {}}},
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_we_never_write_is_refused(name: str) -> None:
    inspection.check_spec(PLAIN)
    with pytest.raises(AgnesError) as caught:
        inspection.check_spec({**PLAIN, **SMUGGLED[name]})
    assert caught.value.kind == "chart_failed"


# The linear RGB of a colour as eyes without one kind of cone see it (Viénot, Brettel and Mollon 1999).
DEFICIENCIES = {
    "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


def linear(color: str) -> list[float]:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def lab(rgb: list[float]) -> list[float]:
    x = (0.4124 * rgb[0] + 0.3576 * rgb[1] + 0.1805 * rgb[2]) / 0.9505
    y = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
    z = (0.0193 * rgb[0] + 0.1192 * rgb[1] + 0.9505 * rgb[2]) / 1.089
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (max(x, 0), max(y, 0), max(z, 0))]
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


def contrast(one: str, other: str) -> float:
    low, high = sorted(
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x), strict=True)) for x in (one, other)
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", palette.BACKGROUNDS)
def test_colors_stand_out_from_the_background(theme: palette.Theme) -> None:
    background = palette.BACKGROUNDS[theme]
    assert [color for color in palette.SERIES if contrast(color, background) < 3] == []
    assert contrast(palette.TEXT[theme], background) > 7


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_series_are_told_apart_without_one_kind_of_cone(deficiency: str) -> None:
    matrix = DEFICIENCIES[deficiency]
    seen = [
        lab([sum(m * c for m, c in zip(row, linear(color), strict=True)) for row in matrix]) for color in palette.SERIES
    ]
    distances = {pair: sum((a - b) ** 2 for a, b in zip(seen[pair[0]], seen[pair[1]], strict=True)) ** 0.5
                 for pair in itertools.combinations(range(len(seen)), 2)}  # fmt: skip
    assert {pair: round(distance, 1) for pair, distance in distances.items() if distance < 15} == {}
