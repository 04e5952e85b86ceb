"""Colours and type of a picture: told apart by colour-blind eyes, and legible on light and on dark."""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark"]

#: Eight colours, searched for: each stands out from both backgrounds (contrast at least 3:1), and every two are far
#: apart for eyes with all cones and for eyes without one kind of them.
SERIES = ("#0072B2", "#B44B2D", "#1EA596", "#784BE1", "#96960F", "#D21EB4", "#0FA55A", "#69695A")
ACCENT = SERIES[0]
#: One colour scale from little to much, even in lightness.
MUCH = "viridis"
BACKGROUNDS: dict[Theme, str] = {"light": "#FFFFFF", "dark": "#16191D"}
TEXT: dict[Theme, str] = {"light": "#22262B", "dark": "#E8EAED"}
_LINES: dict[Theme, str] = {"light": "#D9DCE0", "dark": "#3A3F46"}
LAND: dict[Theme, str] = {"light": "#E9EBEE", "dark": "#2A2F36"}
#: First a font that the renderer carries; it takes others for what this one lacks.
FONT = "Liberation Sans, Noto Sans, Arial, sans-serif"


def config(theme: Theme) -> dict[str, Any]:
    """Vega-Lite's `config` of a theme; the background is opaque, so a picture is legible wherever it is pasted."""
    text, line = TEXT[theme], _LINES[theme]
    axis = {"labelColor": text, "titleColor": text, "gridColor": line, "domainColor": line, "tickColor": line}
    sizes = {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "labelLimit": 220}
    return {
        "font": FONT,
        "axis": axis | sizes | {"titleLimit": 420, "labelOverlap": True},
        "legend": {"labelColor": text, "titleColor": text} | sizes | {"titleLimit": 220},
        "title": {"color": text, "subtitleColor": text, "fontSize": 15, "fontWeight": "bold",
                  "anchor": "start", "offset": 12},
        "view": {"stroke": line},
        "range": {"category": list(SERIES), "ramp": {"scheme": MUCH}, "heatmap": {"scheme": MUCH}},
    }  # fmt: skip
