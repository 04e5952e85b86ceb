"""Where points on a globe are drawn: the shores and borders around them, and a projection that shows all of them.

Shores and borders are Natural Earth's at 1:110 million (public domain), rounded to a tenth of a degree.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

#: Mercator stretches beyond measure near the poles.
MERCATOR_LATITUDE = 72.0
#: The least that a map shows, in degrees; closer the shores are too coarse.
LEAST_SPAN = 3.0
MARGIN = 1.15
#: Shores are cut so far outside the picture, in pixels: farther than the line along a cut is wide.
CUT_OUTSIDE_PX = 8


@cache
def land() -> list[dict[str, Any]]:
    """The shores as GeoJSON."""
    return [_feature("MultiPolygon", _shapes()["land"])]


@cache
def borders() -> list[dict[str, Any]]:
    """Where countries meet, as GeoJSON."""
    return [_feature("MultiLineString", _shapes()["borders"])]


@cache
def _shapes() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("land.json").read_text(encoding="ascii")
    return json.loads(text)  # type: ignore[no-any-return]


def _feature(kind: str, coordinates: list[Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": {}}


def projection(longitudes: pa.ChunkedArray, latitudes: pa.ChunkedArray, width: int, height: int) -> dict[str, Any]:
    """Vega's `projection` that shows all points in a picture of `width` by `height` pixels, and hardly more: a renderer
    that is left to clip the shores of the whole world takes seconds where a few are to be seen."""
    import pyarrow.compute as pc

    extent = [[-CUT_OUTSIDE_PX, -CUT_OUTSIDE_PX], [width + CUT_OUTSIDE_PX, height + CUT_OUTSIDE_PX]]
    middle = {"translate": [width / 2, height / 2], "clipExtent": extent}
    west, east = pc.min_max(longitudes).as_py().values()
    south, north = pc.min_max(latitudes).as_py().values()
    if west is None or max(abs(south), abs(north)) > MERCATOR_LATITUDE or east - west > 300:
        return {"type": "naturalEarth1", "scale": width / 5.6, **middle}
    low, high = _northing(south), _northing(north)
    across = math.radians(max(east - west, LEAST_SPAN))
    down = max(high - low, math.radians(LEAST_SPAN))
    center = [(west + east) / 2, math.degrees(2 * math.atan(math.exp((low + high) / 2)) - math.pi / 2)]
    return {"type": "mercator", "scale": min(width / across, height / down) / MARGIN, "center": center, **middle}


def _northing(latitude: float) -> float:
    """Mercator's y of a latitude in degrees."""
    return math.log(math.tan(math.pi / 4 + math.radians(latitude) / 2))
