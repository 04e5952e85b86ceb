"""The way of one chart: rows → what a picture holds → a specification and its words → PNG, SVG or a page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING

from agnes_mcp.calls.call import Call
from agnes_mcp.charts.encodings import ChartRequest, channels
from agnes_mcp.charts.page import html_page
from agnes_mcp.charts.palette import Theme
from agnes_mcp.charts.rendering import Picture, render
from agnes_mcp.charts.shaped import Shaped
from agnes_mcp.charts.shaping import shape
from agnes_mcp.charts.spec import Spec, build_spec
from agnes_mcp.charts.wording import alt_text, default_title, summary
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Chart:
    """A chart that is ready to be rendered. `words` say what it shows; `alt` stands in for it."""

    title: str
    spec: Spec
    alt: str
    words: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    marks: int = 0

    @property
    def texts(self) -> str:
        """Every character that the picture writes."""
        values = self.spec["data"]["values"] if "data" in self.spec else self.spec["layer"][-1]["data"]["values"]
        seen = {*self.title, *"".join(self.fields.values())}
        for row in values:
            seen.update(*(value for value in row.values() if isinstance(value, str)))
        return "".join(sorted(seen))

    def png(self, call: Call) -> Picture:
        """Raises AgnesError: `chart_failed`, `timeout`, `cancelled`."""
        return render(self.spec, call, texts=self.texts)

    def svg(self, call: Call) -> Picture:
        """The document says itself what it shows. Raises as `png`."""
        picture = render(self.spec, call, form="svg", texts=self.texts)
        named = f'<svg role="img" aria-label="{escape(self.alt)}" '.encode()
        return replace(picture, content=picture.content.replace(b"<svg ", named, 1))

    def html(self, call: Call) -> str:
        """A page of its own. Raises as `png`."""
        values = self.spec["data"]["values"] if "data" in self.spec else self.spec["layer"][-1]["data"]["values"]
        return html_page(self.svg(call).content.decode(), self.title, self.words, self.fields, values)


def make_chart(request: ChartRequest, rows: pa.Table, theme: Theme = "light") -> Chart:
    """Raises AgnesError: `unknown_column`, `invalid_argument` (an encoding, or nothing to draw)."""
    shaped = shape(request.mark, channels(request, rows.schema), rows)
    words = summary(shaped)
    if not shaped.drawn.num_rows:
        raise AgnesError(
            "invalid_argument", words[0], "Draw rows that have values in these columns.", {"notes": words[1:]}
        )
    title = request.title.strip() or default_title(shaped)
    alt = alt_text(shaped, title)
    return Chart(title, build_spec(shaped, title, alt, theme), alt, words, _fields(shaped), shaped.drawn.num_rows)


def _fields(shaped: Shaped) -> dict[str, str]:
    titles = {name: channel.title for name, channel in shaped.channels.items()}
    return {"x": shaped.channels["y"].column_shown, **titles} if shaped.mark == "box" else titles


def missing_note(picture: Picture) -> str:
    """What to say of characters that were drawn as boxes; "" where there are none."""
    if not picture.missing:
        return ""
    return (
        f"The server has no font for {len(picture.missing)} characters ({picture.missing[:12]}): they are boxes in the "
        "picture, and right in these words. Its operator can install one, such as Noto Sans CJK or Noto Color Emoji."
    )
