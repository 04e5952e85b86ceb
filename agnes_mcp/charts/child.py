"""A process that renders one picture and ends: no network, no writing, bounded memory and time.

Started by `charts.rendering` as `python -I -B -m agnes_mcp.charts.child`. One frame with what to render comes on
standard input; one with facts and one with the picture leave on what was standard output.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from typing import Any

from agnes_mcp.calls.processes import confinement, frames
from agnes_mcp.charts import png
from agnes_mcp.charts.inspection import check_spec
from agnes_mcp.errors import AgnesError

#: What V8 and the rasteriser may take. Below half a gigabyte even good pictures fail.
MEMORY_BYTES = 1_200_000_000
#: Tried in turn until the picture is small enough.
SCALES = (2.0, 1.5, 1.0, 0.75, 0.5)
#: No font draws this; what looks the same has no glyph.
_UNASSIGNED = "\u0378"
#: So many characters are looked for in the fonts.
_PROBED = 64


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    confinement.confine_process()
    _, content = frames.receive(requests)
    asked = json.loads(content)
    _limit(asked["cpu_s"])
    try:
        facts, picture = _render(asked)
    except (AgnesError, ValueError) as caught:
        error = caught if isinstance(caught, AgnesError) else _gave_up()
        failed = {"kind": error.kind, "message": error.message, "hint": error.hint}
        frames.send_json(answers, frames.FAILED, failed)
        return
    frames.send_json(answers, frames.READY, facts)
    frames.send(answers, frames.DONE, picture)


def _gave_up() -> AgnesError:
    """The renderer's own words hold its sources and the specification: they stay here."""
    return AgnesError("chart_failed", "The renderer could not draw this.", "Draw other columns, or fewer marks.")


def _limit(cpu_s: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: cpu_s}
    if sys.platform == "linux":
        bounds[resource.RLIMIT_DATA] = MEMORY_BYTES
    for limit, value in bounds.items():
        resource.setrlimit(limit, (value, value))


def _render(asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The facts of the picture (its size, characters that no font has) and the picture."""
    import vl_convert as vl

    spec = asked["spec"]
    check_spec(spec)
    facts: dict[str, Any] = {"missing": _missing(asked["texts"])}
    if asked["form"] == "svg":
        return facts, vl.vegalite_to_svg(spec, allowed_base_urls=[]).encode()
    for scale in SCALES:
        picture = png.repack(vl.vegalite_to_png(spec, scale=scale, allowed_base_urls=[]))
        width, height = png.size_px(picture)
        if len(picture) <= asked["max_bytes"] and max(width, height) <= asked["max_px"]:
            return {**facts, "width": width, "height": height, "scale": scale}, picture
    raise AgnesError(
        "chart_failed", "The picture is too large at every size.", "Draw fewer marks: aggregate or filter."
    )


def _missing(texts: str) -> str:
    """Those characters of `texts` that would be drawn as empty boxes."""
    import vl_convert as vl

    unusual = sorted({c for c in texts if ord(c) > 0x24F and unicodedata.category(c)[0] in "LNPS"})[:_PROBED]
    if not unusual:
        return ""
    box = _glyph(vl, _UNASSIGNED)
    return "".join(c for c in unusual if _glyph(vl, c) == box)


def _glyph(vl: Any, character: str) -> bytes:
    from xml.sax.saxutils import escape

    text = f'<text y="18" font-size="16" font-family="sans-serif">{escape(character)}</text>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24">{text}</svg>'
    return bytes(vl.svg_to_png(svg, scale=1.0))


if __name__ == "__main__":
    try:
        main()
    except frames.ClosedError:  # the server has gone
        sys.exit(1)
