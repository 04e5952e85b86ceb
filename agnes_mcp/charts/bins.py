"""Numbers cut into stretches of one round width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def bin_width(low: float, high: float, most: int) -> float:
    """The smallest round width (1, 2, 2.5, 5 times a power of ten) that cuts low..high into at most `most` bins.

    1.0 where all numbers are one; never below what floats of this size can tell apart.
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return 1.0 if math.isfinite(span) else max(abs(low), abs(high)) / most * 2
    least = max(span / most, abs(high) * 1e-12, abs(low) * 1e-12, 5e-300)
    power = 10.0 ** math.floor(math.log10(least))
    for factor in ROUND:
        width = factor * power
        if width >= least and math.floor(high / width) - math.floor(low / width) + 1 <= most:
            return width
    return 20.0 * power


def cut(column: pa.ChunkedArray, width: float) -> Any:
    """Each number as the start of its bin."""
    import pyarrow.compute as pc

    return pc.multiply(pc.floor(pc.divide(column, width)), width)
