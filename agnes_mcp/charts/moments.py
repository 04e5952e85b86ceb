"""Time on an axis: cut into stretches, folded into cycles, and the unit that fits where none was given. All UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agnes_mcp.charts.encodings import CYCLES, STRETCHES

if TYPE_CHECKING:
    import pyarrow as pa

WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
HOURS = [f"{hour:02d}" for hour in range(24)]
CYCLE_LABELS = dict(zip(CYCLES, (HOURS, WEEKDAYS, MONTHS), strict=True))

#: A stretch as text; those shorter than a day need the time of day.
TEXT_FORMATS = {"year": "%Y", "quarter": "%Y-%m", "month": "%Y-%m", "week": "%Y-%m-%d", "day": "%Y-%m-%d"}
SHORTEST = "%Y-%m-%d %H:%M:%S"
#: About how long a stretch is.
LENGTHS_MS = dict(zip(
    STRETCHES,
    (1, 1e3, 60e3, 3600e3, 86400e3, 7 * 86400e3, 30 * 86400e3, 91 * 86400e3, 365 * 86400e3), strict=True,
))  # fmt: skip


def cut(column: pa.ChunkedArray, unit: str) -> Any:
    """Each moment as the start of its stretch; weeks start on Monday."""
    import pyarrow.compute as pc

    return pc.floor_temporal(column, unit=unit, week_starts_monday=True)


def fold(column: pa.ChunkedArray, cycle: str) -> Any:
    """Each moment as the label of its place in the cycle; null where there is no moment."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = {"hourofday": pc.hour, "weekday": pc.day_of_week}.get(cycle)
    numbers = place(column) if place else pc.subtract(pc.month(column), 1)
    return pa.chunked_array([pa.array(CYCLE_LABELS[cycle]).take(numbers.combine_chunks())])


def cut_to_text(column: pa.ChunkedArray, unit: str) -> list[str]:
    """Each moment's stretch as text: 2026, 2026-04, 2026-04-01."""
    return [moment.strftime(TEXT_FORMATS.get(unit, SHORTEST)) for moment in cut(column, unit).to_pylist()]


def natural_unit(column: pa.ChunkedArray) -> str:
    """The coarsest stretch that all moments are starts of."""
    import pyarrow.compute as pc

    distinct = column.unique()
    for unit in ("year", "quarter", "month", "day", "hour", "minute", "second"):
        if pc.all(pc.equal(cut(distinct, unit), distinct)).as_py():
            return unit
    return STRETCHES[0]


def fitting_unit(column: pa.ChunkedArray, most: int) -> str:
    """The finest stretch that gives at most `most` different ones; "year" where none does."""
    distinct = column.unique()
    return next((unit for unit in STRETCHES if len(cut(distinct, unit).unique()) <= most), STRETCHES[-1])


def unit_of_span(column: pa.ChunkedArray, most: int) -> str:
    """The finest stretch of which at most `most` lie between the first and the last moment; "year" where none does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bounds = pc.min_max(column.cast(pa.int64())).as_py()
    if bounds["min"] is None:
        return STRETCHES[0]
    span_ms = bounds["max"] - bounds["min"]
    return next((unit for unit, length_ms in LENGTHS_MS.items() if span_ms / length_ms <= most), STRETCHES[-1])


def coarser(one: str, other: str) -> str:
    return max(one, other, key=STRETCHES.index)


def ends(starts: pa.Array, unit: str) -> Any:
    """Where each stretch that begins at `starts` ends."""
    import pyarrow.compute as pc

    return pc.ceil_temporal(starts, unit=unit, week_starts_monday=True, ceil_is_strictly_greater=True)
