"""Pictures are rendered and read again: how many marks, which axes, how large; and a process that is ended in time."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import zlib
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from charts.rows import HOSTILE, orders, utf8
from charts.test_spec import REQUESTS, awkward_rows

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.charts import rendering
from agnes_mcp.charts.chart import Chart, make_chart, missing_note
from agnes_mcp.charts.encodings import ChartRequest
from agnes_mcp.charts.rendering import MAX_PNG_BYTES, MAX_PX, Picture, render
from agnes_mcp.charts.thinning import MAX_POINTS
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal

SVG = "{http://www.w3.org/2000/svg}"


def call() -> Call:
    return Call("chart", Principal("ana"), 60)


def svg_of(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg(call()).content)  # noqa: S314 - our own renderer's


def texts_of(svg: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]


def roles_of(svg: ElementTree.Element) -> Counter[str]:
    return Counter(part.get("aria-roledescription", "") for part in svg.iter())


def pixels_of(picture: Picture) -> set[int]:
    """The different bytes of the picture's rows as they are stored: a blank one has hardly any."""
    content, position, packed = picture.content, 8, b""
    while position < len(content):
        length = int.from_bytes(content[position : position + 4])
        if content[position + 4 : position + 8] == b"IDAT":
            packed += content[position + 8 : position + 8 + length]
        position += 12 + length
    return set(zlib.decompress(packed))


AWKWARD = {
    "bar": ChartRequest("bar", "label", "avg(exact)", color="weekday(ancient)"),
    "line": ChartRequest("line", "year(distant)", "sum(below)", color="label"),
    "area": ChartRequest("area", "quarter(ancient)", "count()", color="label"),
    "point": ChartRequest("point", "below", "exact", color="label", size="amount"),
    "histogram": ChartRequest("histogram", "below", color="label"),
    "heatmap": ChartRequest("heatmap", "label", "monthofyear(day)", color="max(exact)"),
    "box": ChartRequest("box", "label", "below"),
    "map": ChartRequest("map", "lon", "lat", color="label"),
}


@pytest.mark.parametrize("mark", AWKWARD)
def test_awkward_labels_and_moments_make_a_png_too(mark: str) -> None:
    looked_at(make_chart(AWKWARD[mark], awkward_rows()).png(call()))


@pytest.mark.parametrize("name", ["bar", "box", "heatmap", "map"])
def test_a_png_fits_a_host_and_is_not_blank(name: str) -> None:
    looked_at(make_chart(REQUESTS[name], orders()).png(call()))


def looked_at(picture: Picture) -> None:
    assert picture.content.startswith(b"\x89PNG")
    assert len(picture.content) <= MAX_PNG_BYTES
    assert 300 < picture.width_px <= MAX_PX
    assert 200 < picture.height_px <= MAX_PX
    assert len(pixels_of(picture)) > 100


def test_a_bar_per_category_under_axes_that_say_so() -> None:
    svg = svg_of(make_chart(REQUESTS["bar"], orders()))
    texts = texts_of(svg)
    assert roles_of(svg)["bar"] == 6
    assert {"country", "sum of amount", "CZ", "Příliš žluťoučký", "日本", "🍕 pizza", "(null)"} <= set(texts)


def test_a_line_per_series_and_a_rectangle_per_cell() -> None:
    assert roles_of(svg_of(make_chart(REQUESTS["line"], orders())))["line mark container"] == 6
    assert roles_of(svg_of(make_chart(REQUESTS["heatmap"], orders())))["rect mark"] == 24 * 7


def test_moments_are_drawn_in_utc_wherever_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    rows = pa.table({"d": pa.array([20_454, 20_455], pa.date32()), "n": [1, 2]})
    texts = texts_of(svg_of(make_chart(ChartRequest("line", "d", "sum(n)"), rows)))
    assert "2026" in texts  # the first of January is the year's first tick
    assert not any("31" in text or "2025" in text for text in texts)


def test_shores_far_outside_the_picture_are_not_drawn() -> None:
    """Those of the whole world, of which a renderer clips away nearly all, cost it seconds; a kilobyte is the frame."""
    rows = pa.table({"lon": [14.4, 14.5], "lat": [50.0, 50.1]})
    svg = make_chart(ChartRequest("map", "lon", "lat"), rows).svg(call()).content
    assert len(svg) < 10_000
    assert len(re.findall(rb'aria-roledescription="circle"', svg)) == 2


def test_the_picture_has_an_alternative_in_words() -> None:
    chart = make_chart(REQUESTS["bar"], orders())
    svg = svg_of(chart)
    assert chart.alt == "Bar chart: sum of amount by country, 6 marks."
    assert chart.alt in [part.get("aria-label") for part in svg.iter()]


def test_nothing_hostile_becomes_markup() -> None:
    """Names, values and a title with HTML, expressions and addresses are text in the SVG and in the page."""
    texts = utf8(HOSTILE)
    rows = pa.table({"<b onclick=x>": texts, "n": list(range(1, len(texts) + 1))})
    chart = make_chart(ChartRequest("bar", "sum(n)", "<b onclick=x>", title="</title><script>x</script>"), rows)
    svg = svg_of(chart)
    assert {part.tag.removeprefix(SVG) for part in svg.iter()} <= {
        "svg", "g", "path", "rect", "text", "line", "defs", "clipPath", "style",
    }  # fmt: skip
    assert [name for part in svg.iter() for name in part.attrib if name.startswith("on") or "href" in name] == []
    assert roles_of(svg)["bar"] == len(set(texts))
    assert "<script>alert(1)</script>" in texts_of(svg)
    page = chart.html(call())
    assert re.findall(r"<(script|img|a|iframe|b|link|object)\b", page) == []
    assert "default-src &#x27;none&#x27;" in page
    assert page.count("</title>") == 1


def test_too_many_points_still_fit() -> None:
    chart = make_chart(ChartRequest("point", "amount", "lat", color="country", size="grade"), orders(50_000))
    assert chart.marks <= MAX_POINTS
    assert len(chart.png(call()).content) <= MAX_PNG_BYTES


def test_a_picture_that_is_too_large_is_drawn_smaller() -> None:
    chart = make_chart(REQUESTS["bar"], orders())
    full = chart.png(call())
    small = render(chart.spec, call(), max_bytes=len(full.content) // 2)
    assert small.width_px < full.width_px
    with pytest.raises(AgnesError, match="too large at every size"):
        render(chart.spec, call(), max_bytes=100)


def test_characters_without_a_font_are_named() -> None:
    rows = pa.table({"g": ["ascii", "\U0001fbf0 \u0e01"], "n": [1, 2]})
    picture = make_chart(ChartRequest("bar", "g", "n"), rows).png(call())
    told = missing_note(Picture(picture.content, "png", "ก"))
    assert set(picture.missing) <= {"\U0001fbf0", "\u0e01"}
    assert "no font for 1 characters (ก)" in told
    assert missing_note(Picture(b"", "png")) == ""


def test_a_specification_that_is_not_ours_is_refused_in_the_process_too() -> None:
    with pytest.raises(AgnesError, match="'url'"):
        render({"data": {"url": "http://127.0.0.1:9/"}, "mark": "bar"}, call())


#: The process without its last look, to see what stands behind it.
UNCHECKED = ("-I", "-B", "-c", "import agnes_mcp.charts.child as c; c.check_spec = lambda spec: None; c.main()")


def test_nothing_is_fetched_even_without_the_last_look() -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.png"
        image = {"data": {"values": [{"x": 1}]}, "mark": {"type": "image", "url": url, "width": 9, "height": 9}}
        loading = {"data": {"url": url}, "mark": "bar", "encoding": {"x": {"field": "x", "type": "nominal"}}}
        for spec in (image, loading):
            try:
                render(spec, call(), command=UNCHECKED)
            except AgnesError as error:
                assert error.kind == "chart_failed"  # noqa: PT017 - either way is right, if nothing was fetched
        try:
            connection, _ = listener.accept()
            heard.append(connection.recv(1024))
        except TimeoutError:
            pass
    assert heard == []


def children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children() if "agnes_mcp.charts" in " ".join(child.cmdline())]


def test_a_render_that_takes_too_long_is_ended() -> None:
    slow: dict[str, Any] = {"data": {"sequence": {"start": 0, "stop": 1e9}}, "mark": "bar"}
    with pytest.raises(AgnesError) as caught:
        render(slow, call(), command=UNCHECKED, timeout_s=1.5)
    assert caught.value.kind in ("timeout", "chart_failed")  # the clock, or the bound on memory
    assert children() == []


def test_a_call_that_is_cancelled_ends_the_render() -> None:
    asked = call()
    started = threading.Event()

    def stop() -> None:
        started.wait(60)
        while not children():
            time.sleep(0.01)
        asked.stop(cancelled())

    stopper = threading.Thread(target=stop)
    stopper.start()
    started.set()
    try:
        with pytest.raises(AgnesError) as caught:
            render(make_chart(REQUESTS["map"], orders()).spec, asked)
    finally:
        stopper.join()
    assert caught.value.kind == "cancelled"
    assert children() == []


def test_a_process_that_dies_is_an_error() -> None:
    died = ("-I", "-c", "import os; os.abort()")
    with pytest.raises(AgnesError) as caught:
        render(make_chart(REQUESTS["bar"], orders()).spec, call(), command=died)
    assert caught.value.kind == "chart_failed"


def test_the_process_gets_nothing_of_the_servers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNES_SECRET_FOR_TEST", "1")
    assert set(rendering._environment()) - set(os.environ) <= {"LC_ALL", "TZ"}
    assert "AGNES_SECRET_FOR_TEST" not in rendering._environment()
    assert json.loads(json.dumps(rendering._environment()))["TZ"] == "UTC"
