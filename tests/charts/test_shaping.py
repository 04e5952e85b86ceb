"""What is drawn is what the rows say: counted here by hand, and what was left out or folded is said."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import fmean, median

import pyarrow as pa
import pytest
from charts.rows import orders

from agnes_mcp.charts.chart import make_chart
from agnes_mcp.charts.encodings import ChartRequest, channels
from agnes_mcp.charts.shaped import Shaped
from agnes_mcp.charts.shaping import MAX_BARS, MAX_SERIES, shape
from agnes_mcp.charts.thinning import MAX_LINE_POINTS, MAX_POINTS
from agnes_mcp.errors import AgnesError


def shaped(request: ChartRequest, rows: pa.Table) -> Shaped:
    return shape(request.mark, channels(request, rows.schema), rows)


def drawn(request: ChartRequest, rows: pa.Table, measure: str = "y") -> dict[object, float]:
    return {row["x"]: row[measure] for row in shaped(request, rows).drawn.to_pylist()}


FOLDS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "avg": fmean,
    "min": min,
    "max": max,
    "median": median,
    "distinct": lambda v: len(set(v)),
}


@pytest.mark.parametrize("aggregate", FOLDS)
def test_aggregates_are_those_of_the_rows(aggregate: str) -> None:
    rows = orders()
    amounts = defaultdict(list)
    for row in rows.to_pylist():
        amounts[row["country"] or "(null)"].append(row["amount"])
    expected = {country: FOLDS[aggregate](values) for country, values in amounts.items()}
    assert drawn(ChartRequest("bar", "country", f"{aggregate}(amount)"), rows) == pytest.approx(expected)


def test_a_point_of_aggregates_alone_stands_for_every_row() -> None:
    drawn = shaped(ChartRequest("point", "median(amount)", "max(amount)"), orders()).drawn
    amounts = sorted(orders().column("amount").to_pylist())
    (point,) = drawn.to_pylist()
    assert (point["x"], point["y"]) == ((amounts[2_499] + amounts[2_500]) / 2, amounts[-1])


def test_months_are_counted_in_utc() -> None:
    rows = orders()
    expected = Counter(row["ts"].replace(day=1, hour=0, minute=0) for row in rows.to_pylist())
    assert drawn(ChartRequest("line", "month(ts)", "count()"), rows) == expected


def test_a_moment_with_a_zone_is_drawn_in_utc() -> None:
    late = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    rows = pa.table({"ts": pa.array([late], pa.timestamp("us", "America/New_York")), "n": [1]})
    assert drawn(ChartRequest("bar", "day(ts)", "sum(n)"), rows) == {datetime(2026, 1, 31): 1}


def test_weekdays_come_in_their_order() -> None:
    rows = orders()
    result = shaped(ChartRequest("bar", "weekday(ts)", "count()"), rows)
    assert result.orders["x"] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    expected = Counter(row["ts"].strftime("%a") for row in rows.to_pylist())
    assert {row["x"]: row["y"] for row in result.drawn.to_pylist()} == expected


def test_the_largest_categories_are_drawn_and_the_rest_is_said() -> None:
    result = shaped(ChartRequest("bar", "product", "count()"), orders())
    counts = Counter(orders().column("product").to_pylist())
    heights = [row["y"] for row in result.drawn.to_pylist()]
    assert sorted(heights, reverse=True) == [count for _, count in counts.most_common(MAX_BARS)]
    assert result.notes == [f"product has 200 values; the {200 - MAX_BARS} smallest are left out."]


def test_small_series_are_drawn_together_so_that_stacks_add_up() -> None:
    result = shaped(ChartRequest("bar", "month(ts)", "sum(amount)", color="product"), orders())
    assert len(result.orders["color"]) == MAX_SERIES
    assert result.orders["color"][-1] == "Other (193)"
    total = math.fsum(orders().column("amount").to_pylist())
    assert math.fsum(row["y"] for row in result.drawn.to_pylist()) == pytest.approx(total)


def test_whole_numbers_are_categories_in_their_order() -> None:
    result = shaped(ChartRequest("bar", "grade", "avg(amount)"), orders())
    assert result.orders["x"] == [str(number) for number in range(10)]


def test_years_can_be_series() -> None:
    result = shaped(ChartRequest("line", "monthofyear(ts)", "count()", color="quarter(ts)"), orders())
    assert result.orders["color"] == ["2026-01", "2026-04", "2026-07", "2026-10"]


def test_a_histogram_counts_every_number_once() -> None:
    result = shaped(ChartRequest("histogram", "amount"), orders())
    width = result.widths["x"]
    expected = Counter(math.floor(amount / width) * width for amount in orders().column("amount").to_pylist())
    assert {row["x"]: row["y"] for row in result.drawn.to_pylist()} == pytest.approx(expected)
    assert 5 <= len(expected) <= 30


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [1e300, -1e300], [1e-320, 2e-320], [1e16, 1e16 + 2], [-3, 7e9]])
def test_a_histogram_of_any_numbers_holds_them_all(values: list[float]) -> None:
    result = shaped(ChartRequest("histogram", "v"), pa.table({"v": values}))
    assert sum(row["y"] for row in result.drawn.to_pylist()) == len(values)


def test_a_box_has_the_quartiles() -> None:
    rows = pa.table({"g": ["a"] * 11, "v": [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100]})
    box, outlier = shaped(ChartRequest("box", "g", "v"), rows).drawn.to_pylist()
    assert (box["low"], box["q1"], box["y"], box["q3"], box["high"], box["count"]) == (1, 3.5, 6, 8.5, 10, 11)
    assert outlier["outlier"] == 100


def test_a_dense_cloud_is_counted_per_cell() -> None:
    result = shaped(ChartRequest("point", "amount", "lat"), orders())
    assert (result.mark, result.measure) == ("heatmap", "color")
    assert sum(row["color"] for row in result.drawn.to_pylist()) == 5_000
    assert "counted per cell" in result.notes[0]


def test_a_dense_cloud_in_colors_is_sampled_and_said_so() -> None:
    result = shaped(ChartRequest("point", "amount", "lat", color="country"), orders())
    assert result.drawn.num_rows <= MAX_POINTS
    assert result.notes == [f"Of 5,000 points {result.drawn.num_rows:,} are drawn: one in 3 in the order of the rows."]


def test_a_long_line_keeps_its_peaks() -> None:
    values = [0.0] * 50_000
    values[31_415], values[9_999] = 7.0, -7.0
    start = datetime(2026, 1, 1)
    rows = pa.table({"t": [start + timedelta(seconds=i) for i in range(len(values))], "v": values})
    result = shaped(ChartRequest("line", "t", "v"), rows)
    kept = [row["y"] for row in result.drawn.to_pylist()]
    assert (max(kept), min(kept)) == (7, -7)
    assert len(kept) <= MAX_LINE_POINTS
    assert "50,000 points" in result.notes[0]


def test_bars_over_raw_moments_get_a_width() -> None:
    result = shaped(ChartRequest("bar", "ts", "count()"), orders())
    assert result.units == {"x": "week"}
    assert "cut by week" in result.notes[0]
    first = result.values()[0]
    assert first["x_end"] - first["x"] == 7 * 24 * 3600 * 1000


def test_what_has_no_place_is_left_out_and_counted() -> None:
    rows = pa.table({"x": [1.0, 2.0, None, math.nan, math.inf], "y": [1, 2, 3, 4, 5]})
    result = shaped(ChartRequest("point", "x", "y"), rows)
    assert result.drawn.num_rows == 2
    assert result.notes == ["3 rows are left out: x is missing or not finite."]


def test_an_aggregate_passes_over_what_is_missing() -> None:
    rows = pa.table({"g": ["a", "a", "b"], "v": [1.0, math.nan, None]})
    assert drawn(ChartRequest("bar", "g", "sum(v)"), rows) == {"a": 1}
    assert drawn(ChartRequest("bar", "g", "count()"), rows) == {"a": 2, "b": 1}
    assert drawn(ChartRequest("bar", "g", "count(v)"), rows) == {"a": 2, "b": 0}


def test_points_off_the_globe_are_left_out() -> None:
    rows = pa.table({"lon": [15.0, 200.0, 15.0], "lat": [50.0, 50.0, -91.0]})
    result = shaped(ChartRequest("map", "lon", "lat"), rows)
    assert result.drawn.num_rows == 1
    assert len(result.notes) == 2


def test_rows_that_share_a_place_are_folded_and_said_so() -> None:
    rows = pa.table({"g": ["a", "a", "b"], "v": [1, 2, 5]})
    result = shaped(ChartRequest("bar", "g", "v"), rows)
    assert {row["x"]: row["y"] for row in result.drawn.to_pylist()} == {"a": 3, "b": 5}
    assert result.notes == ["Several rows share a place in the picture: the sum of their values is drawn."]


@pytest.mark.parametrize("mark", ["bar", "line", "area", "point", "histogram", "heatmap", "box", "map"])
def test_no_rows_are_no_picture(mark: str) -> None:
    empty = pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.float64())})
    with pytest.raises(AgnesError, match="Nothing to draw"):
        make_chart(ChartRequest(mark, "a", "b" if mark != "histogram" else ""), empty)  # type: ignore[arg-type]


TYPES = {
    "decimal": pa.array([1, 2], pa.decimal128(38, 0)),
    "huge": pa.array([2**62, -(2**62)], pa.int64()),
    "unsigned": pa.array([0, 2**64 - 1], pa.uint64()),
    "half": pa.array([1.5, 2.5], pa.float16()),
    "date": pa.array([0, 20_000], pa.date32()),
    "nanoseconds": pa.array([0, 10**18], pa.timestamp("ns")),
    "duration": pa.array([1, 2], pa.duration("us")),
    "time": pa.array([1, 2], pa.time64("us")),
    "flag": pa.array([True, None]),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "large": pa.array(["a", "b"], pa.large_string()),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_column_can_be_counted(name: str) -> None:
    result = shaped(ChartRequest("bar", name, "count()"), pa.table({name: TYPES[name]}))
    assert sum(row["y"] for row in result.drawn.to_pylist()) == 2
